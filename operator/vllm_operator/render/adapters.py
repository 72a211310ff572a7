"""The list of LoRA adapters that engines are told while they run: a ConfigMap that their managers read.

With `spec.lora.runtimeUpdates` no adapter is part of the pods: neither of the engine's arguments nor of the manager's
options. The list outlives an operator that is down, and is there for a pod that comes later or starts again.

    {"version": "5f0c...", "adapters": [
    {"name": "sql", "path": "/mnt/claims/adapters/sql", "required": true}
    ]}

`version` stands for the names and paths; managers tell which one they follow. `required` are those that every engine
serves: an engine that comes needs them before it gets traffic. Without it, one that its engine refuses to load does not
keep the engine from serving the others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.meta import GROUP
from vllm_operator.render.objects import child
from vllm_operator.render.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec import VLLMModelSpec

FOLDER: Final = "/etc/vllm-adapters"
FILE: Final = "adapters.json"
PATH: Final = f"{FOLDER}/{FILE}"
VOLUME: Final = "adapters"
SEEN: Final = f"{GROUP}/adapters"
"""Annotation of a pod: the version of the list that its kubelet was called for. A changed pod has its volumes brought
up to date at once, and else within a minute or two."""

_HASH_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class Listed:
    """An adapter of the list."""

    name: str
    path: str
    """What vLLM is told: an id on the hub, or a path in the engine's container."""
    required: bool = False
    """Whether an engine that comes needs it before it gets traffic."""


@dataclass(frozen=True, slots=True)
class AdapterList:
    """The list of a model."""

    adapters: tuple[Listed, ...] = ()

    @property
    def version(self) -> str:
        """Hash of the names and paths, in whatever order: what an engine has to do to follow it."""
        pairs = sorted([one.name, one.path] for one in self.adapters)
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:_HASH_LENGTH]

    @property
    def text(self) -> str:
        """The file, one adapter a line."""
        lines = (
            json.dumps({"name": one.name, "path": one.path, **({"required": True} if one.required else {})})
            for one in self.adapters
        )
        return f'{{"version": "{self.version}", "adapters": [\n' + ",\n".join(lines) + "\n]}\n"


def of_spec(spec: VLLMModelSpec) -> AdapterList:
    """The adapters of a spec, as vLLM is told of them; nothing is known of engines."""
    sources = Sources(spec)
    return AdapterList(tuple(Listed(one.name, sources.locate(one.source)) for one in spec.adapters))


def read_list(body: Mapping[str, Any]) -> AdapterList:
    """The list in a live ConfigMap; an empty one where somebody has made it unreadable."""
    try:
        found = json.loads(body["data"][FILE])["adapters"]
        return AdapterList(tuple(Listed(str(one["name"]), str(one["path"]), "required" in one) for one in found))
    except (KeyError, TypeError, ValueError, AttributeError):
        return AdapterList()


def adapter_list(model: VLLMModel, listed: AdapterList | None) -> tuple[dict[str, Any], ...]:
    """The ConfigMap with the list; nothing where adapters are part of the pods."""
    if not model.spec.updates_adapters:
        return ()
    data = {FILE: (of_spec(model.spec) if listed is None else listed).text}
    name = names.adapters_name(model.instance)
    return (child(model, api_version="v1", kind="ConfigMap", name=name, component="engine", data=data),)


def volumes(model: VLLMModel) -> list[dict[str, Any]]:
    """The list, as a volume of the pod. The whole ConfigMap is mounted, so that a changed list reaches running pods."""
    if not model.spec.updates_adapters:
        return []
    return [{"name": VOLUME, "configMap": {"name": names.adapters_name(model.instance)}}]


def mounts(model: VLLMModel) -> list[dict[str, Any]]:
    """Its mount in the engine's container."""
    return [{"name": one["name"], "mountPath": FOLDER, "readOnly": True} for one in volumes(model)]


def is_mounted(pods: Iterable[Mapping[str, Any]], name: str) -> bool:
    """Whether a pod mounts the list of that name: then its kubelet needs the ConfigMap to start it."""
    return any(
        (volume.get("configMap") or {}).get("name") == name
        for pod in pods
        for volume in pod.get("spec", {}).get("volumes") or ()
    )
