"""What a signature's pattern may be made of, so that no line makes it slow, and the text that any match of it holds.

A pattern is read here as a row of single characters, classes and groups. Each of the first two may be repeated within
bounds; a group may be missing, and never be repeated. So a search takes time that grows with the line and no faster,
whatever the line holds. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

MOST_REPEATS: Final = 400
MOST_WIDE_GAPS: Final = 2
_WIDE: Final = 100
SHORTEST_LITERAL: Final = 4

_TOKEN: Final = re.compile(
    r"(?P<escape>\\.)"
    r"|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])"
    r"|(?P<group>\(\?P<\w+>|\(\?:)"
    r"|(?P<special>\(\?.{0,2}|\()"
    r"|(?P<close>\))"
    r"|(?P<repeat>\{(?P<least>\d*),?(?P<most>\d*)\}\??|\?)"
    r"|(?P<endless>[*+])"
    r"|(?P<either>\|)"
    r"|(?P<anchor>[\^$])"
    r"|(?P<any>\.)"
    r"|(?P<literal>.)",
    re.DOTALL,
)
_CLASS_ESCAPES: Final = frozenset("dDwWsSbBAZ")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    most: int = 1
    """Most repetitions, of a repeat."""


def faults_of(pattern: str) -> list[str]:
    """Why a pattern is not taken, one sentence for each reason; empty where it is."""
    try:
        re.compile(pattern)
    except re.error as error:
        return [f"is no regular expression: {error}"]
    tokens = _tokens(pattern)
    kinds = {token.kind for token in tokens}
    repeats = [token.most for token in tokens if token.kind == "repeat"]
    pairs = pairwise(tokens)
    repeated_groups = any(one.kind == "close" and two.kind == "repeat" and two.most > 1 for one, two in pairs)
    found = (
        ("endless" in kinds, "repeats without bounds: write {0,N} for * and {1,N} for +"),
        ("special" in kinds, "has a group that is neither (?:...) nor (?P<name>...)"),
        (repeated_groups, "repeats a group, which can take time beyond all bounds"),
        (any(most > MOST_REPEATS for most in repeats), f"repeats more than {MOST_REPEATS} times"),
        (sum(most > _WIDE for most in repeats) > MOST_WIDE_GAPS, f"has more than {MOST_WIDE_GAPS} wide gaps"),
        (len(literal_of(pattern)) < SHORTEST_LITERAL, f"has no fixed text of {SHORTEST_LITERAL} characters"),
    )
    return [sentence for wrong, sentence in found if wrong]


def literal_of(pattern: str) -> str:
    """The longest text that every match holds: outside of groups, and not repeated. Empty where there is none."""
    depth, run, best = 0, "", ""
    tokens = _tokens(pattern)
    for token, after in zip(tokens, [*tokens[1:], _Token("end", "")], strict=True):
        depth += (token.kind in {"group", "special"}) - (token.kind == "close")
        if token.kind == "either" and depth == 0:
            return ""
        if token.kind == "literal" and depth == 0 and after.kind not in {"repeat", "endless"}:
            run += token.text
        else:
            run = ""
        best = max(best, run, key=len)
    return best


def _tokens(pattern: str) -> list[_Token]:
    return [_token(found) for found in _TOKEN.finditer(pattern)]


def _token(found: re.Match[str]) -> _Token:
    kind, text = str(found.lastgroup), found[0]
    if found["escape"]:
        return _Token("set" if text[1] in _CLASS_ESCAPES else "literal", text[1])
    if found["repeat"]:
        bounds = found["most"] or found["least"]
        unbounded = text.startswith("{") and "," in text and not found["most"]
        return _Token("endless" if unbounded else "repeat", text, int(bounds) if bounds else 1)
    return _Token(kind, text)
