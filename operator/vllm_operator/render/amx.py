"""Leave to use AMX, for engines on CPU: the file that asks for it, its mount, and how Python finds it.

vLLM's CPU build may die with SIGILL at its first prompt on a processor with AMX, because its attention uses AMX and
does not ask Linux for leave; `vllm_operator.startup.sitecustomize` asks. Chance may do so too: oneDNN asks for itself
where a layer of the model is large enough for AMX, and the leave is the process's. A block size that is no multiple of
32 is no way out: vLLM 0.32.0 refuses it on CPU ("No common block size for 16"). This one keeps AMX, needs nothing of
the image but its Python, and does nothing once vLLM asks by itself.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.spec import VLLMModelSpec

FILE: Final = "sitecustomize.py"
"""The name by which Python looks for it."""

FOLDER: Final = "/opt/vllm-startup"
"""A folder of its own: everything in it can be imported by the engine."""

VOLUME: Final = "startup"
PATH_VARIABLE: Final = "PYTHONPATH"


def wanted(spec: VLLMModelSpec) -> bool:
    """Whether the engine's own code runs on the processor."""
    return spec.accelerator.profile == "cpu"


@cache
def source() -> str:
    """The file's text."""
    return (files("vllm_operator.startup") / FILE).read_text(encoding="utf-8")


def volumes(spec: VLLMModelSpec) -> list[dict[str, Any]]:
    """The one file, as a volume of the pod.

    As a volume of its own, a ConfigMap that has not got the file yet keeps the pod waiting; as a subPath of the
    manager's volume, kubelet would make an empty folder of that name, and Python would find nothing and say nothing.
    """
    if not wanted(spec):
        return []
    items = [{"key": FILE, "path": FILE}]
    return [{"name": VOLUME, "configMap": {"name": names.MANAGER_CONFIG_MAP, "items": items}}]


def mounts(spec: VLLMModelSpec) -> list[dict[str, Any]]:
    """Where Python finds the file."""
    return [{"name": VOLUME, "mountPath": FOLDER, "readOnly": True}] if wanted(spec) else []


def path(spec: VLLMModelSpec, variables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """PYTHONPATH, before the user's own folders where they stand in the spec.

    Where the user's value comes from elsewhere (valueFrom), nothing can stand before it, and it is left as it is.
    """
    given = variables.get(PATH_VARIABLE, {"value": ""})
    if not wanted(spec) or "valueFrom" in given:
        return {}
    folders = [FOLDER, given.get("value") or ""]
    return {PATH_VARIABLE: {"name": PATH_VARIABLE, "value": ":".join(filter(None, folders))}}
