"""The two Services: one address for everybody, and the DNS records of the single engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.render.context import NO_CLUSTER, RenderContext
from vllm_operator.render.groups import leader_labels
from vllm_operator.render.objects import child
from vllm_operator.render.tls import scheme

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel

PORT_NAME: Final = "http"


def service(model: VLLMModel, context: RenderContext = NO_CLUSTER) -> dict[str, Any]:
    """The Service that clients call: only engines that pass their gate are behind it."""
    wanted = model.spec.service
    port = _port(model, wanted.port) | ({"nodePort": wanted.node_port} if wanted.node_port else {})
    body = {"type": wanted.type, "ports": [port]}
    return _service(model, model.instance, body, context, annotations=wanted.annotations)


def headless_service(model: VLLMModel, context: RenderContext = NO_CLUSTER) -> dict[str, Any]:
    """The headless Service: an A and an SRV record for each engine that passes its gate.

    Its port is that of the pods, since clients that resolve it talk to the pods themselves.
    """
    port = _port(model, _pod_port(model))
    spec = {"type": "ClusterIP", "clusterIP": "None", "publishNotReadyAddresses": False, "ports": [port]}
    return _service(model, names.engines_name(model.instance), spec, context)


def host(model: VLLMModel) -> str:
    """DNS name of the Service. It resolves by search path, whatever the cluster's domain."""
    return f"{model.instance}.{model.namespace}.svc"


def url(model: VLLMModel) -> str:
    """Base URL of the OpenAI-compatible API."""
    return f"{scheme(model.spec)}://{host(model)}:{model.spec.service.port}/v1"


def engines_host(model: VLLMModel) -> str:
    """DNS name of the headless Service. It resolves by search path, as that of the Service."""
    return f"{names.engines_name(model.instance)}.{model.namespace}.svc"


def discovery(model: VLLMModel) -> str:
    """Name and port under which a client finds the single engines."""
    return f"{engines_host(model)}:{_pod_port(model)}"


def _port(model: VLLMModel, number: int) -> dict[str, Any]:
    """A port of a Service. It is always called `http`, by which clients look it up; appProtocol says what it speaks."""
    spoken = scheme(model.spec)
    told = {"appProtocol": spoken} if spoken != "http" or model.spec.service.app_protocol else {}
    target = model.spec.service.target_port or PORT_NAME
    return {"name": PORT_NAME, "port": number, "protocol": "TCP", "targetPort": target, **told}


def _pod_port(model: VLLMModel) -> int:
    """Port on which a pod takes requests: that of the engine, or of the sidecar before it."""
    return model.spec.service.target_port or model.spec.engine.port


def _service(
    model: VLLMModel,
    name: str,
    spec: dict[str, Any],
    context: RenderContext,
    *,
    annotations: dict[str, str] | None = None,
) -> dict[str, Any]:
    body = {**spec, "selector": {**names.selector_labels(model.instance), **leader_labels(model.spec, context)}}
    return child(
        model, api_version="v1", kind="Service", name=name, component="engine", annotations=annotations, spec=body
    )
