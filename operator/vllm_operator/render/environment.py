"""The engine's environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.spec.core import SecretKey
from vllm_operator.api.spec.forms import environment_of
from vllm_operator.api.spec.lora import RUNTIME_VARIABLE
from vllm_operator.api.spec.profiles import PROFILES
from vllm_operator.api.spec.versions import version_of
from vllm_operator.render import amx
from vllm_operator.render.untyped import items

if TYPE_CHECKING:
    from vllm_operator.api.spec import VLLMModelSpec

HOME: Final = "/home/vllm"
"""Writable for any user id; the caches of Hugging Face, vLLM, torch and triton all lie below it."""

CACHE: Final = f"{HOME}/.cache"

KEY_VARIABLE: Final = "VLLM_API_KEY"
"""The variable in which vLLM and its clients look for the API key."""


_POD_FIELDS: Final = {"POD_NAME": "metadata.name", "POD_IP": "status.podIP", "POD_IPS": "status.podIPs"}
"""By these the manager knows its pod among those of the model's other engines."""

_HOST_IP: Final = "VLLM_HOST_IP"
"""By this address the engine's processes in other pods reach those in this one."""

_LOOPBACK: Final = {"name": "GATE_LOOPBACK", "value": "allowed"}
"""Tells the manager that a server on the loopback alone is reached: without it, such an engine gets no traffic."""


def of_the_manager(spec: VLLMModelSpec) -> list[dict[str, Any]]:
    """Variables that the manager alone reads."""
    pod = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in _POD_FIELDS.items()]
    return [*pod, dict(_LOOPBACK)] if spec.engine.host == "127.0.0.1" and _has_company(spec) else pod


def _has_company(spec: VLLMModelSpec) -> bool:
    """Whether another container of the pod may hand requests on to the engine."""
    patched = items(spec.pod.patch, "spec", "containers")
    return bool(spec.pod.sidecars or [one for one in patched if one.get("name") != names.ENGINE_CONTAINER])


def environment(spec: VLLMModelSpec, instance: str) -> list[dict[str, Any]]:
    """The variables of the engine's container, as in a pod; what the user sets wins."""
    engine = spec.engine
    plain = {"HOME": HOME, "TRITON_CACHE_DIR": f"{CACHE}/triton", "VLLM_NO_USAGE_STATS": "1"}
    plain |= dict(PROFILES[spec.accelerator.profile].environment)
    if engine.debug or engine.log_level:  # VLLM_DEBUG, which older guides name, does not exist
        plain["VLLM_LOGGING_LEVEL"] = engine.log_level or "DEBUG"
    if spec.updates_adapters:
        plain[RUNTIME_VARIABLE] = "True"
    plain |= environment_of(spec, version_of(spec))
    if spec.storage.cache and spec.storage.cache.prefetch:
        plain["HF_HUB_OFFLINE"] = "1"
    variables: dict[str, dict[str, Any]] = {variable["name"]: variable for variable in of_the_manager(spec)}
    if spec.parallelism.group_size > 1:  # else vLLM tells the others the address from which it would reach 8.8.8.8
        variables[_HOST_IP] = {"name": _HOST_IP, "valueFrom": {"fieldRef": {"fieldPath": _POD_FIELDS["POD_IP"]}}}
    variables |= {name: {"name": name, "value": value} for name, value in plain.items()}
    variables |= {variable["name"]: variable for variable in hub_token(spec)}
    for name, key in zip(key_variables(spec), _keys(spec, instance), strict=True):
        variables[name] = _from_secret(name, key)
    variables |= {variable.name: variable.manifest() for variable in engine.env or []}
    variables |= amx.path(spec, variables)
    return list(variables.values())


def hub_token(spec: VLLMModelSpec) -> list[dict[str, Any]]:
    """The variable with the token of the hub, where there is one."""
    secret = spec.model.token_secret
    return [_from_secret("HF_TOKEN", secret)] if secret else []


def key_variables(spec: VLLMModelSpec) -> list[str]:
    """Variables that hold the API keys, the one for clients first.

    Only the first has a name that begins with VLLM_: the engine warns of every such name that it does not know.
    """
    if not spec.auth:
        return []
    count = bool(spec.auth.generate) + len(spec.auth.keys or [])
    return [KEY_VARIABLE, *(f"API_KEY_{number}" for number in range(2, count + 1))][:count]


def _keys(spec: VLLMModelSpec, instance: str) -> list[SecretKey]:
    """Where the API keys are."""
    if not spec.auth:
        return []
    generated = SecretKey(name=names.binding_name(instance), key=KEY_VARIABLE)
    return [*([generated] if spec.auth.generate else []), *(spec.auth.keys or [])]


def _from_secret(name: str, key: SecretKey) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": key.manifest()}}
