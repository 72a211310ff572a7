"""What goes into a decision and what comes out of it: frozen data, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from vllm_operator.api.names import OPERATOR_NAMESPACE
from vllm_operator.planner.claims import NO_CLAIMS, ClaimsSeen
from vllm_operator.planner.news import NO_EVENTS, EventHistory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from vllm_operator.api.live import LiveObject, ObjectKey
    from vllm_operator.diagnosis.cause import Lookup
    from vllm_operator.diagnosis.lookups import PodLookup
    from vllm_operator.diagnosis.queues import Eviction
    from vllm_operator.planner.attempts import Attempts
    from vllm_operator.planner.autoscalers import Rival
    from vllm_operator.planner.budgets import Budget
    from vllm_operator.planner.deletion_costs import DeletionCost
    from vllm_operator.planner.fit import Estimated
    from vllm_operator.planner.news import News
    from vllm_operator.planner.policies import Policy
    from vllm_operator.planner.prefetch import JobChange, PrefetchSeen


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that a decision about one model may depend on."""

    model: LiveObject | None
    """The resource as the API server has it; None when it is gone."""
    children: Mapping[ObjectKey, LiveObject]
    """Live objects that are the model's by their label or their owner, wanted or not."""
    pods: tuple[LiveObject, ...]
    """Pods of its engines."""
    now: datetime
    attempts: Attempts = field(default_factory=dict)
    """What came of the last write or deletion of each child."""
    events: EventHistory = NO_EVENTS
    """What Events have told of the model in the last minutes."""
    operator_namespace: str = OPERATOR_NAMESPACE
    """Namespace in which the operator runs."""
    release: str = ""
    """Name of the operator's release; empty for the default one."""
    pod_monitors: bool = False
    """Whether the API server serves PodMonitor."""
    kueue: bool = False
    """Whether the API server serves what Kueue works with."""
    leader_worker_sets: bool = False
    """Whether the API server serves LeaderWorkerSet."""
    resource_claims: bool = True
    """Whether the API server serves the claims of Dynamic Resource Allocation."""
    secrets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """The user's Secrets that `spec.auth` names, as far as they can be read, by name."""
    fresh_key: str = field(default="", repr=False)
    """A random key, used where `spec.auth` asks for one and there is none yet."""
    lookups: Mapping[str, PodLookup] = field(default_factory=dict)
    """What lookups brought of pods that do not say themselves why they are not ready, by the pod's uid."""
    lookup_turns: Mapping[Lookup, datetime] = field(default_factory=dict)
    """When the budgets let more lookups be made, by the kind of those that wait for it."""
    claims: ClaimsSeen = NO_CLAIMS
    """What has to be known of claims beside the children."""
    autoscalers: tuple[str, ...] = ()
    """Kind and name of each autoscaler that is known to set the replicas of the Deployment itself."""
    scaled_objects: bool = False
    """Whether the API server serves ScaledObject of KEDA."""
    custom_metrics: bool = False
    """Whether the API server serves the API of custom metrics."""
    prometheus_address: str = ""
    """URL of the Prometheus that KEDA asks, where a spec names none."""
    rivals: tuple[Rival, ...] = ()
    """Autoscalers of others that aim at the model, as they were when they were last listed."""
    budgets: tuple[Budget, ...] = ()
    """PodDisruptionBudgets of others that may select the engines, by name, as they were when they were last listed."""
    policies: tuple[Policy, ...] = ()
    """NetworkPolicies of others that may select the engines, by name, likewise."""
    estimated: Estimated | None = None
    """What spec.estimate tells; None where it is not set, or cannot be asked now."""
    prefetch: PrefetchSeen | None = None
    """The Jobs that fill claims; None where the model is not concerned, or they were not looked at."""
    evicted: Eviction | None = None
    """The last pod that Kueue was seen to take away."""
    told_at: datetime | None = None
    """When the last status of this model was written; None where this process has written none."""
    applied_template: Mapping[str, Any] | None = None
    """The pod template that the operator has applied to the live Deployment, without what others added; None where
    nobody asked for it."""
    catalogued: frozenset[str] = frozenset()
    """Names of the adapters that the namespace's catalogue lists for the model; looked up where one is to go."""
    requests: Mapping[str, float] | None = None
    """Requests that each engine works on, by its pod's uid, as far as its manager says; None where nobody was asked."""

    @property
    def raw(self) -> Mapping[str, Any]:
        """The resource's body; empty when it is gone."""
        return self.model.body if self.model else {}


