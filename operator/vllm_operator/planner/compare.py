"""Does a live object hold everything that is wanted of it?

The API server adds defaults, other managers add fields of their own, and quantities come back in canonical form:
none of that is a difference. Comparing quantities as text makes an operator write for ever. What the API's schema calls
atomic has one owner: there, whatever somebody else adds is a difference. A contract test holds the tables below
against the schema of a real API server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.quantity import MILLI, NANO, quantity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

Place = tuple[str, str]
"""Where a value is: the name of the field around it, and that of its own field. Items are where their list is."""

_TOP: Final = ("", "")

_LIST_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "containers.ports": ("containerPort", "protocol"),
    "initContainers.ports": ("containerPort", "protocol"),
    "ephemeralContainers.ports": ("containerPort", "protocol"),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "volumes": ("name",),
    "claims": ("name",),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
    "evictionResponders": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "spec.imagePullSecrets": ("name",),
    "spec.ports": ("port", "protocol"),
    "secrets": ("name",),
    "ownerReferences": ("uid",),
}
"""What tells the items of a list apart that several managers share; all other lists but the sets are atomic."""

_SETS: Final = frozenset({"finalizers", "bindMountOptions", "exitCodes.values"})

_ATOMIC_MAPS: Final = frozenset(
    {
        "selector",
        "labelSelector",
        "namespaceSelector",
        "podSelector",
        "nodeSelector",
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
        "secretRef",
        "nodePublishSecretRef",
        "claimRef",
        "dataSource",
        "ownerReferences",
        "imagePullSecrets",
        "secrets",
        "evictionResponders",
        "preference",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    }
)
"""Maps, and items of lists, that have one owner for all that is in them."""

_KEY_DEFAULTS: Final = {"protocol": "TCP"}

_ATOMIC_DEFAULTS: Final = {
    "protocol": "TCP",
    "apiVersion": "v1",
    "divisor": "0",
    "expirationSeconds": 3600,
    "maxExpirationSeconds": 86400,
}
"""What the API server adds inside of atomic parts."""

_MEANT_EMPTY: Final = frozenset({"emptyDir"})
"""Says something by being there, outside of atomic parts."""

_QUANTITIES: Final[dict[str, Decimal]] = {
    "resources.limits": MILLI,
    "resources.requests": MILLI,
    "spec.overhead": MILLI,
    "emptyDir.sizeLimit": NANO,
    "resourceFieldRef.divisor": NANO,
}
"""Where quantities are, and the step to which the API server rounds them up there."""


def holds(live: Any, desired: Any, place: Place = _TOP) -> bool:
    """Whether a live object, or its part at a place, has every field of `desired`, with the same value."""
    return _holds(live, desired, place, atomic=False)


def list_keys(place: tuple[str, str]) -> tuple[str, ...]:
    """What tells the items of a list apart that several managers share; nothing for an atomic list."""
    return _LIST_KEYS.get(".".join(place)) or _LIST_KEYS.get(place[1], ())


def is_set(place: tuple[str, str]) -> bool:
    """Whether a list of words is shared by several managers."""
    return place[1] in _SETS or ".".join(place) in _SETS


def is_atomic_map(place: tuple[str, str]) -> bool:
    """Whether a map has one owner for all of it."""
    return place[1] in _ATOMIC_MAPS


def _holds(live: Any, desired: Any, place: Place, *, atomic: bool) -> bool:
    if live == desired:  # most parts are, and this comparison runs in C
        return True
    if isinstance(desired, dict):
        return isinstance(live, dict) and _map_holds(live, desired, place, atomic=atomic or is_atomic_map(place))
    if isinstance(desired, list):
        return isinstance(live, list) and _list_holds(live, desired, place, atomic=atomic)
    step = _QUANTITIES.get(".".join(place))
    return step is not None and _same_quantity(live, desired, step)


def _same_quantity(live: str | int, desired: str | int, step: Decimal) -> bool:
    try:
        return quantity(live, step) == quantity(desired, step)
    except ArithmeticError:
        return False  # what the schema lets pass and is none is for the API server to refuse, in its own words


def _map_holds(live: Mapping[str, Any], desired: Mapping[str, Any], place: Place, *, atomic: bool) -> bool:
    if atomic and any(not _is_default(key, live[key]) for key in live.keys() - desired.keys()):
        return False
    return all(_member_holds(live, key, value, place, atomic=atomic) for key, value in desired.items())


def _is_default(key: str, value: Any) -> bool:
    return key in _ATOMIC_DEFAULTS and _ATOMIC_DEFAULTS[key] == value


def _member_holds(live: Mapping[str, Any], key: str, desired: Any, place: Place, *, atomic: bool) -> bool:
    if key not in live:
        return not desired and not (isinstance(desired, dict) and (atomic or key in _MEANT_EMPTY))
    inside = place if ".".join(place) in _QUANTITIES else (place[1], key)
    return _holds(live[key], desired, inside, atomic=atomic)


def _list_holds(live: Sequence[Any], desired: Sequence[Any], place: Place, *, atomic: bool) -> bool:
    if is_set(place):
        return all(item in live for item in desired)
    keys = list_keys(place)
    if not keys:
        pairs = zip(live, desired, strict=False)
        return len(live) == len(desired) and all(_holds(one, other, place, atomic=True) for one, other in pairs)
    found = {_identity(item, keys): item for item in live}
    identities = ((_identity(item, keys), item) for item in desired)
    return all(known in found and _holds(found[known], item, place, atomic=atomic) for known, item in identities)


def _identity(item: Mapping[str, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(item.get(key, _KEY_DEFAULTS.get(key)) for key in keys)
