"""The work queue, on client-go's model: a key waits once, never runs twice at once, and backs off when it fails.

Keys wait in two lanes. What somebody asks for goes ahead of what only has to be told: while many models are applied,
their children are made before statuses follow those that came first. But what is late is more urgent: from then on most
turns are its lane's.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from vllm_operator.cluster.backoff import delay_seconds
from vllm_operator.cluster.cache import Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vllm_operator.api.live import ObjectVersion


class NamespaceKey(NamedTuple):
    """What the models of a namespace share."""

    namespace: str

    def __str__(self) -> str:
        """As logs have it."""
        return f"namespace {self.namespace}"


QueueKey = Key | NamespaceKey
"""What can be looked at: one model, or what the models of a namespace share."""

FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 300.0
OVERTAKEN_AT_MOST: Final = 15
"""Keys that go ahead of one that waits behind, before its turn comes: no lane can be starved."""

LATE_AFTER_SECONDS: Final = 2.0
"""How long a key waits behind before most turns are that lane's, so that statuses stand within 5 s of what they tell of
however many models are applied (measured in docs/development/bench.md)."""

LATE_TURNS: Final = 4
"""Turns in a row of the lane behind once it is late, before one of the lane ahead. A model that is applied has one look
ahead and up to four behind, since its Deployment and its pods come one after the other; these are far shorter."""


@dataclass(slots=True)
class _Again:
    """Why a key that runs is to run once more."""

    ahead: bool = False
    changes: set[ObjectVersion] = field(default_factory=set)
    """Changes of objects that came meanwhile."""
    otherwise: bool = False
    """Whether there is a reason beside those."""

    @property
    def needed(self) -> bool:
        """Whether there still is one."""
        return self.otherwise or bool(self.changes)


class Queue:
    """Keys of what has to be looked at."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, waited: Callable[[float], None] = lambda _: None
    ) -> None:
        """`waited` is told for how many seconds each key that is taken has waited."""
        self._clock = clock
        self._waited = waited
        self._ahead: OrderedDict[QueueKey, float] = OrderedDict()
        self._behind: OrderedDict[QueueKey, float] = OrderedDict()
        """Each with the time since when it waits, in seconds; the oldest is the first."""
        self._overtaken = self._turns_behind = 0
        self._running: dict[QueueKey, float] = {}
        """Each with the time since when it runs, in seconds."""
        self._again: dict[QueueKey, _Again] = {}
        """Keys that were added while they run."""
        self._failures: dict[QueueKey, int] = {}
        self._timers: dict[QueueKey, asyncio.TimerHandle] = {}
        self._held: dict[QueueKey, bool] = {}
        """Keys that are left alone until their delay is over, and whether they go ahead then."""
        self._wakeup = asyncio.Event()

    def add(self, key: QueueKey, *, ahead: bool = False, change: ObjectVersion | None = None) -> None:
        """Have a key looked at soon, for the sake of a `change` that a watch brought, or for another reason.

        One that runs now runs once more when it is done; but for changes that it made itself, see `made`.
        """
        if key in self._running:
            again = self._again.setdefault(key, _Again())
            again.ahead |= ahead
            if change is None:
                again.otherwise = True
            else:
                again.changes.add(change)
            return
        if key in self._held:
            self._held[key] = ahead or self._held[key]
            return
        if key in self._ahead:
            return
        if ahead:
            self._behind.pop(key, None)
        (self._ahead if ahead else self._behind).setdefault(key, self._clock())
        self._wakeup.set()

    def add_after(self, key: QueueKey, delay_seconds: float) -> None:
        """Have a key looked at later. The latest word counts: it replaces an earlier delay."""
        self.cancel_delayed(key)
        self._timers[key] = asyncio.get_running_loop().call_later(delay_seconds, self._due, key)

    def cancel_delayed(self, key: QueueKey) -> None:
        """Drop what `add_after` and `failed` arranged."""
        self._held.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def get(self) -> QueueKey:
        """Wait for a key, and take it. It has to be given back by `done`."""
        while not len(self):
            self._wakeup.clear()
            await self._wakeup.wait()
        key, since = self._next_lane().popitem(last=False)
        now = self._clock()
        self._waited(now - since)
        self._running[key] = now
        return key

    def made(self, key: QueueKey, changes: Iterable[ObjectVersion]) -> None:
        """Take in that a key that runs made these changes itself, and knows their answers.

        A watch often brings a change before its answer is here. To run once more would find nothing to do.
        """
        again = self._again.get(key)
        if again is not None:
            again.changes.difference_update(changes)

    def done(self, key: QueueKey) -> None:
        """Give a key back. If it was added meanwhile, it runs again."""
        self._running.pop(key, None)
        again = self._again.pop(key, None)
        if again is not None and again.needed:
            self.add(key, ahead=again.ahead)

    def failed(self, key: QueueKey, *, at_least_seconds: float = 0.0) -> float:
        """Arrange another try, each later than the one before, and say in how many seconds.

        `at_least_seconds` is what the API server asked for (Retry-After): until the delay is over nothing has the key
        looked at, since what is asked for meanwhile (an edit, the echo of our own status) would not be answered either.
        """
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        first, longest = FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS
        delay = delay_seconds(count, first=first, longest=longest, at_least=at_least_seconds)
        self.add_after(key, delay)
        if at_least_seconds:
            self._held[key] = False
        return delay

    def succeeded(self, key: QueueKey) -> None:
        """Forget earlier failures."""
        self._failures.pop(key, None)

    def __len__(self) -> int:
        return len(self._ahead) + len(self._behind)

    @property
    def oldest_seconds(self) -> float:
        """How long the key has waited that waits longest; 0 where none does."""
        since = [next(iter(lane.values())) for lane in (self._ahead, self._behind) if lane]
        return self._clock() - min(since) if since else 0.0

    @property
    def longest_running_seconds(self) -> float:
        """How long the key runs that runs longest now; 0 where none does."""
        return self._clock() - min(self._running.values()) if self._running else 0.0

    def _next_lane(self) -> OrderedDict[QueueKey, float]:
        """Where the next key comes from; not empty."""
        if self._ahead and self._is_turn_ahead():
            self._overtaken += bool(self._behind)
            self._turns_behind = 0
            return self._ahead
        self._overtaken = 0
        self._turns_behind += 1
        return self._behind

    def _is_turn_ahead(self) -> bool:
        """Whether what goes ahead may go before the one that has waited longest behind."""
        if not self._behind:
            return True
        if self._clock() - next(iter(self._behind.values())) < LATE_AFTER_SECONDS:
            return self._overtaken < OVERTAKEN_AT_MOST
        return self._turns_behind >= LATE_TURNS

    def _due(self, key: QueueKey) -> None:
        self._timers.pop(key, None)
        self.add(key, ahead=self._held.pop(key, False))
