"""Engines over several nodes: a group of pods each, which the controller of a LeaderWorkerSet makes and labels.

Names are those of leaderworkerset.x-k8s.io/v1 (sigs.k8s.io/lws v0.8.0, api/leaderworkerset/v1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.meta import GROUP

if TYPE_CHECKING:
    from collections.abc import Mapping

API_VERSION: Final = "leaderworkerset.x-k8s.io/v1"
KIND: Final = "LeaderWorkerSet"

SET_NAME: Final = "leaderworkerset.sigs.k8s.io/name"
GROUP_INDEX: Final = "leaderworkerset.sigs.k8s.io/group-index"
WORKER_INDEX: Final = "leaderworkerset.sigs.k8s.io/worker-index"
"""Labels of a pod: its LeaderWorkerSet, the number of its group, and its own number in there; the leader's is 0."""

LEADER: Final = "0"
LEADER_LABELS: Final = {WORKER_INDEX: LEADER}
"""Select the pods that serve HTTP: those of the other numbers run without a server (`--headless`)."""

TEMPLATE_HASH: Final = f"{GROUP}/template-hash"
"""Annotation of a group's pods: hash of the template that they were made of. The controller's own label of that kind is
one of its revision, which only the controller can work out."""

INSTALL: Final = (
    "kubectl apply --server-side -f https://github.com/kubernetes-sigs/lws/releases/download/v0.8.0/manifests.yaml"
)
"""What installs the kind and its controller."""


def size_of(spec: Mapping[str, Any] | None) -> int:
    """Pods of one engine, by a spec as it was applied; 1 where it does not say, or nothing to go by."""
    parallelism = (spec or {}).get("parallelism")
    nodes = parallelism.get("nodes") if isinstance(parallelism, dict) else None
    return nodes if isinstance(nodes, int) and nodes > 1 else 1


def is_of_group(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is one of a group."""
    return WORKER_INDEX in _labels(pod)


def is_leader(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is the one of its group that serves."""
    return _labels(pod).get(WORKER_INDEX) == LEADER


def group_of(pod: Mapping[str, Any]) -> str:
    """What the pods of one group have in common; empty for a pod that is none of a group."""
    labels = _labels(pod)
    return f"{labels.get(SET_NAME, '')}/{labels.get(GROUP_INDEX, '')}" if WORKER_INDEX in labels else ""


def template_hash_of(template: Mapping[str, Any]) -> str:
    """The hash that a pod, or a template of a group's pods, carries; empty where it has none."""
    return str((template["metadata"].get("annotations") or {}).get(TEMPLATE_HASH, ""))


def _labels(pod: Mapping[str, Any]) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}
