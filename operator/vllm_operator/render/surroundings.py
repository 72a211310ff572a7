"""What the children depend on beside the spec."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the cluster adds to a spec. The default is that of a file that is rendered without a cluster."""

    api_key: str = field(default="", repr=False)
    """First API key of the engines, as clients get it through the binding Secret; empty: none, or not known yet."""
    pod_monitors: bool = False
    """Whether the API server serves PodMonitor of monitoring.coreos.com/v1."""
    claims_of_others: frozenset[str] = frozenset()
    """Names of claims that the specs of other models in the namespace mount."""
    one_node_claims: frozenset[str] = frozenset()
    """Names of claims that the spec mounts and that pods on two nodes cannot use at the same time."""


NO_CLUSTER: Final = Surroundings()
"""What a file is rendered with."""
