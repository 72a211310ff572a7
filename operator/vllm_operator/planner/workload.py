"""What makes the engines of a model: its Deployment, or its LeaderWorkerSet read as one. Pure.

All judgement about engines is one of Deployments. Of a LeaderWorkerSet it sees the same fields, with a group of pods in
place of each pod. How many groups there are is counted by their leaders, which are watched: the set itself is not, and
its status does not say which spec it speaks of.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import groups
from vllm_operator.api.live import LiveObject, ObjectKey
from vllm_operator.api.names import instance_name
from vllm_operator.diagnosis.facts import is_dead, is_leaving, pod_facts
from vllm_operator.planner.rollout import DeploymentStrategy
from vllm_operator.render.rollout import Strategy, expendable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.api.spec.rollout import Rollout
    from vllm_operator.planner.plan import Observation

_DEPLOYMENT: Final = "Deployment"
KINDS: Final = frozenset({_DEPLOYMENT, groups.KIND})
"""Kinds of objects that make engines."""

_IN_PLACE: Final = "an additional group needs as many nodes as it has pods; Surge asks for them"


def live_workload(observation: Observation) -> LiveObject | None:
    """The live object that makes the engines as the spec wants them made, as a Deployment; None where there is none.

    Where nothing can make groups yet, it is the Deployment of before, which goes on.
    """
    instance = instance_name(observation.raw["metadata"]["name"])
    if groups.size_of(observation.raw.get("spec")) == 1:
        return observation.children.get(ObjectKey(_DEPLOYMENT, instance))
    live = observation.children.get(ObjectKey(groups.KIND, instance))
    if live is not None:
        return as_deployment(live, [pod.body for pod in observation.pods])
    return observation.children.get(ObjectKey(_DEPLOYMENT, instance)) if is_missing(observation) else None


def is_missing(observation: Observation) -> bool:
    """Whether the spec wants groups of pods, and the API server does not know what makes them."""
    return groups.size_of(observation.raw.get("spec")) > 1 and not observation.leader_worker_sets


def serving_pods(pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The pods that stand for engines: those of one pod each, and the leaders of groups."""
    return [pod for pod in pods if groups.is_leader(pod) or not groups.is_of_group(pod)]


def planned_of_groups(desired: Mapping[str, Any], wanted: Rollout) -> DeploymentStrategy:
    """How groups are replaced: their own controller leads a rollout, so its numbers are always those of one at rest."""
    replicas = int(desired["spec"]["replicas"])
    given = "InPlace" if wanted.strategy == "Auto" else wanted.strategy
    strategy = Strategy(given)
    return DeploymentStrategy(
        strategy=strategy,
        replicas=replicas,
        max_surge=int(strategy is Strategy.SURGE),
        max_unavailable=expendable(strategy, wanted, replicas),
        paused=wanted.paused,
        reason=_IN_PLACE if wanted.strategy == "Auto" else "spec.rollout.strategy says so",
    )


def as_deployment(live: LiveObject, pods: Sequence[Mapping[str, Any]]) -> LiveObject:
    """A LeaderWorkerSet read as a Deployment, whose status is counted by the pods of the model."""
    spec = live.body.get("spec") or {}
    numbers = (spec.get("rolloutStrategy") or {}).get("rollingUpdateConfiguration") or {}
    template = spec["leaderWorkerTemplate"]["workerTemplate"]
    replicas = int(spec.get("replicas", 1))
    body = {
        **live.body,
        "apiVersion": "apps/v1",
        "kind": _DEPLOYMENT,
        "spec": {
            "replicas": replicas,
            "paused": bool(numbers.get("partition")),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": numbers},
            "template": _unmarked(template),
        },
        "status": _status(live, groups.template_hash_of(template), replicas, pods),
    }
    return replace(live, kind=_DEPLOYMENT, content=body)


def _status(live: LiveObject, newest: str, replicas: int, pods: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a Deployment's controller would tell of the groups that exist."""
    leaders = [pod for pod in pods if groups.is_leader(pod) and not _is_over(pod)]
    ready = sum(pod_facts(leader).is_ready for leader in leaders)
    return {
        "observedGeneration": live.generation,
        "replicas": len(leaders),
        "updatedReplicas": sum(groups.template_hash_of(leader) == newest for leader in leaders),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(replicas, len(leaders)) - ready,
    }


def _is_over(pod: Mapping[str, Any]) -> bool:
    return is_leaving(pod) or is_dead(pod)


def _unmarked(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template without the mark that only a group's has."""
    metadata = template["metadata"]
    kept = {key: text for key, text in (metadata.get("annotations") or {}).items() if key != groups.TEMPLATE_HASH}
    return {**template, "metadata": {**metadata, "annotations": kept}}
