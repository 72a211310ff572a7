"""When a rollout may give up engines that do not serve: where they keep out the ones that replace them. Pure.

With maxUnavailable 0, the Deployment's controller scales no pod of an older revision down before a pod of the newest
one is available, crashing ones included (`reconcileOldReplicaSets` in kubernetes/pkg/controller/deployment/rolling.go).
A revision that crashes and holds the last GPUs then keeps the corrected one Pending for ever. A larger maxUnavailable
lets that controller clean up: it takes unavailable pods first, and available ones only as far as more of them are
there than replicas - maxUnavailable. So the number is chosen such that all that serve now are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.diagnosis.engines import report
from vllm_operator.diagnosis.facts import is_dead, is_leaving, pod_facts
from vllm_operator.render.deployment import strategy
from vllm_operator.render.objects import hashed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.api.live import LiveObject

REVISION: Final = "pod-template-hash"
"""Label that the Deployment's controller gives to the pods of one revision."""


def is_through(deployment: LiveObject) -> bool:
    """Whether every engine that exists is of the newest template, as the Deployment's controller has seen it."""
    status = deployment.status
    seen = status.get("observedGeneration", 0) >= deployment.generation
    return bool(seen and status.get("replicas", 0) == status.get("updatedReplicas", 0))


def unblocked(
    desired: Mapping[str, Any], live: Mapping[str, Any] | None, engine_pods: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any]:
    """The desired Deployment, with a strategy that ends a deadlock where there is one.

    It depends on what is seen and on nothing that was decided before, and goes back by itself: once the pods in the
    way are gone, there is no deadlock.
    """
    expendable = may_be_unavailable(desired["spec"]["replicas"], live or {}, engine_pods)
    rolling = desired["spec"]["strategy"]["rollingUpdate"]
    if expendable <= rolling["maxUnavailable"]:
        return desired
    spec = {**desired["spec"], "strategy": strategy(surge=rolling["maxSurge"], unavailable=expendable)}
    return hashed({**desired, "spec": spec})


def may_be_unavailable(replicas: int, live: Mapping[str, Any], engine_pods: Sequence[Mapping[str, Any]]) -> int:
    """How many engines a rollout may do without; 0 where nothing has to give way.

    An engine that has served and is withdrawn for a moment may come back, and the controller knows no difference
    between it and one that crashes: as long as there is one, everything stays.
    """
    status = live.get("status", {})
    living = [pod for pod in engine_pods if not is_leaving(pod)]
    states = [report(pod).state for pod in living]
    if status.get("updatedReplicas", 0) == status.get("replicas", 0) or EngineState.WITHDRAWN in states:
        return 0
    if not _blocked(status, living):
        return 0
    serving: int = max(status.get("readyReplicas", 0), states.count(EngineState.SERVING))
    return max(replicas - serving, 0)


def _blocked(status: Mapping[str, Any], living: Sequence[Mapping[str, Any]]) -> bool:
    """Whether engines that do not serve hold what a pod of another revision waits for: a place, or the quota."""
    holders = {_revision(pod) for pod in living if _holds_a_node(pod) and not _serves(pod)}
    if holders and _replicas_refused(status):
        return True
    waiting = {_revision(pod) for pod in living if _scheduled(pod) == "False"}
    return any(one != other for one in waiting for other in holders)


def _replicas_refused(status: Mapping[str, Any]) -> bool:
    """Whether a pod cannot be made at all, and none of the newest revision is there."""
    failing = any(
        condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        for condition in status.get("conditions", [])
    )
    return failing and not status.get("updatedReplicas", 0)


def _holds_a_node(pod: Mapping[str, Any]) -> bool:
    return not is_dead(pod) and _scheduled(pod) == "True"


def _scheduled(pod: Mapping[str, Any]) -> str:
    return str(pod_facts(pod).condition("PodScheduled").get("status", ""))


def _serves(pod: Mapping[str, Any]) -> bool:
    return report(pod).state is EngineState.SERVING


def _revision(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("labels", {}).get(REVISION, ""))
