"""When to read the Events of a pod: seldom, and only where the pod itself does not say why it is not ready. Pure.

An API server finds Events by reading all of the namespace, so a look is not cheap. Kubelet on its side writes at first
25 Events for a pod and then one in five minutes (client-go's spam filter), so looking oftener than that finds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.planner import pods
from vllm_operator.planner.pods import EngineState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.planner.words import Words

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
class Heard:
    """What the Events of one pod said when they were last read."""

    version: str
    """Resource version of the pod at that time."""
    at: datetime
    words: Words | None = None
    repeats: int = 0
    """How often in a row there was nothing new."""


def due(found: Iterable[Mapping[str, Any]], heard: Mapping[str, Heard], now: datetime) -> tuple[Mapping[str, Any], ...]:
    """Pods whose Events are to be read now, those that have waited longest first."""
    times = [(when, pod) for pod in found if (when := appointment(pod, heard.get(uid(pod)))) and when <= now]
    return tuple(pod for _, pod in sorted(times, key=lambda one: one[0])[:MOST_AT_ONCE])


def next_look(found: Iterable[Mapping[str, Any]], heard: Mapping[str, Heard], now: datetime) -> datetime | None:
    """When Events are to be read next; None where every pod speaks for itself."""
    times = [when for pod in found if (when := appointment(pod, heard.get(uid(pod))))]
    return max(min(times), now + _AT_ONCE) if times else None


def appointment(pod: Mapping[str, Any], heard: Heard | None) -> datetime | None:
    """When to read the Events of a pod; None where it is ready, is leaving, or tells its trouble itself."""
    since = pods.unready_since(pod)
    if since is None or not pods.keeps_silent(pod):
        return None
    first = since + _FIRST_AFTER[pods.report(pod).state]
    if heard is None:
        return first
    if heard.version != pod["metadata"]["resourceVersion"]:
        return max(first, heard.at + _SHORTEST_PAUSE)
    pause: timedelta = _SHORTEST_PAUSE * 2 ** min(heard.repeats, _MOST_DOUBLINGS)
    return heard.at + min(pause, _LONGEST_PAUSE)


def after_look(pod: Mapping[str, Any], before: Heard | None, words: Words | None, now: datetime) -> Heard:
    """What is known of a pod after its Events were read."""
    version = str(pod["metadata"]["resourceVersion"])
    same = before is not None and (before.version, before.words) == (version, words)
    return Heard(version, now, words, before.repeats + 1 if before is not None and same else 0)


def uid(pod: Mapping[str, Any]) -> str:
    """Identity of a pod."""
    return str(pod["metadata"]["uid"])
