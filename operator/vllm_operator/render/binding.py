"""The ConfigMap that an application names in `envFrom`: everything it needs to reach the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_operator.api import names
from vllm_operator.render.objects import child
from vllm_operator.render.service import discovery, url

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel


def binding(model: VLLMModel) -> dict[str, Any]:
    """Connection data under the names that echo-roots reads.

    The deployment type is `cloud`: with `local` the stock echo-roots client ignores the base URL and calls localhost.
    """
    data = {
        "LLM_PROVIDER": "vllm",
        "VLLM_BASE_URL": url(model),
        "VLLM_DEPLOYMENT_TYPE": "cloud",
        "VLLM_DISCOVERY": discovery(model),
        "VLLM_MODEL_NAME": model.spec.served_names[0],
    }
    name = names.client_name(model.instance)
    return child(model, api_version="v1", kind="ConfigMap", name=name, component="client", data=data)
