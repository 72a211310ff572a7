"""Files that the engine reads: the chat template, from the spec or from a ConfigMap of the user."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.meta import GROUP
from vllm_operator.render.objects import child

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec.model import ChatTemplate

FOLDER: Final = "/etc/vllm"
TEMPLATE_FILE: Final = "chat-template.jinja"
CONFIG_HASH: Final = f"{GROUP}/config-hash"
"""Annotation of the pods: hash of the files that they read, so that a changed file rolls the engines."""


def template_path(template: ChatTemplate | None) -> str | None:
    """Where the engine finds its chat template."""
    if template is None:
        return None
    return template.path or f"{FOLDER}/{TEMPLATE_FILE}"


def config(model: VLLMModel) -> tuple[dict[str, Any], ...]:
    """The ConfigMap with the files that stand in the spec; nothing where there are none."""
    text = _inline(model)
    return () if text is None else (config_of(model, {TEMPLATE_FILE: text}),)


def config_of(model: VLLMModel, data: Mapping[str, str]) -> dict[str, Any]:
    """The ConfigMap with these files: also those of a pod template that an earlier version of the operator rendered."""
    name = names.config_name(model.instance)
    return child(model, api_version="v1", kind="ConfigMap", name=name, component="engine", data=dict(data))


def pod_annotations(model: VLLMModel) -> dict[str, str]:
    """Annotations of the pods that change with the files."""
    text = _inline(model)
    return {} if text is None else {CONFIG_HASH: hashlib.sha256(text.encode()).hexdigest()[:16]}


def volumes(model: VLLMModel) -> list[dict[str, Any]]:
    """The files, as a volume of the pod."""
    template = model.spec.model.chat_template
    if template is None or template.path:
        return []
    source: dict[str, Any] = {"name": names.config_name(model.instance)}
    if template.config_map_key_ref:
        item = {"key": template.config_map_key_ref.key, "path": TEMPLATE_FILE}
        source = {"name": template.config_map_key_ref.name, "items": [item]}
    return [{"name": "config", "configMap": source}]


def mounts(model: VLLMModel) -> list[dict[str, Any]]:
    """Mounts of the files that the engine reads."""
    return [{"name": volume["name"], "mountPath": FOLDER, "readOnly": True} for volume in volumes(model)]


def _inline(model: VLLMModel) -> str | None:
    template = model.spec.model.chat_template
    return template.inline if template else None
