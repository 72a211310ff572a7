"""What an application names in `envFrom`: everything it needs to reach the model."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from vllm_operator.api import names
from vllm_operator.render.environment import KEY_VARIABLE
from vllm_operator.render.objects import child
from vllm_operator.render.service import discovery, host, url

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.render.surroundings import Surroundings


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


def binding_secret(model: VLLMModel, surroundings: Surroundings) -> dict[str, Any]:
    """The same in the shape of the Service Binding specification, with the API key where there is one."""
    entries = {
        "type": "openai",
        "provider": "vllm",
        "uri": url(model),
        "host": host(model),
        "port": str(model.spec.service.port),
        "model": model.spec.served_names[0],
    }
    annotations = {}
    if surroundings.api_key:
        entries[KEY_VARIABLE] = surroundings.api_key
        generated = model.spec.auth is not None and model.spec.auth.generate
        annotations[names.KEY_ORIGIN] = "generated" if generated else "named"
    data = {name: base64.b64encode(text.encode()).decode() for name, text in entries.items()}
    return child(
        model,
        api_version="v1",
        kind="Secret",
        name=names.binding_name(model.instance),
        component="client",
        annotations=annotations,
        type="servicebinding.io/openai",
        data=data,
    )
