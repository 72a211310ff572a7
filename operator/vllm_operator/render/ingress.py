"""The Ingress: the way in from outside of the cluster, which somebody's controller follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_operator.render.objects import child
from vllm_operator.render.service import PORT_NAME

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel


def ingress(model: VLLMModel) -> tuple[dict[str, Any], ...]:
    """The Ingress; nothing where there is to be none. It leads to the Service, so to engines that pass their gate."""
    wanted = model.spec.ingress
    if wanted is None:
        return ()
    service = {"name": model.instance, "port": {"name": PORT_NAME}}
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": service}}
    spec: dict[str, Any] = {"rules": [{"host": wanted.host, "http": {"paths": [path]}}]}
    if wanted.class_name:
        spec["ingressClassName"] = wanted.class_name
    if wanted.tls:
        secret = {"secretName": wanted.tls.secret_name} if wanted.tls.secret_name else {}
        spec["tls"] = [{"hosts": [wanted.host], **secret}]
    body = child(
        model,
        api_version="networking.k8s.io/v1",
        kind="Ingress",
        name=model.instance,
        component="engine",
        annotations=wanted.annotations,
        spec=spec,
    )
    return (body,)
