"""The Deployment of the engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.claims import claims_of_pod
from vllm_operator.render import storage
from vllm_operator.render.context import NO_CLUSTER
from vllm_operator.render.exclusive import one_per_node
from vllm_operator.render.objects import child
from vllm_operator.render.promises import finished_template

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.render.context import RenderContext

_PROGRESS_MARGIN_SECONDS: Final = 600
"""Time to schedule the pod and pull the image, on top of the engine's own start-up budget."""


def deployment(model: VLLMModel, context: RenderContext = NO_CLUSTER) -> dict[str, Any]:
    """The Deployment.

    A rollout never takes an engine away before its replacement has completed a prompt. Only where two engines cannot
    be there at the same time, because of the cache or of what they take of a node, it replaces them in place.

    Raises:
        InvalidSpec: the user's patch of the pods does not fit them.
    """
    template = finished_template(model, context)
    on_one_node = storage.on_one_node(model.spec.storage) or claims_of_pod(template) & context.one_node_claims
    in_place = on_one_node or one_per_node(template)
    spec = {
        "replicas": model.spec.replicas,
        "progressDeadlineSeconds": model.spec.gates.startup_budget_seconds + _PROGRESS_MARGIN_SECONDS,
        "revisionHistoryLimit": 3,
        "strategy": strategy(surge=0 if in_place else 1, unavailable=1 if in_place else 0),
        "selector": {"matchLabels": names.selector_labels(model.instance)},
        "template": template,
    }
    return child(model, api_version="apps/v1", kind="Deployment", name=model.instance, component="engine", spec=spec)


def strategy(*, surge: int, unavailable: int) -> dict[str, Any]:
    """How a rollout replaces engines: how many it may add, and how many it may take away first."""
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
