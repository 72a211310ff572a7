"""When to read the Events of a pod: seldom, and only where the pod itself does not say why it is not ready. Pure.

An API server finds Events by reading all of the namespace, so a lookup is not cheap. Kubelet on its side writes at
first 25 Events for a pod and then one in five minutes (client-go's spam filter), so looking oftener than that finds
nothing. And however many pods are not ready, all models together make no more lookups than a budget allows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.diagnosis.engines import needed_lookup

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from vllm_operator.diagnosis.events import KubeletMessage

_FIRST_AFTER: Final = {
    EngineState.STARTING: timedelta(seconds=10),  # most engines are still loading, as they should
    EngineState.WITHDRAWN: timedelta(seconds=2),  # kubelet may write the status before the Event
}
_SHORTEST_PAUSE: Final = timedelta(seconds=10)
_LONGEST_PAUSE: Final = timedelta(minutes=5)
_MOST_DOUBLINGS: Final = 5
_AT_ONCE: Final = timedelta(seconds=1)

_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)

MOST_AT_ONCE: Final = 5
"""Pods that are looked up in one pass; the others have their turn a moment later."""


@dataclass(frozen=True, slots=True)
class EventLookup:
    """What the Events of one pod said when they were last read."""

    version: str
    """Resource version of the pod at that time."""
    at: datetime
    message: KubeletMessage | None = None
    repeats: int = 0
    """How often in a row there was nothing new."""


@dataclass(frozen=True, slots=True)
class PlannedLookup:
    """The next lookup of the Events of one pod."""

    at: datetime
    state: EngineState
    """The pod's state as far as it tells by itself: one that lost its traffic goes before those that load."""
    pod: Mapping[str, Any]


def planned(found: Iterable[Mapping[str, Any]], known: Mapping[str, EventLookup]) -> tuple[PlannedLookup, ...]:
    """The next lookup of each pod that needs one. `known` are the last ones, by the pod's uid."""
    lookups = (planned_lookup(pod, known.get(uid(pod))) for pod in found)
    return tuple(lookup for lookup in lookups if lookup is not None)


def planned_lookup(pod: Mapping[str, Any], last: EventLookup | None) -> PlannedLookup | None:
    """When to read the Events of a pod; None where it is ready, is leaving, or says itself why it is not ready."""
    state, since = needed_lookup(pod)
    if state is None or since is None:
        return None
    at = since + _FIRST_AFTER[state]
    if last is not None and last.version != pod["metadata"]["resourceVersion"]:
        at = max(at, last.at + _SHORTEST_PAUSE)
    elif last is not None:
        at = last.at + min(_SHORTEST_PAUSE * 2 ** min(last.repeats, _MOST_DOUBLINGS), _LONGEST_PAUSE)
    return PlannedLookup(at, state, pod)


def due(lookups: Iterable[PlannedLookup], now: datetime) -> tuple[PlannedLookup, ...]:
    """What is to be read now: of pods that lost their traffic, and then of those that have waited longest."""
    found = [lookup for lookup in lookups if lookup.at <= now]
    found.sort(key=lambda lookup: (lookup.state is not EngineState.WITHDRAWN, lookup.at))
    return tuple(found[:MOST_AT_ONCE])


def next_lookup(
    lookups: Iterable[PlannedLookup], now: datetime, turns: Mapping[EngineState, datetime]
) -> datetime | None:
    """When Events are to be read next; None where every pod says itself how it is.

    `turns` are those that the budgets of lookups give to pods that are due, by their state.
    """
    at_once = now + _AT_ONCE
    times = (max(one.at, turns.get(one.state, at_once) if one.at <= now else at_once) for one in lookups)
    return min(times, default=None)


def after_lookup(
    pod: Mapping[str, Any], before: EventLookup | None, message: KubeletMessage | None, now: datetime
) -> EventLookup:
    """What is known of a pod after its Events were read."""
    version = str(pod["metadata"]["resourceVersion"])
    same = before is not None and (before.version, before.message) == (version, message)
    return EventLookup(version, now, message, before.repeats + 1 if before is not None and same else 0)


@dataclass(frozen=True, slots=True)
class Rate:
    """How many lookups are allowed: one each interval, and some at once where none was made for a while."""

    interval: timedelta
    burst: int


RATES: Final = {
    EngineState.STARTING: Rate(timedelta(seconds=0.6), burst=10),
    EngineState.WITHDRAWN: Rate(timedelta(seconds=3), burst=10),
}
"""For all models together: 100 and 20 lookups a minute, and once 20 more."""


@dataclass(frozen=True, slots=True)
class Turn:
    """When a model may make lookups, and how many."""

    at: datetime
    lookups: int


@dataclass(frozen=True, slots=True)
class LookupBudget:
    """The lookups of all models, as turns: a model that has to wait knows when its turn is.

    Each model holds one turn at most, of a few lookups, so the models take turns, whatever the number of their pods.
    """

    rate: Rate
    free_at: datetime = _LONG_AGO
    """When the whole burst can be had again."""
    turns: Mapping[Hashable, Turn] = field(default_factory=dict)
    """The turns of models that wait."""

    def reserve(self, model: Hashable, wanted: int, now: datetime) -> tuple[LookupBudget, Turn]:
        """The turn of a model that wants so many lookups: it may make them where that is not later than now."""
        held = self.turns.get(model)
        if held is not None:
            return (self.release(model), Turn(now, held.lookups)) if held.at <= now else (self, held)
        cost: timedelta = self.rate.interval * wanted
        at = self.free_at + cost - self.rate.interval * self.rate.burst
        after = replace(self, free_at=max(now, self.free_at) + cost)
        if at <= now:
            return after, Turn(now, wanted)
        turn = Turn(at, wanted)
        return replace(after, turns={**self.turns, model: turn}), turn

    def release(self, model: Hashable) -> LookupBudget:
        """Without the turn of a model that has nothing to look up any more; nobody else gets it."""
        if model not in self.turns:
            return self
        return replace(self, turns={other: turn for other, turn in self.turns.items() if other != model})


def uid(pod: Mapping[str, Any]) -> str:
    """Identity of a pod."""
    return str(pod["metadata"]["uid"])
