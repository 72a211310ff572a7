"""What the children depend on beside the spec."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from vllm_operator.api.names import OPERATOR_NAMESPACE
from vllm_operator.api.spec.autoscaling import DEFAULT_LOAD_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.render.adapters import AdapterList


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """Which API keys the engines were started with, as the operator remembers it in a Secret of its own."""

    DIGESTS: ClassVar[str] = "digests"
    CHANGED_AT: ClassVar[str] = "changed-at"
    """The entries of the Secret."""

    digests: Mapping[str, str] = field(repr=False)
    """Digest of each key, by the place where the key is; empty where it has not been readable yet."""
    changed_at: str = ""
    """When one of them last changed in its place, in RFC 3339; empty while none has."""


@dataclass(frozen=True, slots=True)
class RenderContext:
    """What the cluster adds to a spec. The default is that of a file that is rendered without a cluster."""

    api_key: str = field(default="", repr=False)
    """First API key of the engines, as clients get it through the binding Secret; empty: none, or not known yet."""
    key_record: KeyRecord | None = field(default=None, repr=False)
    """What is to be remembered of all keys; None: nothing."""
    keys_changed_at: str = ""
    """When the keys changed, for the pods' annotation; empty: they have not since the engines were made."""
    operator_namespace: str = OPERATOR_NAMESPACE
    """Namespace in which the operator runs."""
    release: str = ""
    """Name of the operator's release; empty for the default one."""
    pod_monitors: bool = False
    """Whether the API server serves PodMonitor of monitoring.coreos.com/v1."""
    groups_left: bool = False
    """Whether pods of groups are there that nobody has asked to end: those without a server are ready, too."""
    autoscaler: str = ""
    """Kind of the autoscaler that the cluster can have of the model: ScaledObject or HorizontalPodAutoscaler."""
    prometheus_address: str = ""
    """URL of the Prometheus that KEDA asks, where the spec names none."""
    load_seconds: int = DEFAULT_LOAD_SECONDS
    """How long an engine takes from its pod to its first completed prompt."""
    adapters: AdapterList | None = None
    """The list of adapters that engines are told while they run; None for that of the spec."""
    served_adapters: tuple[str, ...] = ()
    """Names of the adapters that every engine serves, for clients."""
    claims_of_others: frozenset[str] = frozenset()
    """Names of claims that the specs of other models in the namespace mount."""
    one_node_claims: frozenset[str] = frozenset()
    """Names of claims that the spec mounts and that pods on two nodes cannot use at the same time."""


NO_CLUSTER: Final = RenderContext()
"""What a file is rendered with."""
