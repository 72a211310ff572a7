"""When to read the Events of a pod: seldom, and only where the pod itself does not say why it is not ready. Pure.

An API server finds Events by reading all of the namespace, so a look is not cheap. Kubelet on its side writes at first
25 Events for a pod and then one in five minutes (client-go's spam filter), so looking oftener than that finds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.diagnosis.engines import needs_lookup, report
from vllm_operator.diagnosis.facts import unready_since

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.diagnosis.events import KubeletMessage

_FIRST_AFTER: Final = {
    EngineState.STARTING: timedelta(seconds=10),  # most engines are still loading, as they should
    EngineState.WITHDRAWN: timedelta(seconds=2),  # kubelet may write the status before the Event
}
_SHORTEST_PAUSE: Final = timedelta(seconds=10)
_LONGEST_PAUSE: Final = timedelta(minutes=5)
_MOST_DOUBLINGS: Final = 5
_AT_ONCE: Final = timedelta(seconds=1)

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


def due_pods(
    found: Iterable[Mapping[str, Any]], known: Mapping[str, EventLookup], now: datetime
) -> tuple[Mapping[str, Any], ...]:
    """Pods whose Events are to be read now, those that have waited longest first."""
    times = [(when, pod) for pod in found if (when := next_lookup_at(pod, known.get(uid(pod)))) and when <= now]
    return tuple(pod for _, pod in sorted(times, key=lambda one: one[0])[:MOST_AT_ONCE])


def next_lookup(found: Iterable[Mapping[str, Any]], known: Mapping[str, EventLookup], now: datetime) -> datetime | None:
    """When Events are to be read next; None where every pod says itself how it is."""
    times = [when for pod in found if (when := next_lookup_at(pod, known.get(uid(pod))))]
    return max(min(times), now + _AT_ONCE) if times else None


def next_lookup_at(pod: Mapping[str, Any], last: EventLookup | None) -> datetime | None:
    """When to read the Events of a pod; None where it is ready, is leaving, or says itself why it is not ready."""
    since = unready_since(pod)
    if since is None or not needs_lookup(pod):
        return None
    first = since + _FIRST_AFTER[report(pod).state]
    if last is None:
        return first
    if last.version != pod["metadata"]["resourceVersion"]:
        return max(first, last.at + _SHORTEST_PAUSE)
    pause: timedelta = _SHORTEST_PAUSE * 2 ** min(last.repeats, _MOST_DOUBLINGS)
    return last.at + min(pause, _LONGEST_PAUSE)


def after_lookup(
    pod: Mapping[str, Any], before: EventLookup | None, message: KubeletMessage | None, now: datetime
) -> EventLookup:
    """What is known of a pod after its Events were read."""
    version = str(pod["metadata"]["resourceVersion"])
    same = before is not None and (before.version, before.message) == (version, message)
    return EventLookup(version, now, message, before.repeats + 1 if before is not None and same else 0)


def uid(pod: Mapping[str, Any]) -> str:
    """Identity of a pod."""
    return str(pod["metadata"]["uid"])
