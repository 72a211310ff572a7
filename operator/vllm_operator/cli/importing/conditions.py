"""Which branches of a shell's text are taken, as far as its conditions can be judged without a shell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNKNOWN_VARIABLE: Final = re.compile("[\ue000-\ue003]")
_UNKNOWN: Final = re.compile("[\ue000-\ue003*?]")
"""A variable that nobody has filled in, or a pattern."""

_TEXTS: Final[dict[str, Callable[[str, str], bool]]] = {
    "=": lambda one, other: one == other,
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
}
_NUMBERS: Final[dict[str, Callable[[int, int], bool]]] = {
    "-eq": lambda one, other: one == other,
    "-ne": lambda one, other: one != other,
    "-gt": lambda one, other: one > other,
    "-ge": lambda one, other: one >= other,
    "-lt": lambda one, other: one < other,
    "-le": lambda one, other: one <= other,
}


class Branches:
    """Follows `if`, `elif`, `else` and `fi` through the commands of a text."""

    def __init__(self) -> None:
        self._open: list[_Branch] = []

    def follow(self, words: Sequence[str], follows: str) -> bool:
        """Take in the next command; False where it stands in a branch that is not taken.

        The words of a condition themselves count as taken: nothing in them starts a server.
        """
        first = words[0] if words else ""
        if first == "if":
            taken = self._taken
            self._open.append(_Branch(words[1:]))
            return taken
        if not self._open:
            return True
        branch = self._open[-1]
        if first == "fi":
            self._open.pop()
            return self._taken
        if first in {"then", "elif", "else"}:
            branch.turn(first, words[1:])
        elif branch.asks:
            branch.more(words, follows)
        return self._taken

    @property
    def _taken(self) -> bool:
        return all(branch.asks or branch.state is not False for branch in self._open)


class _Branch:
    """One `if`: whether the branch that is being read is taken; None where nobody knows."""

    def __init__(self, condition: Sequence[str]) -> None:
        self.state = judged(condition)
        self.asks = True
        """Whether its condition is still being read."""
        self._before: bool | None = False
        """Whether a branch before this one is taken."""

    def more(self, words: Sequence[str], follows: str) -> None:
        """A further command of the condition."""
        if self._before is True:
            return
        if follows == "&&" and self.state is not None:
            self.state = self.state and judged(words)
        elif follows == "||" and self.state is not None:
            self.state = self.state or judged(words)
        else:
            self.state = None

    def turn(self, word: str, rest: Sequence[str]) -> None:
        """The next keyword."""
        if word == "then":
            self.asks = False
            return
        if self._before is False:
            self._before = self.state
        self.asks = word == "elif"
        own = judged(rest) if self.asks else True
        self.state = False if self._before is True or own is False else (None if self._before is None else own)


def judged(words: Sequence[str]) -> bool | None:
    """Whether a condition holds: `[ -n "$NAME" ]`, `[ 1 -eq 0 ]` and the like; None where only a machine knows."""
    if words[:1] == ["!"]:
        other = judged(words[1:])
        return None if other is None else not other
    if not words or words[0] not in {"[", "[[", "test"}:
        return None
    inner = list(words[1:-1] if words[-1] in {"]", "]]"} else words[1:])
    return _any(inner) if words[0] == "[[" and {"&&", "||"} & {*inner} else _single(inner)


def _any(words: Sequence[str]) -> bool | None:
    """Whether one of the conditions between `||` holds."""
    if {"(", ")"} & {*words}:
        return None
    found = [_every(part) for part in _parts(words, "||")]
    return True if True in found else (None if None in found else False)


def _every(words: Sequence[str]) -> bool | None:
    """Whether all of the conditions between `&&` hold."""
    found = [_single(part) for part in _parts(words, "&&")]
    return False if False in found else (None if None in found else True)


def _parts(words: Sequence[str], operator: str) -> list[list[str]]:
    """The words between the operators."""
    found: list[list[str]] = [[]]
    for word in words:
        if word == operator:
            found.append([])
        else:
            found[-1].append(word)
    return found


def _single(inner: Sequence[str]) -> bool | None:
    """Whether one comparison holds."""
    if inner[:1] == ["!"]:
        other = _single(inner[1:])
        return None if other is None else not other
    if any(_UNKNOWN.search(word) for word in inner):
        return None
    if len(inner) == 2 and inner[0] in {"-n", "-z"}:  # noqa: PLR2004 # an operator and its operand
        return bool(inner[1]) == (inner[0] == "-n")
    return _compared(*inner) if len(inner) == 3 else None  # noqa: PLR2004 # an operand, an operator, an operand


def _compared(left: str, operator: str, right: str) -> bool | None:
    if operator in _TEXTS:
        return _TEXTS[operator](left, right)
    if operator in _NUMBERS and left.isdigit() and right.isdigit():
        return _NUMBERS[operator](int(left), int(right))
    return None
