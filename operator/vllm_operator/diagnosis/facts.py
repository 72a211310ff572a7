"""What the status of one pod says, as frozen data that policies can judge. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vllm_operator.diagnosis.events import MessageKind, timestamp
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from vllm_operator.diagnosis.events import KubeletMessage


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """What kubelet reports of one container."""

    name: str = ""
    started: bool = False
    """Whether it runs and has passed its startup probe."""
    restarts: int = 0
    waiting: Mapping[str, Any] = field(default_factory=dict)
    """`state.waiting`: reason and message of a container that does not run yet."""
    terminated: Mapping[str, Any] = field(default_factory=dict)
    """How it ended: `state.terminated`, or of a container that runs or waits again `lastState.terminated`."""
    running_since: str = ""
    """When the process that runs now was started; empty where none runs."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is known of one pod."""

    name: str
    phase: str
    reason: str
    """Why the pod as a whole is in its phase, such as Evicted; mostly empty."""
    message: str
    conditions: Mapping[str, Mapping[str, Any]]
    """The pod's conditions by type."""
    engine: ContainerFacts
    kubelet: KubeletMessage | None = None
    """The newest of kubelet's Events that explains the state; None where there is none, and where none was read."""

    @property
    def is_ready(self) -> bool:
        """Whether the pod takes traffic."""
        return self.condition("Ready").get("status") == "True"

    @property
    def since(self) -> str:
        """When its readiness last changed; empty where kubelet has not reported it yet."""
        return str(self.condition("Ready").get("lastTransitionTime", ""))

    @property
    def has_served(self) -> bool:
        """Whether the container that runs was ready before: only then did readiness change after its start."""
        started_at = self.engine.running_since
        return bool(started_at) and self.engine.started and self.since > started_at

    @property
    def admission(self) -> MessageKind:
        """The probe that the engine has to pass next."""
        return MessageKind.READINESS if self.engine.started else MessageKind.STARTUP

    def condition(self, kind: str) -> Mapping[str, Any]:
        """The pod's condition of a type; empty where nobody has reported it yet."""
        return self.conditions.get(kind, {})

    def kubelet_says(self, kind: MessageKind) -> str:
        """Kubelet's message of a kind; empty where its newest message is of another."""
        return self.kubelet.text if self.kubelet is not None and self.kubelet.kind is kind else ""


def pod_facts(pod: Mapping[str, Any], kubelet: KubeletMessage | None = None) -> PodFacts:
    """Read a pod as the API server has it."""
    status = pod.get("status", {})
    containers = {found["name"]: found for found in status.get("containerStatuses", [])}
    return PodFacts(
        name=str(pod["metadata"]["name"]),
        phase=status.get("phase", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        conditions=_by_type(status.get("conditions", [])),
        engine=_container(containers.get(CONTAINER_NAME, {})),
        kubelet=kubelet,
    )


def is_leaving(pod: Mapping[str, Any]) -> bool:
    """Whether somebody has deleted the pod, and it is on its way out."""
    return "deletionTimestamp" in pod["metadata"]


def unready_since(pod: Mapping[str, Any]) -> datetime | None:
    """Since when a pod is not ready; None where it is, and where kubelet has not reported it yet."""
    found = pod_facts(pod)
    return timestamp(found.since) if found.condition("Ready").get("status") == "False" else None


def explained_from(pod: Mapping[str, Any]) -> datetime | None:
    """From when on Events explain why a pod is not ready: those about an earlier run of its container do not."""
    found = pod_facts(pod)
    return unready_since(pod) if found.has_served else timestamp(found.engine.running_since) or unready_since(pod)


def _by_type(conditions: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {condition["type"]: condition for condition in conditions}


def _container(found: Mapping[str, Any]) -> ContainerFacts:
    state = found.get("state", {})
    return ContainerFacts(
        name=found.get("name", ""),
        started=bool(found.get("started")),
        restarts=found.get("restartCount", 0),
        waiting=state.get("waiting", {}),
        terminated=state.get("terminated") or found.get("lastState", {}).get("terminated") or {},
        running_since=str(state.get("running", {}).get("startedAt", "")),
    )
