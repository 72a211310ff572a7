"""What one pod says, as frozen data that policies can judge. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import by_type
from vllm_operator.api.names import QUEUE
from vllm_operator.diagnosis.engine_status import EngineStatus, NoAnswer
from vllm_operator.diagnosis.events import KubeletMessage, timestamp
from vllm_operator.diagnosis.placement import Placement
from vllm_operator.diagnosis.queues import GATES, Admission
from vllm_operator.render.manager import PORT_NAME
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

Finding = KubeletMessage | Placement | Admission | EngineStatus | NoAnswer
"""What a lookup brings: why no node takes the pod, or its queue does not admit it, kubelet's words where the containers
do not run, else those of the manager in the pod."""

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
class DeviceClaimFacts:
    """One claim of a pod for devices: of a ResourceClaim that is there, or of one that is made of a template."""

    claim: str
    """The ResourceClaim; empty where none has been made of the template."""
    template: str
    """The ResourceClaimTemplate; empty where the pod names a claim."""


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
    queue: str
    """Kueue's LocalQueue that the pod's label names; empty where it has none."""
    conditions: Mapping[str, Mapping[str, Any]]
    """The pod's conditions by type."""
    engine: ContainerFacts
    init: tuple[ContainerFacts, ...]
    """Init containers, with the sidecars among them, in the order in which they start."""
    beside: tuple[ContainerFacts, ...]
    """Further containers that start together with the engine."""
    address: str = ""
    """IP address of the pod; empty where it has none yet."""
    gate_port: int = 0
    """Port of the manager in the pod; 0 where there is none, as in a pod of an older template."""
    finding: Finding | None = None
    """What the newest lookup of this pod said; None where it said nothing, and where there was none."""
    unbound_claims: tuple[str, ...] = ()
    """Claims of its model that have no volume."""
    device_claims: tuple[DeviceClaimFacts, ...] = ()
    """Its claims of devices."""
    now: datetime | None = None
    """When it is judged; None where its age is not to be judged."""
    model_spec: Mapping[str, Any] = field(default_factory=dict)
    """The spec of its model as it was applied, to say which field names what is missing; empty where it is not known.
    """

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
        return str(self.condition("Ready").get("lastTransitionTime") or "")

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
    def manager(self) -> EngineStatus | None:
        """What the manager in the pod says; None where it was not asked, or did not answer."""
        return self.finding if isinstance(self.finding, EngineStatus) else None

    @property
    def unanswered(self) -> str:
        """Why the manager in the pod says nothing; empty where it was not asked."""
        return self.finding.sentence if isinstance(self.finding, NoAnswer) else ""

    @property
    def kubelet_says(self) -> str:
        """What keeps kubelet from starting the containers; empty where nothing is known."""
        return self.finding.text if isinstance(self.finding, KubeletMessage) else ""

    @property
    def placement(self) -> Placement | None:
        """What was found of why no node takes it; None where nobody has looked."""
        return self.finding if isinstance(self.finding, Placement) else None

    @property
    def admission(self) -> Admission | None:
        """What its queue says of it; None where nobody has looked."""
        return self.finding if isinstance(self.finding, Admission) else None

    @property
    def is_queued(self) -> bool:
        """Whether a queue of Kueue holds it back."""
        return not GATES.isdisjoint(self.scheduling_gates)

    @property
    def life(self) -> str:
        """What a finding is about: one process of the engine, between two changes of its readiness."""
        return f"{self.engine.running_since} {self.since}"

    def condition(self, kind: str) -> Mapping[str, Any]:
        """The pod's condition of a type; empty where nobody has reported it yet."""
        return self.conditions.get(kind, {})


def pod_facts(
    pod: Mapping[str, Any],
    finding: Finding | None = None,
    *,
    unbound_claims: Sequence[str] = (),
    now: datetime | None = None,
    model_spec: Mapping[str, Any] | None = None,
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
        created_at=str(pod["metadata"].get("creationTimestamp") or ""),
        phase=status.get("phase", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        node=spec.get("nodeName", ""),
        scheduler=spec.get("schedulerName", DEFAULT_SCHEDULER),
        scheduling_gates=tuple(gate["name"] for gate in spec.get("schedulingGates", [])),
        queue=str((pod["metadata"].get("labels") or {}).get(QUEUE) or ""),
        conditions=by_type(status),
        engine=_container(engine, Role.ENGINE),
        init=tuple(init),
        beside=tuple(_container(found, Role.SIDECAR) for found in main if found["name"] != CONTAINER_NAME),
        address=str(status.get("podIP") or ""),
        gate_port=gate_port(spec),
        finding=finding,
        unbound_claims=tuple(unbound_claims),
        device_claims=_device_claims(spec, status),
        now=now,
        model_spec=model_spec or {},
    )


def unbound_claims(children: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of the claims among a model's children that have no volume."""
    claims = (child for child in children if child["kind"] == "PersistentVolumeClaim")
    return tuple(str(claim["metadata"]["name"]) for claim in claims if claim.get("status", {}).get("phase") != "Bound")


def gate_port(spec: Mapping[str, Any]) -> int:
    """Port of the manager as the spec of this very pod has it, and not the model's of today; 0 where there is none."""
    engine = (container for container in spec.get("containers", []) if container.get("name") == CONTAINER_NAME)
    ports = (port for container in engine for port in container.get("ports") or ())
    return next((int(port["containerPort"]) for port in ports if port.get("name") == PORT_NAME), 0)


def is_leaving(pod: Mapping[str, Any]) -> bool:
    """Whether somebody has deleted the pod, and it is on its way out."""
    return "deletionTimestamp" in pod["metadata"]


def is_dead(pod: Mapping[str, Any]) -> bool:
    """Whether all of the pod's containers have ended for good: it was evicted, for one, and another takes its place."""
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def set_up_since(pod: Mapping[str, Any]) -> datetime | None:
    """Since when kubelet makes what a pod's containers need; None where it has not reported the pod yet."""
    return timestamp(pod_facts(pod).since)


def _device_claims(spec: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[DeviceClaimFacts, ...]:
    made = {one["name"]: one.get("resourceClaimName") for one in status.get("resourceClaimStatuses") or ()}
    return tuple(
        DeviceClaimFacts(
            claim=str(one.get("resourceClaimName") or made.get(one["name"]) or ""),
            template=str(one.get("resourceClaimTemplateName") or ""),
        )
        for one in spec.get("resourceClaims") or ()
    )


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
        running_since=str(state.get("running", {}).get("startedAt") or ""),
    )
