"""What is told of each engine of a model. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.diagnosis.events import timestamp
from vllm_operator.diagnosis.facts import is_dead, is_leaving, pod_facts
from vllm_operator.diagnosis.policies import cause_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from vllm_operator.api.conditions import Reason
    from vllm_operator.diagnosis.cause import EngineState
    from vllm_operator.diagnosis.events import KubeletMessage

_MOST_QUOTED: Final = 3


@dataclass(frozen=True, slots=True)
class EngineReport:
    """One engine: its pod, and why it is in its state."""

    pod: str
    state: EngineState
    reason: Reason
    sentence: str = ""
    since: str = ""
    """When its readiness last changed; empty where kubelet has not reported it yet."""
    needs_events: bool = False
    """Whether kubelet's Events may say more than its pod does."""


def reports(
    pods: Iterable[Mapping[str, Any]],
    messages: Mapping[str, KubeletMessage | None] | None = None,
    *,
    unbound_claims: Sequence[str] = (),
    now: datetime | None = None,
) -> tuple[EngineReport, ...]:
    """One report for each living pod, by name. `messages` are kubelet's, by the pod's uid.

    Pods on their way out are no engines any more, nor are dead ones: others have taken their place.
    """
    found = messages or {}
    living = sorted(filter(_is_living, pods), key=lambda pod: str(pod["metadata"]["name"]))
    return tuple(
        report(pod, found.get(pod["metadata"]["uid"]), unbound_claims=unbound_claims, now=now) for pod in living
    )


def report(
    pod: Mapping[str, Any],
    message: KubeletMessage | None = None,
    *,
    unbound_claims: Sequence[str] = (),
    now: datetime | None = None,
) -> EngineReport:
    """Read one pod: the first thing that stands in its way counts. Without `now` nothing takes too long."""
    facts = pod_facts(pod, message, unbound_claims=unbound_claims, now=now)
    cause = cause_of(facts)
    return EngineReport(facts.name, cause.state, cause.reason, cause.sentence, facts.since, cause.needs_events)


def judged_again_at(pods: Iterable[Mapping[str, Any]], now: datetime) -> datetime | None:
    """When some pod will have waited too long for a scheduler or a kubelet; None where none waits for them."""
    ends = (pod_facts(pod).patience_ends_at for pod in pods if _is_living(pod))
    return min((when for when in ends if when is not None and when > now), default=None)


def needs_lookup(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has a node and is not ready, and its own status does not say why: its Events may."""
    return needed_lookup(pod)[0] is not None


def needed_lookup(pod: Mapping[str, Any]) -> tuple[EngineState | None, datetime | None]:
    """The state of a pod whose Events may say more than itself, and since when it is so; None where they need not."""
    facts = pod_facts(pod)
    if facts.is_ready or not _is_living(pod):
        return None, None
    cause = cause_of(facts)
    return (cause.state, timestamp(facts.since)) if cause.needs_events else (None, None)


def _is_living(pod: Mapping[str, Any]) -> bool:
    return not (is_leaving(pod) or is_dead(pod))


def summary(engines: Iterable[EngineReport], state: EngineState) -> str:
    """The engines in one state, each with its sentence; the first few stand for many."""
    sentences = [f"{engine.pod} {engine.sentence}" for engine in engines if engine.state is state]
    more = len(sentences) - _MOST_QUOTED
    return "; ".join(sentences[:_MOST_QUOTED]) + (f"; and {more} more" if more > 0 else "")
