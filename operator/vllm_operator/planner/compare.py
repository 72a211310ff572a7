"""Does a live object hold everything that is wanted of it?

The API server adds defaults, other managers add fields of their own, and quantities come back in canonical form:
none of that is a difference. Comparing quantities as text makes an operator write for ever. What the API's schema calls
atomic has one owner: there, whatever somebody else adds is a difference. What is left out when it is empty may be
missing; what is kept then (`automountServiceAccountToken: false`, `fsGroup: 0`) may not. The tables of all this are
generated from the API server's schema; below is what that does not say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import kubernetes_schema as schema
from vllm_operator.api.quantity import MILLI, NANO, quantity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

Place = tuple[str, str]
"""Where a value is: the name of the field around it, and that of its own field. Items are where their list is."""

_TOP: Final = ("", "")

_ATOMIC_DEFAULTS: Final = {
    "protocol": "TCP",
    "apiVersion": "v1",
    "divisor": "0",
    "expirationSeconds": 3600,
    "maxExpirationSeconds": 86400,
}
"""What the API server adds inside of atomic parts: defaults that its code sets, and most of which no schema says
(`SetDefaults_*` in kubernetes/pkg/apis/core/v1/defaults.go)."""

_MEANT_EMPTY: Final = frozenset({"emptyDir"})
"""Says something by being there, outside of atomic parts."""


def holds(live: Any, desired: Any, place: Place = _TOP) -> bool:
    """Whether a live object, or its part at a place, has every field of `desired`, with the same value."""
    return _holds(live, desired, place, atomic=False)


def list_keys(place: Place) -> tuple[str, ...]:
    """What tells the items of a list apart that several managers share; nothing for an atomic list."""
    return schema.LIST_KEYS.get(".".join(place)) or schema.LIST_KEYS.get(place[1], ())


def is_set(place: Place) -> bool:
    """Whether a list of words is shared by several managers."""
    return _is(place, schema.SETS)


def is_atomic_map(place: Place) -> bool:
    """Whether a map has one owner for all of it."""
    return _is(place, schema.ATOMIC_MAPS)


def identity(item: Mapping[str, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    """What tells an item of a shared list apart."""
    return tuple(item.get(key, schema.KEY_DEFAULTS.get(key)) for key in keys)


def same(one: Any, other: Any, place: Place = _TOP) -> bool:
    """Whether two desired parts ask for the same: neither has a field that the other lacks or wants otherwise."""
    if one == other:
        return True
    one, other = without_defaults(one), without_defaults(other)
    return holds(one, other, place) and holds(other, one, place)


def without_defaults(part: Any) -> Any:
    """A part without the defaults that the API server adds inside of atomic parts."""
    if isinstance(part, dict):
        return {key: without_defaults(value) for key, value in part.items() if not _is_default(key, value)}
    return [without_defaults(item) for item in part] if isinstance(part, list) else part


def _is(place: Place, table: frozenset[str]) -> bool:
    return place[1] in table or ".".join(place) in table


def _is_resource_list(place: Place) -> bool:
    return ".".join(place) in schema.RESOURCE_LISTS


def _step(place: Place) -> Decimal | None:
    """The step to which the API server rounds up a quantity that is there; None where there is none."""
    if _is_resource_list(place):
        return MILLI
    return NANO if ".".join(place) in schema.QUANTITIES else None


def _holds(live: Any, desired: Any, place: Place, *, atomic: bool) -> bool:
    if live == desired:  # most parts are, and this comparison runs in C
        return True
    if isinstance(desired, dict):
        return isinstance(live, dict) and _map_holds(live, desired, place, atomic=atomic or is_atomic_map(place))
    if isinstance(desired, list):
        return isinstance(live, list) and _list_holds(live, desired, place, atomic=atomic)
    step = _step(place)
    return step is not None and _same_quantity(live, desired, step)


def _same_quantity(live: str | int, desired: str | int, step: Decimal) -> bool:
    try:
        return quantity(live, step) == quantity(desired, step)
    except ArithmeticError:
        return False  # what the schema lets pass and is none is for the API server to refuse, in its own words


def _map_holds(live: Mapping[str, Any], desired: Mapping[str, Any], place: Place, *, atomic: bool) -> bool:
    if atomic and any(not _is_default(key, live[key]) for key in live.keys() - desired.keys()):
        return False
    return all(
        (key in live and live[key] == value) or _member_holds(live, key, value, place, atomic=atomic)
        for key, value in desired.items()
    )


def _is_default(key: str, value: Any) -> bool:
    return key in _ATOMIC_DEFAULTS and _ATOMIC_DEFAULTS[key] == value


def _member_holds(live: Mapping[str, Any], key: str, desired: Any, place: Place, *, atomic: bool) -> bool:
    if key not in live:
        return _may_be_missing(key, desired, place, atomic=atomic)
    inside = place if _is_resource_list(place) else (place[1], key)
    return _holds(live[key], desired, inside, atomic=atomic)


def _may_be_missing(key: str, desired: Any, place: Place, *, atomic: bool) -> bool:
    """Whether the API server leaves out what is desired: something empty that means as much as nothing there."""
    if desired or ".".join(place) in schema.OPEN_MAPS:
        return False
    if isinstance(desired, dict):
        return not (atomic or key in _MEANT_EMPTY)
    return isinstance(desired, list) or not _is((place[1], key), schema.KEPT_EMPTY)


def _list_holds(live: Sequence[Any], desired: Sequence[Any], place: Place, *, atomic: bool) -> bool:
    if is_set(place):
        return all(item in live for item in desired)
    keys = list_keys(place)
    if not keys:
        pairs = zip(live, desired, strict=False)
        return len(live) == len(desired) and all(_holds(one, other, place, atomic=True) for one, other in pairs)
    found = {identity(item, keys): item for item in live}
    identities = ((identity(item, keys), item) for item in desired)
    return all(known in found and _holds(found[known], item, place, atomic=atomic) for known, item in identities)
