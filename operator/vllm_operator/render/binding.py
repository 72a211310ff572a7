"""What an application names in `envFrom`: everything it needs to reach the model."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from vllm_operator.api import names
from vllm_operator.render.context import NO_CLUSTER, KeyRecord, RenderContext
from vllm_operator.render.environment import KEY_VARIABLE
from vllm_operator.render.objects import child
from vllm_operator.render.service import discovery, host, url

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel


def binding(model: VLLMModel, context: RenderContext = NO_CLUSTER) -> dict[str, Any]:
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
    if context.served_adapters:
        data["VLLM_ADAPTER_NAMES"] = " ".join(context.served_adapters)  # a name has no blank
    name = names.client_name(model.instance)
    return child(model, api_version="v1", kind="ConfigMap", name=name, component="client", data=data)


def binding_secret(model: VLLMModel, context: RenderContext) -> dict[str, Any]:
    """The client binding in the shape of the Service Binding specification, with the API key where there is one."""
    entries = {
        "type": "openai",
        "provider": "vllm",
        "uri": url(model),
        "host": host(model),
        "port": str(model.spec.service.port),
        "model": model.spec.served_names[0],
    }
    annotations = {}
    if context.api_key:
        entries[KEY_VARIABLE] = context.api_key
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
        secret_entries=frozenset({KEY_VARIABLE}),
        type="servicebinding.io/openai",
        data=data,
    )


def key_record(model: VLLMModel, context: RenderContext) -> tuple[dict[str, Any], ...]:
    """What the operator remembers of the API keys; no part of the binding, whose readers know only one of them."""
    record = context.key_record
    if record is None:
        return ()
    entries = {
        KeyRecord.DIGESTS: json.dumps(dict(record.digests), sort_keys=True),
        KeyRecord.CHANGED_AT: record.changed_at,
    }
    body = child(
        model,
        api_version="v1",
        kind="Secret",
        name=names.key_record_name(model.instance),
        component="engine",
        secret_entries=frozenset(entries),
        type="Opaque",
        data={name: base64.b64encode(text.encode()).decode() for name, text in entries.items()},
    )
    return (body,)
