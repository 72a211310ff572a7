"""Devices by Dynamic Resource Allocation: the claims of a pod, and the templates that are made for device classes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import json_text, names
from vllm_operator.render.objects import child
from vllm_operator.render.untyped import items

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec import VLLMModelSpec
    from vllm_operator.api.spec.devices import DeviceClaim

API_VERSION: Final = "resource.k8s.io/v1"
KIND: Final = "ResourceClaimTemplate"

_REQUEST: Final = "devices"
"""Name of the one request of a claim that is made for a device class."""

_DIGITS: Final = 8


def pod_claims(model: VLLMModel) -> list[dict[str, Any]]:
    """`resourceClaims` of the pod."""
    return [_pod_claim(model, claim) for claim in _claims(model.spec)]


def container_claims(spec: VLLMModelSpec) -> list[dict[str, Any]]:
    """`resources.claims` of the engine's container."""
    return [{"name": one.name, **({"request": one.request} if one.request else {})} for one in _claims(spec)]


def claim_templates(model: VLLMModel) -> tuple[dict[str, Any], ...]:
    """A ResourceClaimTemplate for each device class. Two classes that ask for the same share one."""
    made = {_template_name(model, claim): claim for claim in _claims(model.spec) if claim.device_class_name}
    return tuple(_template(model, name, claim) for name, claim in made.items())


def templates_of(pods: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names of the ResourceClaimTemplates of which pods, or their templates, get claims."""
    claims = (claim for pod in pods for claim in items(pod, "spec", "resourceClaims"))
    return {str(claim["resourceClaimTemplateName"]) for claim in claims if claim.get("resourceClaimTemplateName")}


def shares_devices(template: Mapping[str, Any]) -> bool:
    """Whether all pods of a template get the devices of the same ResourceClaim."""
    return any(claim.get("resourceClaimName") for claim in items(template, "spec", "resourceClaims"))


def _claims(spec: VLLMModelSpec) -> list[DeviceClaim]:
    return spec.accelerator.resource_claims or []


def _pod_claim(model: VLLMModel, claim: DeviceClaim) -> dict[str, Any]:
    if claim.resource_claim_name:
        return {"name": claim.name, "resourceClaimName": claim.resource_claim_name}
    template = claim.resource_claim_template_name or _template_name(model, claim)
    return {"name": claim.name, "resourceClaimTemplateName": template}


def _request(model: VLLMModel, claim: DeviceClaim) -> dict[str, Any]:
    """What the user asks for, with the count that follows from the rest of the spec."""
    return {
        "deviceClassName": claim.device_class_name,
        "count": claim.count or model.spec.parallelism.processes_of_a_pod,
        "selectors": claim.selectors or [],
    }


def _template_name(model: VLLMModel, claim: DeviceClaim) -> str:
    """Its name tells what was asked for, and not how that is rendered: pods of every version refer to it."""
    asked = json_text.dumps(_request(model, claim), sort_keys=True)
    return names.device_template_name(model.instance, hashlib.sha256(asked).hexdigest()[:_DIGITS])


def _template(model: VLLMModel, name: str, claim: DeviceClaim) -> dict[str, Any]:
    asked = _request(model, claim)
    exactly: dict[str, Any] = {
        "deviceClassName": asked["deviceClassName"],
        "allocationMode": "ExactCount",
        "count": asked["count"],
    }
    if asked["selectors"]:
        exactly["selectors"] = [{"cel": {"expression": expression}} for expression in asked["selectors"]]
    spec = {"spec": {"devices": {"requests": [{"name": _REQUEST, "exactly": exactly}]}}}
    return child(model, api_version=API_VERSION, kind=KIND, name=name, component="engine", spec=spec)
