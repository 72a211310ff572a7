"""The Deployment of the engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.errors import InvalidSpec
from vllm_operator.render import pod, storage
from vllm_operator.render.objects import child
from vllm_operator.render.patch import PatchError, strategic_merge
from vllm_operator.render.surroundings import NO_CLUSTER, Surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.api.resource import VLLMModel

_PROGRESS_MARGIN_SECONDS: Final = 600
"""Time to schedule the pod and pull the image, on top of the engine's own start-up budget."""


def deployment(model: VLLMModel, surroundings: Surroundings = NO_CLUSTER) -> dict[str, Any]:
    """The Deployment.

    A rollout never takes an engine away before its replacement has completed a prompt; only where the cache does not
    let two pods use it, it replaces engines in place.
    """
    in_place = storage.on_one_node(model.spec.storage)
    spec = {
        "replicas": model.spec.replicas,
        "progressDeadlineSeconds": model.spec.gates.startup_budget_seconds + _PROGRESS_MARGIN_SECONDS,
        "revisionHistoryLimit": 3,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 0 if in_place else 1, "maxUnavailable": 1 if in_place else 0},
        },
        "selector": {"matchLabels": names.selector_labels(model.instance)},
        "template": _patched(model, pod.template(model, surroundings)),
    }
    return child(model, api_version="apps/v1", kind="Deployment", name=model.instance, component="engine", spec=spec)


def _patched(model: VLLMModel, template: dict[str, Any]) -> dict[str, Any]:
    """The template as the user wants it.

    Raises:
        InvalidSpec: the patch is none, or takes away what makes the pod an engine of this model.
    """
    patch = model.spec.pod.patch
    if not patch:
        return template
    try:
        patched = strategic_merge(template, patch)
    except PatchError as error:
        raise InvalidSpec([f"spec.pod.patch.{error}"]) from None
    faults = list(_missing(model, patched))
    if faults:
        raise InvalidSpec(faults)
    return patched


def _missing(model: VLLMModel, template: dict[str, Any]) -> Iterator[str]:
    labels = template.get("metadata", {}).get("labels", {})
    if not names.selector_labels(model.instance).items() <= labels.items():
        yield "spec.pod.patch.metadata.labels: Services find the engines by app.kubernetes.io/name and instance"
    containers = template.get("spec", {}).get("containers", [])
    if pod.CONTAINER_NAME not in [container.get("name") for container in containers]:
        yield f"spec.pod.patch.spec.containers: the engine's own container {pod.CONTAINER_NAME} must stay"
