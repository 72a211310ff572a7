"""What one pod says, as frozen data that policies can judge. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.diagnosis.events import MessageKind, timestamp
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from vllm_operator.diagnosis.events import KubeletMessage

PATIENCE: Final = timedelta(minutes=5)
"""How long a pod may wait for a scheduler to look at it, or for a kubelet to take it, before that counts as a fault."""

DEFAULT_SCHEDULER: Final = "default-scheduler"
_ALWAYS: Final = "Always"


class Role(StrEnum):
    """What a container is in its pod."""

    ENGINE = "engine"
    INIT = "init container"
    """A container that has to end before the engine starts."""
    SIDECAR = "sidecar"
    """A container beside the engine: an init container that is always restarted, or one that a patch adds."""


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """What kubelet reports of one container."""

    name: str = ""
    role: Role = Role.ENGINE
    started: bool = False
    """Whether it runs and has passed its startup probe."""
    ready: bool = False
    """Whether it passes its readiness probe; an init container is ready when it has ended well."""
    restarts: int = 0
    waiting: Mapping[str, Any] = field(default_factory=dict)
    """`state.waiting`: reason and message of a container that does not run yet."""
    terminated: Mapping[str, Any] = field(default_factory=dict)
    """How it ended: `state.terminated`, or of a container that runs or waits again `lastState.terminated`."""
    running_since: str = ""
    """When the process that runs now was started; empty where none runs."""

    @property
    def is_done(self) -> bool:
        """Whether an init container no longer keeps the engine from starting."""
        if self.role is Role.SIDECAR:
            return self.started
        return self.terminated.get("exitCode") == 0 and not (self.waiting or self.running_since)


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is known of one pod."""

    name: str
    created_at: str
    phase: str
    reason: str
    """Why the pod as a whole is in its phase, such as Evicted; mostly empty."""
    message: str
    node: str
    """Name of its node; empty where it has none."""
    scheduler: str
    scheduling_gates: tuple[str, ...]
    """Names of what keeps schedulers from looking at it."""
    conditions: Mapping[str, Mapping[str, Any]]
    """The pod's conditions by type."""
    engine: ContainerFacts
    init: tuple[ContainerFacts, ...]
    """Init containers, with the sidecars among them, in the order in which they start."""
    beside: tuple[ContainerFacts, ...]
    """Further containers that start together with the engine."""
    kubelet: KubeletMessage | None = None
    """The newest of kubelet's Events that explains the state; None where there is none, and where none was read."""
    unbound_claims: tuple[str, ...] = ()
    """Claims of its model that have no volume."""
    now: datetime | None = None
    """When it is judged; None where its age is not to be judged."""

    @property
    def is_ready(self) -> bool:
        """Whether the pod takes traffic."""
        return self.condition("Ready").get("status") == "True"

    @property
    def is_scheduled(self) -> bool:
        """Whether the pod has a node."""
        return bool(self.node or self.is_reported) or self.condition("PodScheduled").get("status") == "True"

    @property
    def is_reported(self) -> bool:
        """Whether a kubelet has taken the pod and reports its containers."""
        return bool(self.engine.name or self.init)

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
    def waits_since(self) -> str:
        """Since when a pod that no kubelet has reported waits for what comes next: for its kubelet, or a scheduler."""
        return str(self.condition("PodScheduled").get("lastTransitionTime") or self.created_at)

    @property
    def patience_ends_at(self) -> datetime | None:
        """When waiting for a scheduler or a kubelet becomes a fault; None where the pod waits for neither."""
        since = timestamp(self.waits_since)
        if since is None or self.is_reported or self.condition("PodScheduled").get("status") == "False":
            return None
        return since + PATIENCE

    @property
    def waits_too_long(self) -> bool:
        """Whether that moment has passed."""
        ends = self.patience_ends_at
        return self.now is not None and ends is not None and self.now >= ends

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


def pod_facts(
    pod: Mapping[str, Any],
    kubelet: KubeletMessage | None = None,
    *,
    unbound_claims: Sequence[str] = (),
    now: datetime | None = None,
) -> PodFacts:
    """Read a pod as the API server has it; of its spec only the parts that the cache keeps."""
    status, spec = pod.get("status", {}), pod.get("spec", {})
    sidecars = {found["name"] for found in spec.get("initContainers", []) if found.get("restartPolicy") == _ALWAYS}
    init = [
        _container(found, Role.SIDECAR if found["name"] in sidecars else Role.INIT)
        for found in status.get("initContainerStatuses", [])
    ]
    main = status.get("containerStatuses", [])
    engine: Mapping[str, Any] = next((found for found in main if found["name"] == CONTAINER_NAME), {})
    return PodFacts(
        name=str(pod["metadata"]["name"]),
        created_at=str(pod["metadata"].get("creationTimestamp", "")),
        phase=status.get("phase", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        node=spec.get("nodeName", ""),
        scheduler=spec.get("schedulerName", DEFAULT_SCHEDULER),
        scheduling_gates=tuple(gate["name"] for gate in spec.get("schedulingGates", [])),
        conditions={condition["type"]: condition for condition in status.get("conditions", [])},
        engine=_container(engine, Role.ENGINE),
        init=tuple(init),
        beside=tuple(_container(found, Role.SIDECAR) for found in main if found["name"] != CONTAINER_NAME),
        kubelet=kubelet,
        unbound_claims=tuple(unbound_claims),
        now=now,
    )


def unbound_claims(children: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of the claims among a model's children that have no volume."""
    claims = (child for child in children if child["kind"] == "PersistentVolumeClaim")
    return tuple(str(claim["metadata"]["name"]) for claim in claims if claim.get("status", {}).get("phase") != "Bound")


def is_leaving(pod: Mapping[str, Any]) -> bool:
    """Whether somebody has deleted the pod, and it is on its way out."""
    return "deletionTimestamp" in pod["metadata"]


def is_dead(pod: Mapping[str, Any]) -> bool:
    """Whether all of the pod's containers have ended for good: it was evicted, for one, and another takes its place."""
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def unready_since(pod: Mapping[str, Any]) -> datetime | None:
    """Since when a pod is not ready; None where it is, and where kubelet has not reported it yet."""
    found = pod_facts(pod)
    return timestamp(found.since) if found.condition("Ready").get("status") == "False" else None


def explained_from(pod: Mapping[str, Any]) -> datetime | None:
    """From when on Events explain why a pod is not ready: those about an earlier run of its container do not."""
    found = pod_facts(pod)
    return unready_since(pod) if found.has_served else timestamp(found.engine.running_since) or unready_since(pod)


def _container(found: Mapping[str, Any], role: Role) -> ContainerFacts:
    state = found.get("state", {})
    return ContainerFacts(
        name=found.get("name", ""),
        role=role,
        started=bool(found.get("started")),
        ready=bool(found.get("ready")),
        restarts=found.get("restartCount", 0),
        waiting=state.get("waiting", {}),
        terminated=state.get("terminated") or found.get("lastState", {}).get("terminated") or {},
        running_since=str(state.get("running", {}).get("startedAt", "")),
    )
