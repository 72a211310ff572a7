"""Loops and `case` in a shell's text: what stands in them may be done once, often or never.

Which arm of a `case` is taken is judged where its subject is known. What a loop over a script's own arguments assigns
comes from whoever calls the script.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from vllm_operator.cli.importing.conditions import UNKNOWN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYWORDS: Final = frozenset({"if", "then", "else", "elif", "fi", "do", "!", "{", "}"})
"""Words that stand before a command."""

CONDITIONAL_LOOPS: Final = frozenset({"while", "until"})
"""Loops with a command as their condition, which is done again and again."""

LOOPS: Final = CONDITIONAL_LOOPS | {"for", "select"}
_OWN_ARGUMENT: Final = re.compile("\ue000([0-9@*#]|OPTARG)\ue001")
"""One of the arguments that a script itself is called with."""

_NAME_ALONE: Final = 2
"""Words of `for NAME`, which goes over the script's own arguments."""


def is_in_command_position(words: Sequence[str]) -> bool:
    """Whether the word that follows is a command's first."""
    return all(word in KEYWORDS or word in LOOPS for word in words)


@dataclass(slots=True)
class _Loop:
    keyword: str
    over_options: bool
    over: tuple[str, tuple[str, ...]] = ("", ())


@dataclass(slots=True)
class _Case:
    subject: str
    taken: bool | None = False
    """Whether the arm that is being read is taken; None where nobody knows."""
    settled: bool = False
    """Whether an arm before is taken for certain."""
    expects_pattern: bool = True


class Blocks:
    """Follows loops and `case` through the commands of a text."""

    def __init__(self) -> None:
        self._loops: list[_Loop] = []
        self._cases: list[_Case] = []

    def follow(self, words: Sequence[str]) -> None:
        """Take in the next command."""
        first = words[0] if words else ""
        if first in LOOPS:
            over_options = "getopts" in words or any(_OWN_ARGUMENT.search(word) for word in words)
            of_caller = over_options or (first == "for" and len(words) == _NAME_ALONE)
            over = (words[1], tuple(words[3:])) if first == "for" and words[2:3] == ["in"] else ("", ())
            self._loops.append(_Loop(first, of_caller, over))
        elif first == "done" and self._loops:
            self._loops.pop()

    @property
    def loop(self) -> str:
        """Keyword of the innermost loop; empty outside of any."""
        return self._loops[-1].keyword if self._loops else ""

    @property
    def over(self) -> tuple[str, tuple[str, ...]]:
        """Variable of the innermost loop, and the words that it goes over."""
        return self._loops[-1].over if self._loops else ("", ())

    @property
    def taken(self) -> bool:
        """Whether the arms that are being read may be taken."""
        return all(case.taken is not False for case in self._cases)

    @property
    def unsure(self) -> bool:
        """Whether nobody knows if, or how often, what is being read is done."""
        return bool(self._loops) or self.in_unknown_arm

    @property
    def in_unknown_arm(self) -> bool:
        """Whether an arm is being read of which nobody knows whether it is taken."""
        return any(case.taken is None for case in self._cases)

    @property
    def over_options(self) -> bool:
        """Whether what is being read depends on the arguments that the script is called with."""
        return any(loop.over_options for loop in self._loops) or any(
            case.taken is None and _OWN_ARGUMENT.search(case.subject) for case in self._cases
        )

    @property
    def expects_pattern(self) -> bool:
        """Whether the next words are those before an arm of a `case`."""
        return bool(self._cases) and self._cases[-1].expects_pattern

    def open_case(self, subject: str) -> None:
        """`case SUBJECT in`."""
        self._cases.append(_Case(subject))

    def arm(self, patterns: Sequence[str]) -> None:
        """The words before the `)` of an arm."""
        case = self._cases[-1]
        case.expects_pattern = False
        if case.settled:
            case.taken = False
        elif UNKNOWN_VARIABLE.search("".join([case.subject, *patterns])):
            case.taken = None
        else:
            case.taken = case.settled = any(fnmatchcase(case.subject, pattern) for pattern in patterns)

    def end_arm(self) -> None:
        """`;;`."""
        if self._cases:
            self._cases[-1].expects_pattern = True

    def end_case(self) -> bool:
        """Whether there was a `case` that `esac` ends."""
        return bool(self._cases) and bool(self._cases.pop())
