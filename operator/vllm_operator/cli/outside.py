"""What a spec says that has no meaning outside Kubernetes: told, so that nothing is left out without a word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.api.resource import VLLMModel

ONLY_IN_A_CLUSTER: Final = (
    "autoscaling",
    "scheduling",
    "network",
    "ingress",
    "disruption",
    "monitoring",
    "rollout",
    "catalog",
    "estimate",
    "service.type",
    "service.annotations",
    "service.nodePort",
    "service.targetPort",
    "service.appProtocol",
    "accelerator.resource",
    "accelerator.memory",
    "accelerator.resourceClaims",
    "pod.labels",
    "pod.annotations",
    "pod.hostNetwork",
    "pod.imagePullSecrets",
    "pod.serviceAccountName",
    "pod.serviceAccountAnnotations",
    "pod.initContainers",
    "pod.sidecars",
)
ONLY_IN_A_CONTAINER: Final = (
    "engine.image",
    "engine.imagePullPolicy",
    "engine.shutdownDelaySeconds",
    "replicas",
    "suspend",
    "resources",
    "storage",
    "service.port",
    "gates",
    "accelerator.profile",
    "accelerator.count",
    "pod.securityContext",
    "pod.containerSecurityContext",
    "pod.terminationGracePeriodSeconds",
)


def set_fields(model: VLLMModel, paths: Iterable[str]) -> list[str]:
    """The paths, of those given, that the spec sets to something else than the default."""
    spec = model.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return [f"spec.{path}" for path in paths if _is_set(spec, path.split("."))]


def _is_set(part: Any, path: list[str]) -> bool:
    for name in path:
        if not isinstance(part, dict) or name not in part:
            return False
        part = part[name]
    return True


def comment(text: str) -> str:
    """The text as what a comment can hold: one line of what can be printed."""
    return re.sub(r"[^\x20-\x7e\u00a0-\ud7ff\ue000-\ufffd]+", " ", " ".join(text.split()))
