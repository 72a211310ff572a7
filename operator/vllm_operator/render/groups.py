"""The LeaderWorkerSet of engines over several nodes: a Deployment's pods and numbers in the shape of that kind.

Leader and workers have one template. Which of them a pod is, it learns from what the controller adds: its number goes
into the engine's command line, and the manager leaves the HTTP server out where that is not 0. So a patch, a kept
template and a rollback mean every pod of a group.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import groups, json_text
from vllm_operator.render.context import NO_CLUSTER, RenderContext
from vllm_operator.render.objects import hashed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec import VLLMModelSpec

RANK: Final = "$(LWS_WORKER_INDEX)"
LEADER_ADDRESS: Final = "$(LWS_LEADER_ADDRESS)"
"""Variables that the controller's webhook puts before all others; kubelet replaces them in a container's args."""

WAIT_FOR_LEADER: Final = "--drain"
NODES: Final = "--nodes"
"""Options of the manager."""


def leader_labels(spec: VLLMModelSpec, context: RenderContext = NO_CLUSTER) -> dict[str, str]:
    """What selects the pods that serve, beside the labels of all pods of the model.

    A model that goes over to one pod an engine has it until no pod of a group is left: those without a server are
    ready, too.
    """
    return dict(groups.LEADER_LABELS) if spec.parallelism.group_size > 1 or context.groups_left else {}


def arguments(spec: VLLMModelSpec) -> list[str]:
    """The engine's arguments for its place in the group; none for an engine in one pod."""
    size = spec.parallelism.group_size
    if size == 1:
        return []
    backend = [] if spec.parallelism.executor_backend else ["--distributed-executor-backend", "mp"]
    return [*backend, "--nnodes", str(size), "--node-rank", RANK, "--master-addr", LEADER_ADDRESS]


def options(spec: VLLMModelSpec) -> list[str]:
    """The manager's options: how many pods there are, and how long a worker waits for requests that its leader ends."""
    size = spec.parallelism.group_size
    if size == 1:
        return []
    return [NODES, str(size), WAIT_FOR_LEADER, str(spec.engine.shutdown_timeout_seconds)]


def placed(model: VLLMModel, rendered: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """The children with a LeaderWorkerSet in place of the Deployment, where an engine has several pods."""
    size = model.spec.parallelism.group_size
    if size == 1:
        return tuple(rendered)
    return tuple(leader_worker_set(one, size) if one["kind"] == "Deployment" else one for one in rendered)


def leader_worker_set(deployment: Mapping[str, Any], size: int) -> dict[str, Any]:
    """The set whose groups of so many pods are the engines of a Deployment."""
    wanted = deployment["spec"]
    return hashed(
        {
            "apiVersion": groups.API_VERSION,
            "kind": groups.KIND,
            "metadata": deployment["metadata"],
            "spec": {
                "replicas": wanted["replicas"],
                "startupPolicy": "LeaderCreated",  # a leader becomes ready only with its workers
                "networkConfig": {"subdomainPolicy": "UniquePerReplica"},  # the model's own Service has the other name
                "rolloutStrategy": {"type": "RollingUpdate", "rollingUpdateConfiguration": _numbers(wanted)},
                "leaderWorkerTemplate": {
                    "size": size,
                    "restartPolicy": "RecreateGroupOnPodRestart",
                    "workerTemplate": _marked(wanted["template"]),
                },
            },
        }
    )


def _numbers(wanted: Mapping[str, Any]) -> dict[str, int]:
    """How groups are replaced. A partition of all groups holds a rollout back; all may go where all are to go first."""
    replicas = wanted["replicas"]
    rolling = wanted["strategy"].get("rollingUpdate") or {"maxSurge": 0, "maxUnavailable": max(replicas, 1)}
    return {
        "maxSurge": rolling["maxSurge"],
        "maxUnavailable": rolling["maxUnavailable"],
        "partition": replicas if wanted.get("paused") else 0,
    }


def _marked(template: Mapping[str, Any]) -> dict[str, Any]:
    metadata = template["metadata"]
    digest = hashlib.sha256(json_text.dumps(template, sort_keys=True)).hexdigest()[:16]
    annotations = {**(metadata.get("annotations") or {}), groups.TEMPLATE_HASH: digest}
    return {**template, "metadata": {**metadata, "annotations": annotations}}
