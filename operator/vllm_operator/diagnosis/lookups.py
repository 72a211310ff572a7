"""When to look up what a pod does not say itself: seldom, and at most so often for all models together. Pure.

There are four places to look. An API server finds Events by reading all of a namespace, so such a lookup is not cheap,
and kubelet on its side writes at first 25 Events for a pod and then one in five minutes (client-go's spam filter):
looking oftener than that finds nothing. The manager in a pod that runs answers from memory, and is asked as often as
its engine's load phase may change. Why no node takes a pod is seen on the nodes, which all lookups share for a minute
(cluster/node_sight.py), so what each pod costs is its Events and a few reads of single objects. However many pods are
not ready, all models together make no more lookups than a budget allows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.diagnosis.cause import Lookup
from vllm_operator.diagnosis.engine_status import EngineStatus
from vllm_operator.diagnosis.engines import needed_lookup
from vllm_operator.diagnosis.facts import pod_facts

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from vllm_operator.diagnosis.facts import Finding

_MOST_DOUBLINGS: Final = 5
_AT_ONCE: Final = timedelta(seconds=1)

_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)

_URGENCY: Final = {Lookup.WITHDRAWN: 0, Lookup.SERVING: 2}
"""What has a smaller number has its turn first; all others are between these."""

MOST_AT_ONCE: Final = 5
"""Pods that are looked up in one pass; the others have their turn a moment later."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many lookups are allowed: one each interval, and some at once where none was made for a while."""

    interval: timedelta
    burst: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the lookups of one kind are made."""

    first_after: timedelta
    """After the pod has come into its state."""
    shortest_pause: timedelta
    """Between two lookups of one pod. It doubles with each that finds nothing new."""
    longest_pause: timedelta
    rate: Rate
    """For all models together."""


SCHEDULES: Final = {
    # most pods are still being set up, as they should; 100 a minute, and once ten more
    Lookup.EVENTS: Schedule(
        timedelta(seconds=10), timedelta(seconds=10), timedelta(minutes=5), Rate(timedelta(seconds=0.6), burst=10)
    ),
    # most rollouts find a place within seconds; 100 a minute, and once ten more, since Events are read as well
    Lookup.PLACEMENT: Schedule(
        timedelta(seconds=3), timedelta(seconds=30), timedelta(minutes=5), Rate(timedelta(seconds=0.6), burst=10)
    ),
    # a queue with room admits within a second; what others free or raise shows at the gate; 100 a minute, and ten more
    Lookup.QUEUE: Schedule(
        timedelta(seconds=2), timedelta(seconds=10), timedelta(minutes=2), Rate(timedelta(seconds=0.6), burst=10)
    ),
    # a manager listens a moment after its container's start; 10 a second, and once 20 more
    Lookup.LOADING: Schedule(
        timedelta(seconds=2), timedelta(seconds=10), timedelta(minutes=1), Rate(timedelta(seconds=0.1), burst=20)
    ),
    # a verdict may come back within seconds; 5 a second, and once 20 more
    Lookup.WITHDRAWN: Schedule(
        timedelta(seconds=2), timedelta(seconds=2), timedelta(minutes=1), Rate(timedelta(seconds=0.2), burst=20)
    ),
    # most engines have nothing to say; 2 a second, and once ten more
    Lookup.SERVING: Schedule(
        timedelta(seconds=15), timedelta(seconds=30), timedelta(minutes=5), Rate(timedelta(seconds=0.5), burst=10)
    ),
    # kubelet brings the list within two minutes, and at once where it is called; an adapter is loaded within seconds;
    # 5 a second, and once 20 more
    Lookup.ADAPTERS: Schedule(
        timedelta(seconds=1), timedelta(seconds=2), timedelta(seconds=15), Rate(timedelta(seconds=0.2), burst=20)
    ),
}


@dataclass(frozen=True, slots=True)
class PodLookup:
    """What the newest lookup of one pod said."""

    version: str
    """Resource version of the pod at that time."""
    life: str
    """Which process of the engine, and which change of its readiness it was about."""
    at: datetime
    finding: Finding | None = None
    repeats: int = 0
    """How often in a row there was nothing new."""


@dataclass(frozen=True, slots=True)
class PlannedLookup:
    """The next lookup of one pod."""

    at: datetime
    kind: Lookup
    pod: Mapping[str, Any]


def planned(
    found: Iterable[Mapping[str, Any]], known: Mapping[str, PodLookup], *, adapters: str = ""
) -> tuple[PlannedLookup, ...]:
    """The next lookup of each pod that needs one.

    Args:
        found: The pods.
        known: The last lookups, by the pod's uid.
        adapters: Version of the list of adapters that their managers are to follow; empty where there is none.
    """
    lookups = (planned_lookup(pod, known.get(uid(pod)), adapters=adapters) for pod in found)
    return tuple(lookup for lookup in lookups if lookup is not None)


def planned_lookup(pod: Mapping[str, Any], last: PodLookup | None, *, adapters: str = "") -> PlannedLookup | None:
    """When to look up a pod; None where it is leaving, says itself why it is not ready, or has nobody to be asked."""
    needed = needed_lookup(pod)
    if needed is None:
        return None
    if needed.kind is Lookup.SERVING and adapters and not _follows(last, adapters):
        needed = replace(needed, kind=Lookup.ADAPTERS)
    schedule = SCHEDULES[needed.kind]
    at = needed.since + schedule.first_after
    if last is not None and last.version != pod["metadata"]["resourceVersion"]:
        at = max(at, last.at + schedule.shortest_pause)
    elif last is not None:
        doubled = schedule.shortest_pause * 2 ** min(last.repeats, _MOST_DOUBLINGS)
        at = last.at + min(doubled, schedule.longest_pause)
    return PlannedLookup(at, needed.kind, pod)


def _follows(last: PodLookup | None, adapters: str) -> bool:
    """Whether an engine's manager has said that it follows this version of its list of adapters."""
    found = last.finding if last is not None else None
    return isinstance(found, EngineStatus) and found.adapters is not None and found.adapters.version == adapters


