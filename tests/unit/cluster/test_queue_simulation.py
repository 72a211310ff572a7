"""How late statuses are while many models are applied: the queue in a world whose time is counted, not waited for.

Looks take what they took on a real API server (200 models in 11.4 s, two cores, 4 workers): 0.2 s where children are
made, 0.02 s where a status is written. There the longest wait was 11.1 s before lateness counted; here it is 9.6 s.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from vllm_operator.cluster import queue as module
from vllm_operator.cluster.cache import Key
from vllm_operator.cluster.queue import Queue, QueueKey
from vllm_operator.planner.pace import PAUSE

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 4
MAKES_CHILDREN_SECONDS, TELLS_SECONDS = 0.2, 0.02
APPLIED_EVERY_SECONDS = 0.035
CHANGES, CHANGED_EVERY_SECONDS = 4, 0.08
"""A Deployment changes four times after it was made: its controllers count ReplicaSets and pods."""


@dataclass
class Model:
    """A model, what there is to tell of it, and what was told."""

    made: bool = False
    changed_at: float = 0.0
    changes: int = 0
    told: int = 0
    told_at: float = 0.0
    statuses: int = 0


@dataclass
class World:
    """Models that are applied one after the other, and workers. `slowness` is how much longer everything takes."""

    slowness: float
    now: float = 0.0
    models: defaultdict[QueueKey, Model] = field(default_factory=lambda: defaultdict(Model))
    all_made_at: float = 0.0
    lags: list[float] = field(default_factory=list)
    """Seconds from the last change before a status to that status."""

    def __post_init__(self) -> None:
        self.queue = Queue(clock=lambda: self.now)
        self.idle = WORKERS
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, when: float, event: Callable[[], None]) -> None:
        """Have something happen."""
        heapq.heappush(self._events, (when, next(self._count), event))

    async def run(self, models: int) -> None:
        """Apply so many models, and let the workers work until nothing is left to do."""
        for number in range(models):
            key = Key("team", f"m-{number}")
            self.at(number * APPLIED_EVERY_SECONDS * self.slowness, functools.partial(self.queue.add, key, ahead=True))
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()
            while self.idle and len(self.queue):
                self.idle -= 1
                self._look(await self.queue.get())

    def _look(self, key: QueueKey) -> None:
        model = self.models[key]
        seconds = TELLS_SECONDS if model.made else MAKES_CHILDREN_SECONDS
        seen = model.changes

        def end() -> None:
            self.idle += 1
            if not model.made:
                self._make(key, model)
            elif seen != model.told:
                self._tell(key, model, seen)
            self.queue.done(key)

        self.at(self.now + seconds * self.slowness, end)

    def _make(self, key: QueueKey, model: Model) -> None:
        model.made, model.statuses, model.told_at, self.all_made_at = True, 1, self.now, self.now

        def change() -> None:
            model.changes, model.changed_at = model.changes + 1, self.now
            self.queue.add(key)

        for number in range(1, CHANGES + 1):
            self.at(self.now + number * CHANGED_EVERY_SECONDS * self.slowness, change)

    def _tell(self, key: QueueKey, model: Model, seen: int) -> None:
        if (due := model.told_at + PAUSE.total_seconds()) > self.now:
            self.at(due, lambda: self.queue.add(key))
            return
        model.told, model.told_at, model.statuses = seen, self.now, model.statuses + 1
        if seen == CHANGES:
            self.lags.append(self.now - model.changed_at)


@pytest.mark.parametrize("slowness", [0.3, 1.0, 4.0], ids=lambda slowness: f"{slowness} times as slow")
@pytest.mark.parametrize("models", [200, 3000])
async def test_statuses_stand_within_five_seconds_of_their_deployments_however_many_are_applied(
    models: int, slowness: float
) -> None:
    world = World(slowness)
    await world.run(models)
    assert len(world.lags) == models
    assert max(world.lags) <= 5.0
    statuses = [model.statuses for model in world.models.values()]
    assert sum(statuses) <= 2.2 * models, "telling sooner shall not mean telling more"


async def test_children_of_all_models_are_made_hardly_later_than_if_no_status_was_ever_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(1.0)
    await world.run(500)
    monkeypatch.setattr(module, "LATE_AFTER_SECONDS", 1e9)
    patient = World(1.0)
    await patient.run(500)
    assert max(patient.lags) > 20
    assert world.all_made_at < 1.15 * patient.all_made_at
