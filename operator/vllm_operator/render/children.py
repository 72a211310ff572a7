"""All children of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_operator.api import names
from vllm_operator.render.binding import binding
from vllm_operator.render.deployment import deployment
from vllm_operator.render.service import headless_service, service
from vllm_operator.render.surroundings import NO_CLUSTER, Surroundings

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel


def children(
    model: VLLMModel,
    surroundings: Surroundings = NO_CLUSTER,  # noqa: ARG001 # read by the binding and the monitor
) -> tuple[dict[str, Any], ...]:
    """The objects that belong to the model, in the order in which they are written."""
    return (binding(model), service(model), headless_service(model), deployment(model))


def child_names(instance: str) -> tuple[tuple[str, str], ...]:
    """Kinds and names of a model's children, known before its spec is read."""
    return (
        ("ConfigMap", names.client_name(instance)),
        ("Service", instance),
        ("Service", names.engines_name(instance)),
        ("Deployment", instance),
    )