def still_true(pod: Mapping[str, Any], last: PodLookup) -> PodLookup:
    """What is known of a pod now: what was said of an earlier process of its engine does not count."""
    return last if last.life == pod_facts(pod).life else replace(last, finding=None, repeats=0)


def due(lookups: Iterable[PlannedLookup], now: datetime) -> tuple[PlannedLookup, ...]:
    """What is to be read now: of pods that lost their traffic, then those that have waited longest, then that serve."""
    found = [lookup for lookup in lookups if lookup.at <= now]
    found.sort(key=lambda lookup: (_URGENCY.get(lookup.kind, 1), lookup.at))
    return tuple(found[:MOST_AT_ONCE])


def next_lookup(lookups: Iterable[PlannedLookup], now: datetime, turns: Mapping[Lookup, datetime]) -> datetime | None:
    """When pods are to be looked up next; None where every pod says itself how it is.

    `turns` are those that the budgets give to pods that are due, by the kind of the lookup.
    """
    at_once = now + _AT_ONCE
    times = (max(one.at, turns.get(one.kind, at_once) if one.at <= now else at_once) for one in lookups)
    return min(times, default=None)


def begun(pod: Mapping[str, Any], before: PodLookup | None, now: datetime) -> PodLookup:
    """What is known of a pod while it is looked up: what was known before, as of now. So nobody begins it twice."""
    repeats, finding = (before.repeats, before.finding) if before is not None else (0, None)
    return PodLookup(_version(pod), pod_facts(pod).life, now, finding, repeats)


def after_lookup(pod: Mapping[str, Any], before: PodLookup | None, finding: Finding | None, now: datetime) -> PodLookup:
    """What is known of a pod after it was looked up."""
    same = before is not None and (before.version, before.finding) == (_version(pod), finding)
    repeats = before.repeats + 1 if before is not None and same else 0
    return PodLookup(_version(pod), pod_facts(pod).life, now, finding, repeats)


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


def _version(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"]["resourceVersion"])
