"""What all children have in common: their metadata, and the hash by which a change of any kind is noticed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from vllm_operator.api import json_text, names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.resource import VLLMModel


def child(
    model: VLLMModel,
    *,
    api_version: str,
    kind: str,
    name: str,
    component: str,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owned: bool = True,
    **body: Any,
) -> dict[str, Any]:
    """An object that belongs to the model; one that is not owned outlives it."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": model.namespace,
        "labels": {**(labels or {}), **names.labels(model.instance, component)},
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    if model.uid and owned:  # a model that is only in a file has no uid, and nothing can refer to it
        metadata["ownerReferences"] = [model.owner_reference]
    return hashed({"apiVersion": api_version, "kind": kind, "metadata": metadata, **body})


def shared(namespace: str, name: str, *, component: str, data: Mapping[str, str]) -> dict[str, Any]:
    """A ConfigMap that all models of a namespace share; none of them owns it."""
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": {
            "app.kubernetes.io/name": name,
            "app.kubernetes.io/component": component,
            "app.kubernetes.io/part-of": "vllm-operator",
            names.MANAGED_BY: names.MANAGER,
        },
    }
    return hashed({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)})


def hashed(desired: dict[str, Any]) -> dict[str, Any]:
    """Add the annotation that tells two desired states apart, also when the newer one only leaves something out."""
    digest = hashlib.sha256(json_text.dumps(desired, sort_keys=True)).hexdigest()[:16]
    annotations = {**desired["metadata"].get("annotations", {}), names.DESIRED_HASH: digest}
    return {**desired, "metadata": {**desired["metadata"], "annotations": annotations}}
