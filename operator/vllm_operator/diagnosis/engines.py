"""What is told of each engine of a model. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.diagnosis.facts import is_leaving, pod_facts
from vllm_operator.diagnosis.policies import cause_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.api.conditions import Reason
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


def reports(
    pods: Iterable[Mapping[str, Any]], messages: Mapping[str, KubeletMessage | None] | None = None
) -> tuple[EngineReport, ...]:
    """One report for each pod that is not on its way out, by name. `messages` are kubelet's, by the pod's uid."""
    found = messages or {}
    living = sorted((pod for pod in pods if not is_leaving(pod)), key=lambda pod: str(pod["metadata"]["name"]))
    return tuple(report(pod, found.get(pod["metadata"]["uid"])) for pod in living)


def report(pod: Mapping[str, Any], message: KubeletMessage | None = None) -> EngineReport:
    """Read one pod: the first thing that stands in its way counts."""
    facts = pod_facts(pod, message)
    cause = cause_of(facts)
    return EngineReport(facts.name, cause.state, cause.reason, cause.sentence, facts.since)


def needs_lookup(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has a node and is not ready, and its own status does not say why: its Events may."""
    if is_leaving(pod):
        return False
    scheduled = pod_facts(pod).condition("PodScheduled").get("status") == "True"
    return scheduled and report(pod).state in (EngineState.STARTING, EngineState.WITHDRAWN)


def summary(engines: Iterable[EngineReport], state: EngineState) -> str:
    """The engines in one state, each with its sentence; the first few stand for many."""
    sentences = [f"{engine.pod} {engine.sentence}" for engine in engines if engine.state is state]
    more = len(sentences) - _MOST_QUOTED
    return "; ".join(sentences[:_MOST_QUOTED]) + (f"; and {more} more" if more > 0 else "")
