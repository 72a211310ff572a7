"""All children of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_operator.render.binding import binding, binding_secret, key_record
from vllm_operator.render.context import NO_CLUSTER, RenderContext
from vllm_operator.render.deployment import deployment
from vllm_operator.render.files import config
from vllm_operator.render.policies import disruption_budget, network_policy, pod_monitor, service_account
from vllm_operator.render.release import child_of
from vllm_operator.render.service import headless_service, service
from vllm_operator.render.storage import claim

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel


def children(model: VLLMModel, context: RenderContext = NO_CLUSTER) -> tuple[dict[str, Any], ...]:
    """The objects that belong to the model, in the order in which they are written: what pods need comes first.

    Raises:
        InvalidSpec: its patch of the pods does not fit them.
    """
    found = (
        binding(model),
        binding_secret(model, context),
        *key_record(model, context),
        *config(model),
        *service_account(model),
        *claim(model, context),
        service(model),
        headless_service(model),
        *network_policy(model, context),
        *disruption_budget(model),
        deployment(model, context),
        *pod_monitor(model, context),
    )
    return tuple(child_of(context.release, child) for child in found)
