"""PodDisruptionBudgets of others: which of them select the engines, and which of these let none of them go, ever. Pure.

A drain asks the API server to evict each pod, and it asks the pod's budget. It counts as `pkg/controller/disruption` of
Kubernetes does: `maxUnavailable` and percentages are of the replicas that the controllers of the selected pods are to
have, rounded up, and a `minAvailable` that is a number is held against the selected pods themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.api.meta import KIND
from vllm_operator.api.names import INSTANCE
from vllm_operator.render.selectors import selects
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Budget:
    """What is kept of a PodDisruptionBudget that somebody else made."""

    name: str
    selector: Mapping[str, Any]
    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    expected_pods: int = 0
    """How many pods its controller expected when the budget was read, those of other workloads too."""
    failed: bool = False
    """Whether its controller cannot say how many may go (`SyncFailed`), so that none may."""

    @property
    def instance(self) -> str:
        """The one model whose engines it can select, by the value of their label; empty where it may be several."""
        return str(part(self.selector, "matchLabels").get(INSTANCE, ""))

    def selects(self, labels: Mapping[str, Any]) -> bool:
        """Whether it is the budget of pods with these labels."""
        return selects(self.selector, labels)

    def why_never(self, replicas: int) -> str:
        """Why it lets none of so many engines go, however well they are; empty where it does.

        Holds nothing that moves by itself. `replicas` is greater than 0.
        """
        expected = replicas if self.instance else max(replicas, self.expected_pods)
        if self.failed:
            return "SyncFailed: its controller cannot count the pods"
        if self.max_unavailable is not None:
            return f"maxUnavailable {self.max_unavailable}" if share(self.max_unavailable, expected) == 0 else ""
        if self.min_available is not None:
            blocked = share(self.min_available, expected) >= expected
            return f"minAvailable {self.min_available} of {replicas} engines" if blocked else ""
        return "it has neither minAvailable nor maxUnavailable"


def share(value: int | str, whole: int) -> int:
    """A count, or a percentage of the whole, rounded up as Kubernetes does for a PodDisruptionBudget."""
    return math.ceil(int(value[:-1]) * whole / 100) if isinstance(value, str) and value.endswith("%") else int(value)


def budget_of(raw: Mapping[str, Any]) -> Budget | None:
    """A PodDisruptionBudget as the API server sent it; None where it is a model's own, or selects nothing.

    One of ours can lose the label by which it is left out of lists, until it is mended.
    """
    metadata, spec, status = raw["metadata"], part(raw, "spec"), part(raw, "status")
    owned = any(owner.get("kind") == KIND for owner in items(metadata, "ownerReferences"))
    if owned or spec.get("selector") is None:
        return None
    conditions = items(status, "conditions")
    return Budget(
        name=metadata["name"],
        selector=part(spec, "selector"),
        min_available=spec.get("minAvailable"),
        max_unavailable=spec.get("maxUnavailable"),
        expected_pods=status.get("expectedPods", 0),
        failed=any(one.get("type") == "DisruptionAllowed" and one.get("reason") == "SyncFailed" for one in conditions),
    )
