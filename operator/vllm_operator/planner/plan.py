"""What goes into a decision and what comes out of it: frozen data, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from vllm_operator.api.conditions import Reason
    from vllm_operator.planner.lookups import Heard


class ChildKey(NamedTuple):
    """Which child of a model is meant; all live in its namespace."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that a decision about one model may depend on."""

    raw: Mapping[str, Any] | None
    """The resource as the API server has it; None when it is gone."""
    children: Mapping[ChildKey, Mapping[str, Any]]
    """Live objects that are the model's by their label or their owner, wanted or not."""
    pods: tuple[Mapping[str, Any], ...]
    """Pods of its engines."""
    now: datetime
    pod_monitors: bool = False
    """Whether the API server serves PodMonitor."""
    secrets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """The user's Secrets that `spec.auth` names, as far as they can be read, by name."""
    fresh_key: str = field(default="", repr=False)
    """A random key, used where `spec.auth` asks for one and there is none yet."""
    autoscalers: tuple[str, ...] = ()
    """Kind and name of each autoscaler that is known to set the replicas of the Deployment itself."""
    heard: Mapping[str, Heard] = field(default_factory=dict)
    """What kubelet's Events said of pods that are not ready, by uid."""


@dataclass(frozen=True, slots=True)
class NamespaceObservation:
    """Everything that a decision about what the models of a namespace share may depend on."""

    namespace: str
    models: tuple[Mapping[str, Any], ...]
    """All that there are, as the API server has them, with those that are being deleted."""
    shared: Mapping[ChildKey, Mapping[str, Any]]
    """The live ConfigMaps that the models share."""
    now: datetime
    catalog_judged_at: datetime | None = None
    """When the catalogue was last compared with the models; None where it was not since the operator started."""


@dataclass(frozen=True, slots=True)
class Write:
    """An object to apply as a whole."""

    desired: Mapping[str, Any]
    ours: bool
    """Whether the object is known to be the operator's. If not, it is taken only where nobody else has it."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A write that did not go through."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall be done now. The empty plan is a world as desired."""

    writes: tuple[Write, ...] = ()
    deletes: tuple[Mapping[str, Any], ...] = ()
    """Live objects to delete, after all writes: nothing that is written may still refer to them."""
    status: Mapping[str, Any] | None = None
    """The whole new status; None where it stays."""
    look_again_at: datetime | None = None
    """When to decide anew although nothing has changed."""
