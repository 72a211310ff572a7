"""A model whose engines have several pods, its LeaderWorkerSet and its pods, for tests without an API server."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from tests.support.resources import live, observation, pod, resource
from vllm_operator.api import groups
from vllm_operator.api.live import ObjectKey, key_of
from vllm_operator.planner.decide import decide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.planner.plan import Observation, Plan

SET: Final = ObjectKey(groups.KIND, "qwen")


def grouped(*, replicas: int = 1, nodes: int = 2, **spec: Any) -> dict[str, Any]:
    """A model of so many groups of so many pods."""
    return resource(replicas=replicas, parallelism={"tensor": nodes, "nodes": nodes}, **spec)


def member(number: int, *, group: int = 0, template: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A pod of a group of the model; number 0 leads."""
    name = f"qwen-{group}" + (f"-{number}" if number else "")
    found = pod(name, **fields)
    found["metadata"]["labels"] |= {
        groups.SET_NAME: "qwen",
        groups.GROUP_INDEX: str(group),
        groups.WORKER_INDEX: str(number),
    }
    if template is not None:
        found["metadata"]["annotations"] = copy.deepcopy(template["metadata"]["annotations"])
    return found


def seen(
    raw: Mapping[str, Any],
    children: Mapping[ObjectKey, Mapping[str, Any]] | None = None,
    *pods: Mapping[str, Any],
    served: bool = True,
) -> Observation:
    """What is observed of such a model; `served` says whether the cluster has LeaderWorkerSets."""
    return observation(dict(raw), dict(children or {}), *pods, leader_worker_sets=served)


def settled(raw: Mapping[str, Any]) -> dict[ObjectKey, dict[str, Any]]:
    """The model's children once all of them are written."""
    return {key_of(write.desired): live(write.desired) for write in decide(seen(raw)).writes}


def template_of(children: Mapping[ObjectKey, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The template of the pods of the model's groups."""
    found: Mapping[str, Any] = children[SET]["spec"]["leaderWorkerTemplate"]["workerTemplate"]
    return found


def written(plan: Plan) -> dict[ObjectKey, Mapping[str, Any]]:
    """What a plan writes, by kind and name."""
    return {key_of(write.desired): write.desired for write in plan.writes}