@dataclass(frozen=True, slots=True)
class NamespaceObservation:
    """Everything that a decision about what the models of a namespace share may depend on."""

    namespace: str
    models: tuple[LiveObject, ...]
    """All that there are, with those that are being deleted."""
    shared: Mapping[ObjectKey, LiveObject]
    """The live ConfigMaps that the models share."""
    now: datetime
    attempts: Attempts = field(default_factory=dict)
    """What came of the last write or deletion of each."""
    release: str = ""
    """Name of the operator's release; empty for the default one."""
    engines_left: bool = False
    """Whether a Deployment that the operator made is there, with or without its model."""
    catalog_judged_at: datetime | None = None
    """When the catalogue was last compared with the models; None where it was not since the operator started."""


class Wave(IntEnum):
    """Writes of one wave go out side by side; the next wave begins when all of them are through."""

    FIRST = 0
    """The one child that is made before all others: where two operators follow one model, one of them gets it, and the
    other one has made nothing yet."""
    NEEDED = 1
    """What pods need to start, and the Services, whose names may be somebody else's."""
    ENGINES = 2
    """The Deployment."""
    REST = 3
    """What selects or watches pods that exist."""


@dataclass(frozen=True, slots=True)
class Write:
    """An object to apply as a whole."""

    desired: Mapping[str, Any] = field(repr=False)
    ours: bool
    """Whether the object is known to be the operator's. If not, it is taken only where nobody else has it."""
    reason: str = field(compare=False)
    """Why it is written, for logs and people: `missing`, or the fields that differ."""
    wave: Wave = field(default=Wave.REST, compare=False)
    counted_by: str = field(default="", compare=False)
    """Which writes are repeats of one another; empty where those of the same desired object are."""
    step: bool = field(default=False, compare=False)
    """Whether everything is there that was written before: this follows from it, and repairs nothing."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """An object to delete: this very one, and none that has its name by then."""

    live: LiveObject
    reason: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class PodMark:
    """Annotations to merge into a pod. It is a wish: nothing depends on it."""

    pod: LiveObject
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall be done now. The empty plan is a world as desired."""

    to_ask: tuple[LiveObject, ...] = ()
    """Engines whose managers are to be asked how much they have to do, before anything else: with their answers is
    decided anew."""
    costs: tuple[DeletionCost, ...] = ()
    """What pods shall cost, right before the Deployment is written: its controllers take the cheapest away first."""
    writes: tuple[Write, ...] = ()
    releases: tuple[LiveObject, ...] = ()
    """Claims to hand over to whoever mounts them: they lose their owner, and nothing else."""
    jobs: tuple[JobChange, ...] = ()
    """What to do about Jobs that fill claims, after the writes: their pods need what is written."""
    deletions: tuple[Deletion, ...] = ()
    """After all writes, and only where all went through: nothing that is written may still refer to them."""
    status: Mapping[str, Any] | None = None
    """The whole new status; None where it stays."""
    to_call: tuple[PodMark, ...] = ()
    """Pods whose kubelet is to bring changed files at once: it does when a pod changes, and else within two minutes."""
    news: News | None = None
    """What the new status says that an Event shall tell."""
    look_again_at: datetime | None = None
    """When to decide anew although nothing has changed."""

    @property
    def changes(self) -> bool:
        """Whether objects are to be written, handed over or deleted."""
        return bool(self.writes or self.releases or self.deletions or self.jobs)
