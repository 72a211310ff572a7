"""What a word of a YAML file means to kubectl: a text, a number, a boolean or null.

kubectl reads YAML with go.yaml.in/yaml/v2, whose file resolve.go is the source of these facts. It is neither YAML 1.1
nor 1.2: `y`, `No` and `on` are booleans, `0o17`, `017` and `1_5` are fifteen, `1e3` is a thousand, and `12:30:45`, `=`
and `2026-01-01` are texts.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from typing import Final, TypeAlias

Scalar: TypeAlias = "str | int | float | bool | None"

PREFIX: Final = "tag:yaml.org,2002:"
STRING, BOOLEAN, INTEGER, NUMBER, NULL, BINARY, TIMESTAMP = (
    f"{PREFIX}{name}" for name in ("str", "bool", "int", "float", "null", "binary", "timestamp")
)

_WORDS: Final[dict[str, tuple[str, Scalar]]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), (BOOLEAN, True)),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), (BOOLEAN, False)),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), (NULL, None)),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), (NUMBER, math.nan)),
    **{f"{sign}{word}": (NUMBER, math.inf) for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **{f"-{word}": (NUMBER, -math.inf) for word in (".inf", ".Inf", ".INF")},
}

_INTEGER: Final = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|0[0-7]*|[1-9][0-9]*)", re.ASCII)
_DECIMAL: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_POINT_FIRST: Final = re.compile(r"\.[0-9]+(_[0-9]+)*([eE][-+]?[0-9]+(_[0-9]+)*)?", re.ASCII)
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ][0-9:.]+([zZ]|[-+][0-9:]+)?)?", re.ASCII)
_NUMBER_STARTS: Final = frozenset("+-.0123456789")
_RESOLVED: Final = frozenset({"", STRING, BOOLEAN, INTEGER, NUMBER, NULL, TIMESTAMP})

_LONGEST_INTEGER: Final = 1000
"""More digits than 64 bits need, whatever zeros are before them; Python converts no more than 4,300."""

_INT64: Final = range(-(2**63), 2**63)
_UINT64: Final = range(2**64)
_PLAIN_BELOW: Final = 1e21
"""JSON of Go writes smaller whole numbers without an exponent, so that they come back as integers."""


class ScalarError(ValueError):
    """A word does not mean what its tag says, or nothing that JSON knows."""


def resolved(text: str, tag: str = "") -> Scalar:
    """What a word means that stands without quotation marks, or with a tag.

    Raises:
        ScalarError: it is not of the kind that its tag says.
    """
    if tag == BINARY:
        return _binary(text)
    if tag in {STRING, TIMESTAMP} or tag not in _RESOLVED:
        return text
    kind, value = _WORDS.get(text) or _number(text)
    if tag == NUMBER and kind == INTEGER and isinstance(value, int):
        return float(value)
    if tag not in {"", kind}:
        raise ScalarError(f"{text!r} is no {tag.removeprefix(PREFIX)}, as its tag says")
    return value


def key_text(value: Scalar) -> str:
    """The name of a field whose name stands without quotation marks: kubectl makes texts of all but null.

    Raises:
        ScalarError: it is null.
    """
    if value is None:
        raise ScalarError("null is no name of a field: put it in quotation marks")
    if isinstance(value, bool):
        return "true" if value else "false"
    return _short(value) if isinstance(value, float) else str(value)


def json_number(value: int | float) -> int | float:  # noqa: PYI041 # the two are different things here
    """A number as it comes back out of JSON: whole ones as integers, as long as 64 bits hold them.

    Raises:
        ScalarError: JSON has no such number.
    """
    if math.isnan(value) or math.isinf(value):
        raise ScalarError("JSON knows no infinity, and nothing that is not a number: put it in quotation marks")
    if isinstance(value, int):
        return value if value in _INT64 else float(value)
    return int(value) if value.is_integer() and abs(value) < _PLAIN_BELOW and int(value) in _INT64 else value


def _number(text: str) -> tuple[str, Scalar]:
    if text[:1] not in _NUMBER_STARTS or _TIME.fullmatch(text):
        return STRING, text
    if text.startswith("."):
        return _decimal(text.replace("_", ""), text) if _POINT_FIRST.fullmatch(text) else (STRING, text)
    plain = text.replace("_", "")
    if len(plain) < _LONGEST_INTEGER and _INTEGER.fullmatch(plain):
        value = _integer(plain)
        if value in _INT64 or (value in _UINT64 and plain[0].isdigit()):
            return INTEGER, value
    return _decimal(plain, text)


def _integer(plain: str) -> int:
    sign, digits = (-1 if plain.startswith("-") else 1), plain.lstrip("+-").lower()
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 8 if digits.startswith("0") else 10)
    return sign * int(digits, base)


def _decimal(plain: str, text: str) -> tuple[str, Scalar]:
    value = float(plain) if _DECIMAL.fullmatch(plain) else math.inf
    return (STRING, text) if math.isinf(value) else (NUMBER, value)


def _binary(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8", "replace")
    except binascii.Error:
        raise ScalarError("is no base64, as its tag !!binary says") from None


def _short(value: float) -> str:
    """A number as Go writes it with the precision of 32 bits: `1.5`, `1e+06`."""
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    try:
        (single,) = struct.unpack("f", struct.pack("f", value))
    except OverflowError:
        return ".inf" if value > 0 else "-.inf"
    digits = next(n for n in range(1, 18) if struct.pack("f", float(f"{single:.{n}g}")) == struct.pack("f", single))
    mantissa, exponent = f"{single:.{digits - 1}e}".split("e")
    if -5 < int(exponent) < 6:  # noqa: PLR2004 # bounds of Go for a plain number
        return f"{single:.{max(0, digits - 1 - int(exponent))}f}"
    return f"{mantissa}e{exponent}"
