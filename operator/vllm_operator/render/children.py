"""All children of one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.bounded import Bounded
from vllm_operator.render.adapters import adapter_list
from vllm_operator.render.autoscaling import autoscaler
from vllm_operator.render.binding import binding, binding_secret, key_record
from vllm_operator.render.context import NO_CLUSTER, RenderContext
from vllm_operator.render.deployment import deployment
from vllm_operator.render.devices import claim_templates
from vllm_operator.render.files import config
from vllm_operator.render.groups import placed
from vllm_operator.render.ingress import ingress
from vllm_operator.render.policies import disruption_budget, network_policy, pod_monitor, service_account
from vllm_operator.render.release import child_of
from vllm_operator.render.service import headless_service, service
from vllm_operator.render.storage import claim

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.resource import VLLMModel


_MOST_REMEMBERED: Final = 64
"""Models; each takes some 40 KB. What is looked at again right after its writes, and as its pods come up one after the
other, is rendered once."""


@dataclass(frozen=True, slots=True)
class _Rendering:
    """The latest rendering of a model."""

    model: VLLMModel
    context: RenderContext
    children: tuple[Mapping[str, Any], ...]


_renderings: Final[Bounded[str, _Rendering]] = Bounded(_MOST_REMEMBERED)
"""By the uid of the model. A rendering is a third of a decision about a model that is as it shall be."""


def remembered_children(model: VLLMModel, context: RenderContext) -> tuple[Mapping[str, Any], ...]:
    """The children with a Deployment, whatever the size of an engine, not to be changed.

    They are rendered anew where the model was read anew or the cluster differs.

    Raises:
        InvalidSpec: its patch of the pods does not fit them.
    """
    known = _renderings.get(model.uid)
    if known is None or known.model is not model or known.context != context:
        known = _Rendering(model, context, _children(model, context))
        _renderings.put(model.uid, known)
    return known.children


def forget_children() -> None:
    """Render every model anew: for tests, in which another version of the operator takes over within one process."""
    _renderings.clear()


def children(model: VLLMModel, context: RenderContext = NO_CLUSTER) -> tuple[dict[str, Any], ...]:
    """The objects that belong to the model, in the order in which they are written: what pods need comes first.

    Raises:
        InvalidSpec: its patch of the pods does not fit them.
    """
    return tuple(map(dict, placed(model, _children(model, context))))


def _children(model: VLLMModel, context: RenderContext) -> tuple[dict[str, Any], ...]:
    found = (
        binding(model, context),
        binding_secret(model, context),
        *key_record(model, context),
        *config(model),
        *adapter_list(model, context.adapters),
        *service_account(model),
        *claim(model, context),
        *claim_templates(model),
        service(model, context),
        headless_service(model, context),
        *ingress(model),
        *network_policy(model, context),
        *disruption_budget(model),
        deployment(model, context),
        *pod_monitor(model, context),
        *autoscaler(model, context),
    )
    return tuple(child_of(context.release, child) for child in found)
