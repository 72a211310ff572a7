"""Which known failure a text tells of: a table of signatures, and the rule by which one of several counts. Pure.

The table is written by the operator (`diagnosis/signatures.py`) as JSON, and lies beside this file in the pod. It holds
ids and patterns alone: what follows from a failure, and what to do, the operator says.

Where a line fits several signatures, the one that stands first in the table counts: what is specific stands before what
is general. Of several lines the root cause counts: a `cause` before a `consequence` before a `wrapper`, which only says
that something has failed, and of two that weigh the same the one that stands first in the text. A `symptom` is no
failure: it tells of an engine that is slow.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FILE = "signatures.json"
FORMAT = 1

KINDS = CAUSE, CONSEQUENCE, WRAPPER, SYMPTOM = "cause", "consequence", "wrapper", "symptom"
"""In the order of their weight."""

LONGEST_LINE = 1800
"""Characters of a line that are read. Patterns are bounded as well, so a line costs the same whatever it holds."""

MARK = "diagnosis: "
"""How the last line of an engine's last words begins, where what has failed is known: JSON follows."""

_NOTHING = re.compile(r"(?!)")
"""Finds nothing."""

LONGEST_GROUP = 160
"""Characters of what a pattern has captured."""


_NO_PATTERN = (re.error, OverflowError, RecursionError)


class TableError(Exception):
    """The table cannot be read: a sentence."""


@dataclass(frozen=True)
class Match:
    """A signature that a line fits."""

    id: str
    kind: str
    groups: Mapping[str, str] = field(default_factory=dict)
    """What the pattern has captured, by name; what took no part in the match is left out."""
    order: int = 0
    """The place of the signature in the table."""
    anywhere: bool = False
    line: str = ""
    """The line that fits."""

    @property
    def rank(self) -> tuple[int, int]:
        """What weighs more has the smaller one."""
        return KINDS.index(self.kind), self.order


@dataclass(frozen=True)
class Diagnosis:
    """What has failed, as far as it is a known failure."""

    id: str
    """Of its signature."""
    groups: Mapping[str, str]
    """What its pattern has captured, by name."""

    def as_dict(self) -> dict[str, object]:
        """As it is told to the operator."""
        return {"id": self.id, "groups": dict(self.groups)}


@dataclass
class _Pattern:
    """A pattern, compiled when a line first holds its literal: a judge starts no later for what nobody says."""

    order: int
    id: str
    kind: str
    anywhere: bool
    literal: str
    regex: str
    compiled: re.Pattern[str] | None = None

    def search(self, text: str) -> re.Match[str] | None:
        if self.literal not in text:
            return None
        if self.compiled is None:
            try:
                self.compiled = re.compile(self.regex)
            except _NO_PATTERN:  # the check of a program tells of it; a judge that runs has better to do
                self.compiled = _NOTHING
        return self.compiled.search(text)


class Table:
    """Signatures, in their order. One thread may ask while another does."""

    def __init__(self, patterns: Iterable[_Pattern] = ()) -> None:
        self._patterns = tuple(patterns)
        self.anywhere_words = tuple(dict.fromkeys(one.literal.encode() for one in self._patterns if one.anywhere))
        """What a line holds that is of interest whether or not it is of an error."""

    def match(self, line: str) -> Match | None:
        """The first signature that a line fits; None where it fits none."""
        text = line[:LONGEST_LINE]
        for pattern in self._patterns:
            seen = pattern.search(text)
            if seen is not None:
                groups = {name: value[:LONGEST_GROUP] for name, value in seen.groupdict().items() if value is not None}
                return Match(pattern.id, pattern.kind, groups, pattern.order, pattern.anywhere, line)
        return None

    def root(self, lines: Iterable[str]) -> Match | None:
        """The root cause that a text tells of, whose lines are given in their order; None where it tells of none."""
        found = (match for match in map(self.match, lines) if match is not None and match.kind != SYMPTOM)
        return min(found, key=lambda match: KINDS.index(match.kind), default=None)

    def root_of_one(self, lines: Iterable[str]) -> Match | None:
        """The same of a single error, in which one line follows from another: what is more specific counts."""
        found = (match for match in map(self.match, lines) if match is not None and match.kind != SYMPTOM)
        return min(found, key=lambda match: match.rank, default=None)

    def check(self) -> None:
        """Compile all that is compiled when it is needed.

        Raises:
            TableError: a pattern is none to this Python.
        """
        for pattern in self._patterns:
            try:
                pattern.compiled = re.compile(pattern.regex)
            except _NO_PATTERN as error:
                raise TableError(f"{FILE}: {pattern.id}: {error}") from None


def table_of(text: str) -> Table:
    """A table out of its JSON. Signatures of a kind that is not known here are for a later version, and passed over.

    Raises:
        TableError: it is none.
    """
    try:
        document = json.loads(text)
        signatures = document["signatures"]
        patterns = [
            _Pattern(
                order=order,
                id=str(one["id"]),
                kind=one["kind"],
                anywhere=one.get("anywhere") is True,
                literal=str(pattern[0]),
                regex=str(pattern[1]),
            )
            for order, one in enumerate(signatures)
            if one["kind"] in KINDS
            for pattern in one["patterns"]
        ]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise TableError(f"{FILE} cannot be read: {error!r}") from None
    return Table(patterns)
