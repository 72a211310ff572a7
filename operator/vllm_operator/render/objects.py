"""What all children have in common: their metadata, and the hash by which a change of any kind is noticed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from vllm_operator.api import json_text, names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    secret_entries: frozenset[str] = frozenset(),
    **body: Any,
) -> dict[str, Any]:
    """An object that belongs to the model; one that is not owned outlives it.

    Of the data under `secret_entries` only the names go into the hash, which everybody sees who sees the metadata.
    """
    own = names.labels if owned else names.kept_labels
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": model.namespace,
        "labels": {**(labels or {}), **own(model.instance, component)},
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    if model.uid and owned:  # a model that is only in a file has no uid, and nothing can refer to it
        metadata["ownerReferences"] = [model.owner_reference]
    return hashed({"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}, secret_entries)


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


def hashed(desired: dict[str, Any], secret_entries: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Add the annotation that tells two desired states apart, also when the newer one only leaves something out.

    One that has such an annotation already gets a new one, made of it and of the rest.
    """
    told = desired
    if secret_entries:
        data = {name: None if name in secret_entries else value for name, value in desired["data"].items()}
        told = {**desired, "data": data}
    digest = hashlib.sha256(json_text.dumps(told, sort_keys=True)).hexdigest()[:16]
    annotations = {**desired["metadata"].get("annotations", {}), names.DESIRED_HASH: digest}
    return {**desired, "metadata": {**desired["metadata"], "annotations": annotations}}


def hash_of(desired: Mapping[str, Any]) -> str:
    """The annotation by which this desired state is told from others; empty where an object has none."""
    return str(desired["metadata"].get("annotations", {}).get(names.DESIRED_HASH, ""))


def deployment_of(children: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The Deployment among the children of a model; there is one."""
    return next(child for child in children if child["kind"] == "Deployment")
