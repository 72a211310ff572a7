"""Does a live object hold everything that is wanted of it?

The API server adds defaults, other managers add fields of their own, and quantities come back in canonical form:
none of that is a difference. Comparing quantities as text makes an operator write for ever.
"""

from __future__ import annotations

from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_QUANTITY_FIELDS: Final = frozenset({"limits", "requests", "sizeLimit"})

_LIST_KEYS: Final = ("mountPath", "uid", "name")
"""What tells the items of a list apart, as in the API's merge keys; the first that all wanted items have."""

_SUFFIXES: Final[dict[str, Decimal]] = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal("1e3"),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
    "T": Decimal("1e12"),
    "P": Decimal("1e15"),
    "E": Decimal("1e18"),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


_LARGEST: Final = Decimal(2**63 - 1)
_SMALLEST: Final = Decimal("1e-9")


def quantity(text: str | int) -> Decimal:
    """Value of a Kubernetes quantity, such as `500m`, `16Gi` or `1e3`, as the API server keeps it.

    It rounds up to the next billionth and keeps nothing above 2^63-1.

    Raises:
        decimal.InvalidOperation: it is none.
    """
    written = str(text)
    suffix = next((written[-length:] for length in (2, 1) if written[-length:] in _SUFFIXES), "")
    value = Decimal(written.removesuffix(suffix)) * _SUFFIXES.get(suffix, Decimal(1))
    return max(-_LARGEST, min(value, _LARGEST)).quantize(_SMALLEST, ROUND_UP)


def holds(live: Any, desired: Any, field: str = "") -> bool:
    """Whether `live` has every field of `desired`, with the same value."""
    if live == desired:  # most parts are, and this comparison runs in C
        return True
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(_member_holds(live, key, value, field) for key, value in desired.items())
    if isinstance(desired, list):
        return isinstance(live, list) and _list_holds(live, desired)
    if field in _QUANTITY_FIELDS:
        return _same_quantity(live, desired)
    return False


def _same_quantity(live: str | int, desired: str | int) -> bool:
    try:
        return quantity(live) == quantity(desired)
    except ArithmeticError:
        return False  # what the schema lets pass and is none is for the API server to refuse, in its own words


def _member_holds(live: Mapping[str, Any], key: str, desired: Any, field: str) -> bool:
    if key not in live:
        return not desired  # the API server leaves out what is empty, zero or false
    return holds(live[key], desired, field if field in _QUANTITY_FIELDS else key)


def _list_holds(live: Sequence[Any], desired: Sequence[Any]) -> bool:
    key = _list_key(desired)
    if key is None:
        return len(live) == len(desired) and all(map(holds, live, desired))
    live_items = {item.get(key): item for item in live}
    return all(item[key] in live_items and holds(live_items[item[key]], item) for item in desired)


def _list_key(items: Sequence[Any]) -> str | None:
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    return next((key for key in _LIST_KEYS if all(key in item for item in items)), None)
