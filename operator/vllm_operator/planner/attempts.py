"""What came of the last write of each child, and when the next one is due. Pure.

The watch tells of a change in a moment, so a write that is repeated at every event can be endless: a webhook that
overwrites a field and stamps the object makes an event of each of our writes, and a second controller that wants
another value answers each of them. Each write of one and the same desired object therefore waits longer than the one
before it. Whatever was desired for the first time, and the first repairs of an object, are never delayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from vllm_operator.api.conditions import Reason
from vllm_operator.api.live import ObjectKey

if TYPE_CHECKING:
    from collections.abc import Iterable

REFUSED_AGAIN_AFTER: Final = timedelta(seconds=30)
"""A foreign object, a quota or a webhook may be mended, and none of them tells the operator."""

FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(minutes=10)
"""Between two writes of what does not stick."""

FREE_REPAIRS: Final = 20
"""Writes of the same desired object that are made at once: people and programs that edit one field after the other.
Who fights over a field is slowed down after these."""

_MOST_DOUBLINGS: Final = 10


class Outcome(Enum):
    """How a write or a deletion ended."""

    APPLIED = auto()
    """The answer holds what was desired."""
    OVERWRITTEN = auto()
    """The write went through, but the answer holds another value than desired."""
    REFUSED = auto()
    """The API server will not do it until somebody acts."""
    NAME_TAKEN = auto()
    """The name belongs to somebody else's object."""
    OTHER_OPERATOR = auto()
    """The name belongs to an object of another release of the operator."""
    UNAVAILABLE = auto()
    """The API server cannot do it now; the queue tries again by itself."""


_REASONS: Final = {
    Outcome.REFUSED: Reason.CHILD_REFUSED,
    Outcome.NAME_TAKEN: Reason.NAME_TAKEN,
    Outcome.OTHER_OPERATOR: Reason.OTHER_OPERATOR,
    Outcome.UNAVAILABLE: Reason.CHILD_NOT_WRITTEN,
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last write of one child, or its deletion."""

    desired_hash: str
    """Which desired object was written: its annotation, or what its repeats are counted by; empty for a deletion."""
    at: datetime
    outcome: Outcome
    message: str = ""
    """What the API server said, or which fields did not stick."""
    repeats: int = 0
    """How often in a row this desired object had been written before, without a long rest in between."""
    step: bool = False
    """Whether it followed from what was written before, and repaired nothing."""

    @property
    def problem(self) -> Problem | None:
        """What is to be told, where it did not go through."""
        reason = _REASONS.get(self.outcome)
        return Problem(reason, self.message) if reason else None

    @property
    def due_at(self) -> datetime | None:
        """When the same may be tried again; None for at once."""
        if self.outcome in (Outcome.REFUSED, Outcome.NAME_TAKEN):
            return self.at + REFUSED_AGAIN_AFTER
        if self.outcome in (Outcome.OVERWRITTEN, Outcome.OTHER_OPERATOR):
            return self.at + _pause(self.repeats)
        if self.outcome is Outcome.APPLIED and self.repeats >= FREE_REPAIRS:
            return self.at + _pause(self.repeats - FREE_REPAIRS)
        return None


Attempts = Mapping[ObjectKey, Attempt]
"""The last attempt for each child."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A write or deletion that did not go through."""

    reason: Reason
    message: str


def is_due(attempt: Attempt | None, desired_hash: str, now: datetime) -> bool:
    """Whether a child that is not as desired may be written now."""
    if attempt is None or attempt.desired_hash != desired_hash:
        return True
    return attempt.due_at is None or attempt.due_at <= now


def after(before: Attempt | None, attempt: Attempt) -> Attempt:
    """An attempt with its repeats: they are counted as long as the same is written again before a long rest is over."""
    if before is None or before.desired_hash != attempt.desired_hash:
        return attempt
    if before.outcome is Outcome.APPLIED and attempt.at - before.at > 2 * LONGEST_PAUSE:
        return attempt
    return replace(attempt, repeats=before.repeats + (not attempt.step))


def next_due(attempts: Iterable[Attempt], now: datetime) -> datetime | None:
    """When the first of these waits is over; None where nothing waits."""
    return min((attempt.due_at for attempt in attempts if attempt.due_at and attempt.due_at > now), default=None)


def _pause(repeats: int) -> timedelta:
    doubled: timedelta = FIRST_PAUSE * 2 ** min(repeats, _MOST_DOUBLINGS)
    return min(doubled, LONGEST_PAUSE)
