"""Pods that are over: evicted, preempted, rejected by their node or shut down with it. Pure.

Their Deployment has made others in their place, and the dead objects remain until the garbage collector of pods takes
them, hundreds of them at times. So they are history: told as long as nothing that came after them serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.diagnosis.events import timestamp
from vllm_operator.diagnosis.facts import is_dead, is_leaving, pod_facts
from vllm_operator.diagnosis.policies import end_of_pod

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.diagnosis.facts import PodFacts

_CLOCK_SKEW: Final = timedelta(seconds=10)
"""A node's clock says when a pod has ended, the API server's when its replacement was made."""

_RECURRING: Final = 2
"""So many replacements that ended as well show that it is not over."""

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class EndedPod:
    """A pod that is over, and that nothing has replaced yet that serves."""

    pod: str
    created_at: datetime
    ended_at: datetime
    why: str

    @property
    def sentence(self) -> str:
        """What to say after its name."""
        return f"has ended at {self.ended_at:%Y-%m-%dT%H:%M:%SZ}: {self.why}"


def ended_pods(pods: Iterable[Mapping[str, Any]]) -> tuple[EndedPod, ...]:
    """Dead pods that no serving one has replaced, the newest last."""
    present = [(pod, pod_facts(pod)) for pod in pods if not is_leaving(pod)]
    serving_since = max((_created(facts) for _, facts in present if facts.is_ready), default=_NEVER)
    ended = (_ended(facts) for pod, facts in present if is_dead(pod))
    return tuple(
        sorted((one for one in ended if one.ended_at > serving_since + _CLOCK_SKEW), key=lambda one: one.ended_at)
    )


def keep_ending(ended: tuple[EndedPod, ...]) -> bool:
    """Whether pods that replaced an ended one have ended too, and more than one of them."""
    if not ended:
        return False
    return sum(one.created_at >= ended[0].ended_at - _CLOCK_SKEW for one in ended[1:]) >= _RECURRING


def story(ended: tuple[EndedPod, ...]) -> str:
    """What happened last, and how often such things did; empty where nothing did."""
    if not ended:
        return ""
    earlier = f" ({len(ended) - 1} more have ended before it)" if len(ended) > 1 else ""
    return f"{ended[-1].pod} {ended[-1].sentence}{earlier}"


def _ended(facts: PodFacts) -> EndedPod:
    return EndedPod(facts.name, _created(facts), max(_times(facts)), end_of_pod(facts))


def _created(facts: PodFacts) -> datetime:
    return timestamp(facts.created_at) or _NEVER


def _times(facts: PodFacts) -> Iterable[datetime]:
    """Moments at which a pod may have ended; the latest counts."""
    yield _created(facts)
    stamps = (
        facts.since,
        facts.condition("DisruptionTarget").get("lastTransitionTime"),
        facts.engine.terminated.get("finishedAt"),
    )
    yield from (when for stamp in stamps if (when := timestamp(stamp)) is not None)
