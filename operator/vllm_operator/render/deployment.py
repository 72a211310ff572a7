"""The Deployment of the engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.render import rollout
from vllm_operator.render.context import NO_CLUSTER
from vllm_operator.render.objects import child
from vllm_operator.render.promises import finished_template

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.render.context import RenderContext

_PROGRESS_MARGIN_SECONDS: Final = 600
"""Time to schedule the pod and pull the image, on top of the engine's own start-up budget."""


def deployment(model: VLLMModel, context: RenderContext = NO_CLUSTER) -> dict[str, Any]:
    """The Deployment.

    Its strategy is that of a Deployment at rest: the planner changes its numbers while engines are replaced.

    Raises:
        InvalidSpec: the user's patch of the pods does not fit them.
    """
    template = finished_template(model, context)
    excluded = rollout.exclusion(model.spec.storage, template, context.one_node_claims)
    replicas, queue = model.spec.wanted_replicas, model.spec.scheduling.queue_name
    spec = {
        "replicas": replicas,
        "progressDeadlineSeconds": model.spec.gates.startup_budget_seconds + _PROGRESS_MARGIN_SECONDS,
        "revisionHistoryLimit": 3,
        "strategy": rollout.at_rest(model.spec.rollout, replicas, excluded),
        "selector": {"matchLabels": names.selector_labels(model.instance)},
        "template": template,
    }
    return child(
        model,
        api_version="apps/v1",
        kind="Deployment",
        name=model.instance,
        component="engine",
        labels=None if queue is None else {names.QUEUE: queue},
        spec=spec,
    )
