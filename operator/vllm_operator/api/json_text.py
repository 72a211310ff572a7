"""JSON of the API server and of kubectl, of whatever depth.

The API server stores documents that are nested up to 10,000 levels deep, and the parsers of Python give up at about a
thousand. Whoever may write one resource could so make every listing and every watch of its kind unreadable for all.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

MOST_LEVELS_KEPT: Final = 128
"""How deep a document is that was too deep to be parsed: what lies below is null. More than any of our kinds has."""

_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
"""A text, whose brackets do not count, or a bracket."""


def loads(text: str | bytes) -> Any:
    """Parse a document. Where it is nested too deeply for that, its lowest levels are left out.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(text)
    except RecursionError:
        return json.loads(flattened(text if isinstance(text, str) else text.decode()))


def parsed(text: str | bytes) -> Any:
    """Parse a document of the API server, which holds no number of more than 64 bits: several times as fast.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # nested deeper than the fast parser goes, or half of a surrogate pair
        return loads(text)


def dumps(document: Any, *, sort_keys: bool = False) -> bytes:
    """A document as JSON. The API server writes a number such as 1e20 with all its digits, and takes it so."""
    try:
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS if sort_keys else 0)
    except TypeError:  # integers of more than 64 bits
        return json.dumps(document, sort_keys=sort_keys).encode()


def flattened(text: str) -> str:
    """The document with null in place of every map and list below `MOST_LEVELS_KEPT` levels."""
    kept: list[str] = []
    depth, start = 0, 0
    for found in _TOKEN.finditer(text):
        if found[0] in "[{":
            depth += 1
            if depth == MOST_LEVELS_KEPT + 1:
                kept += (text[start : found.start()], "null")
        elif found[0] in "]}":
            if depth == MOST_LEVELS_KEPT + 1:
                start = found.end()
            depth -= 1
    return "".join((*kept, text[start:]))
