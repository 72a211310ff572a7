"""Kubernetes quantities, such as `500m`, `16Gi` or `1e3`: their values, and the texts the API server makes of them.

The facts are those of the API server's type (k8s.io/apimachinery, pkg/api/resource), and a contract test holds them
against a real one. It keeps the family of suffixes that a text was written in: powers of 1024, of 1000, or an exponent.
"""

from __future__ import annotations

import re
from decimal import MIN_EMIN, ROUND_UP, Context, Decimal, InvalidOperation, Overflow
from functools import lru_cache
from typing import Final, NamedTuple

PATTERN: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]+)?$"
"""What a quantity looks like."""

NANO: Final = Decimal("1e-9")
"""The smallest part that a quantity keeps."""

MILLI: Final = Decimal("1e-3")
"""The smallest part that is kept of a container's or claim's `limits` and `requests`, and of a pod's `overhead`."""

_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX: Final = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY_SUFFIX: Final = {power: suffix for suffix, power in _BINARY.items()} | {0: ""}

_LARGEST_BINARY: Final = Decimal(2**63 - 1)
"""Only quantities with a binary suffix are cut off."""

_MOST_DIGITS: Final = 18
"""Of a number that the API server keeps in 64 bits; longer ones take another way, which forgets their text."""

_MOST_BINARY_DIGITS: Final = 14

_ARITHMETIC: Final = Context(prec=1000, rounding=ROUND_UP, Emin=MIN_EMIN, Emax=1000, traps=[InvalidOperation, Overflow])
"""Exact for all that anybody writes, and no time is lost on `1e999999999`."""


class _Parts(NamedTuple):
    text: str
    digits: str
    """The digits before the point, without leading zeros but one at least, and all digits behind it."""
    places: int
    """How many digits are behind the point."""
    suffix: str


def quantity(text: str | int, step: Decimal = NANO) -> Decimal:
    """Value of a quantity as the API server keeps it: rounded away from zero to a whole number of `step`.

    Raises:
        decimal.InvalidOperation: it is none.
        decimal.Overflow: it has a thousand digits or more.
    """
    parts = _parse(str(text))
    number = Decimal(parts.text.removesuffix(parts.suffix))
    value = _ARITHMETIC.multiply(number, _unit(parts.suffix))
    if parts.suffix in _BINARY:
        value = max(-_LARGEST_BINARY, min(value, _LARGEST_BINARY))
    return value.quantize(step, context=_ARITHMETIC)


@lru_cache(maxsize=4096, typed=True)  # the models of a fleet have much the same quantities
def canonical(text: str | int, step: Decimal = NANO) -> str:
    """The text of a quantity as the API server returns it: `0.5` as `500m`, `1024Mi` as `1Gi`, `1000m` as `1`.

    There are no fractions, and the suffix of the same family is as large as possible. Whole numbers below 1024 and all
    fractions lose a binary suffix: `0.5Ki` is `512`. A text that the API server takes for canonical stays as it is,
    although it need not be: `+1`, `1.500`. From 1000E on, where its suffixes end, the API server drops the
    magnitude; here such a number gets an exponent, which it keeps.

    Raises:
        decimal.InvalidOperation: it is none.
        decimal.Overflow: it has a thousand digits or more.
    """
    parts, value = _parse(str(text)), quantity(text, step)
    if not value:
        return "0"
    if _stays(parts, step):
        return parts.text
    whole = value == value.to_integral_value()
    if parts.suffix in _BINARY and whole and abs(value) >= 1024:  # noqa: PLR2004 # one Ki
        number, times = _without_factors(int(value), 1024)
        return f"{number}{_BINARY_SUFFIX[10 * times]}"
    number, times = _without_factors(int(_ARITHMETIC.divide(value, NANO)), 1000)
    return f"{number}{_decimal_suffix(parts.suffix, 3 * times - 9)}"


def _parse(text: str) -> _Parts:
    trimmed = text.strip()
    found = re.fullmatch(PATTERN, trimmed)
    if found is None:
        raise InvalidOperation(f"{text!r} is no quantity: write a number such as 500m, 16Gi or 4")
    suffix = found[2] or ""
    before, _, behind = found[1].partition(".")
    return _Parts(trimmed, (before.lstrip("0") or "0") + behind, len(behind), suffix)


def _unit(suffix: str) -> Decimal:
    if suffix in _BINARY:
        return Decimal(2 ** _BINARY[suffix])
    return Decimal(f"1e{_power_of_ten(suffix)}")


def _power_of_ten(suffix: str) -> int:
    return _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])


def _stays(parts: _Parts, step: Decimal) -> bool:
    """Whether the API server returns the text as it came, by its own quick and rough test."""
    if parts.suffix in _BINARY:
        room = _MOST_BINARY_DIGITS - 3 * _BINARY[parts.suffix] // 10
        return not parts.places and len(parts.digits) <= room and int(parts.digits) % 8 != 0
    scale = _power_of_ten(parts.suffix) - parts.places
    short = len(parts.digits) <= _MOST_DIGITS and Decimal(f"1e{scale}") >= step
    return short and scale % 3 == 0 and parts.digits[0] != "0" and not parts.digits.endswith("000")


def _without_factors(number: int, base: int) -> tuple[int, int]:
    times = 0
    while number % base == 0:
        number, times = number // base, times + 1
    return number, times


def _decimal_suffix(written: str, power: int) -> str:
    exponent = f"e{power}" if power else ""
    if written in _DECIMAL or written in _BINARY:
        return _DECIMAL_SUFFIX.get(power, exponent)
    return exponent
