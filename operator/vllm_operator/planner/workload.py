"""What makes the engines of a model: its Deployment, or its LeaderWorkerSet read as one. Pure.

All judgement about engines is one of Deployments. Of a LeaderWorkerSet it sees the same fields, with a group of pods in
place of each pod. How many groups there are is counted by their leaders, which are watched: the set itself is not, and
its status does not say which spec it speaks of.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import groups
from vllm_operator.api.conditions import Reason
from vllm_operator.api.live import LiveObject, ObjectKey
from vllm_operator.api.names import instance_name
from vllm_operator.diagnosis.events import timestamp
from vllm_operator.diagnosis.facts import is_dead, is_leaving, pod_facts
from vllm_operator.diagnosis.fleet import unfinished
from vllm_operator.planner.rollout import DeploymentStrategy, resting_numbers
from vllm_operator.render.rollout import ONE_NODE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec.rollout import Rollout
    from vllm_operator.diagnosis.fleet import Outcome
    from vllm_operator.planner.plan import Observation

_DEPLOYMENT: Final = "Deployment"
KINDS: Final = frozenset({_DEPLOYMENT, groups.KIND})
"""Kinds of objects that make engines."""

_CONTROLLER_PATIENCE: Final = timedelta(seconds=60)
"""A controller that works answers within a second."""

_SILENT: Final = (
    "nothing makes pods of the model's LeaderWorkerSet: see whether its controller runs "
    "(`kubectl get pods -n lws-system`), or install it with "
    f"`{groups.INSTALL}`"
)
_ONE_CLAIM: Final = (
    "spec.parallelism.nodes: pods on two nodes cannot mount the claim, which is for one node: with "
    "storage.cache.persistentVolumeClaim.accessModes [ReadWriteMany] they can"
)
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


def live_of_spec(model: VLLMModel, observation: Observation) -> LiveObject | None:
    """The live object of the kind that the spec asks for, as it is; None where there is none."""
    kind = groups.KIND if model.spec.parallelism.group_size > 1 else _DEPLOYMENT
    return observation.children.get(ObjectKey(kind, model.instance))


def is_missing(observation: Observation) -> bool:
    """Whether the spec wants groups of pods, and the API server does not know what makes them."""
    return groups.size_of(observation.raw.get("spec")) > 1 and not observation.leader_worker_sets


def silent_controller(observation: Observation) -> Outcome | None:
    """That the cluster has LeaderWorkerSets, and nothing that makes pods of them; None where that is not so."""
    since = _unanswered_since(observation)
    if since is None or observation.now < since + _CONTROLLER_PATIENCE:
        return None
    return unfinished(Reason.LEADER_WORKER_SET_MISSING, _SILENT)


def controller_judged_again_at(observation: Observation) -> datetime | None:
    """When nothing will have been made of a LeaderWorkerSet for too long; None where that is over, or something was."""
    since = _unanswered_since(observation)
    due = None if since is None else since + _CONTROLLER_PATIENCE
    return due if due is not None and due > observation.now else None


def _unanswered_since(observation: Observation) -> datetime | None:
    """When a LeaderWorkerSet was made of which its controller has said nothing yet."""
    live = observation.children.get(ObjectKey(groups.KIND, instance_name(observation.raw["metadata"]["name"])))
    if live is None or live.status or groups.size_of(observation.raw.get("spec")) == 1:
        return None
    return timestamp(live.body["metadata"].get("creationTimestamp"))


def group_warnings(observation: Observation, excluded: str) -> list[str]:
    """What keeps the pods of one group apart from each other's nodes; `excluded` is what keeps engines apart."""
    if groups.size_of(observation.raw.get("spec")) == 1 or excluded != ONE_NODE:
        return []
    return [_ONE_CLAIM]


def are_groups_left(observation: Observation) -> bool:
    """Whether pods of groups are there that nobody has asked to end."""
    return any(groups.is_of_group(pod.body) and not _is_over(pod.body) for pod in observation.pods)


def serving_pods(pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The pods that stand for engines: those of one pod each, and the leaders of groups."""
    return [pod for pod in pods if groups.is_leader(pod) or not groups.is_of_group(pod)]


def planned_of_groups(desired: Mapping[str, Any], wanted: Rollout) -> DeploymentStrategy:
    """How groups are replaced: their own controller leads a rollout, so its numbers are always those of one at rest."""
    resting = resting_numbers(wanted, int(desired["spec"]["replicas"]), _IN_PLACE)
    reason = _IN_PLACE if wanted.strategy == "Auto" else "spec.rollout.strategy says so"
    return replace(resting, paused=wanted.paused, reason=reason)


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
