"""The environment of an engine: what is a field, what stays a variable, and what becomes a Secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.importing.draft import schema_at
from vllm_operator.cli.importing.secrets import HUB_VARIABLES, KEY_VARIABLE, is_secret
from vllm_operator.cli.importing.shell import mark, shown, variables_in
from vllm_operator.cli.schema import faults
from vllm_operator.render.environment import CACHE, HOME
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cli.importing.parts import PodParts
    from vllm_operator.cli.importing.workload import Workload

_REFERENCE: Final = re.compile(r"\$(\$|\(([A-Za-z_][A-Za-z0-9_.-]*)\))")
_CHOSEN_DEVICES: Final = frozenset(
    {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"}
    | {"NVIDIA_DRIVER_CAPABILITIES", "CUDA_DEVICE_ORDER", "HABANA_VISIBLE_DEVICES"}
)
_OF_A_MACHINE: Final = frozenset({"PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_HOME", "USER"})
"""Variables that name folders and users of a machine, where no image has them."""
_OF_ITS_NETWORK: Final = re.compile(
    r"VLLM_HOST_IP|HCCL_IF_IP|MASTER_ADDR|UCX_NET_DEVICES|NCCL_IB_HCA|NVSHMEM_HCA_LIST|\w+_SOCK(ET)?_IFNAME"
)
"""Variables that name addresses and network devices of a machine; a pod has its own unless it shares its node's."""

_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "no_proxy"})
_LOG_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING", "ERROR"})
CACHE_VARIABLES: Final = frozenset(
    {"HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "XDG_CACHE_HOME", "VLLM_CACHE_ROOT"}
    | {"TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "VLLM_ASSETS_CACHE", "TORCH_HOME", "VLLM_CONFIG_ROOT"}
)
"""Variables that name folders of downloads and of compiled kernels."""


def plain_variables(workload: Workload) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Variables whose values are known here, and where the others come from, as in `valueFrom`."""
    known: dict[str, str] = {}
    elsewhere: dict[str, dict[str, Any]] = {}
    for source in items(workload.container, "envFrom"):
        data = workload.config_maps.get(str(part(source, "configMapRef").get("name")), {})
        known |= {f"{source.get('prefix') or ''}{name}": str(value) for name, value in data.items()}
    for variable in items(workload.container, "env"):
        name, origin = str(variable.get("name")), part(variable, "valueFrom")
        reference = part(origin, "configMapKeyRef")
        data = workload.config_maps.get(str(reference.get("name")), {})
        if reference and reference.get("key") in data:
            known[name] = str(data[reference["key"]])
        elif origin:
            elsewhere[name] = dict(origin)
            known.pop(name, None)
        else:
            known[name] = expanded(str(variable.get("value") or ""), known)
    return known, elsewhere


def expanded(text: str, known: Mapping[str, str]) -> str:
    """A text as kubelet makes it: `$(NAME)` filled in, or marked where nobody here knows the value."""

    def value(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return known.get(found[2], mark(f"({found[2]}"))

    return _REFERENCE.sub(value, text)


class Variables:
    """Reads the environment of one engine."""

    def __init__(self, parts: PodParts) -> None:
        self._parts = parts
        self._draft = parts.draft
        self._workload = parts.workload

    def read(self) -> None:
        """Read every variable, in their order."""
        for source in items(self._parts.container, "envFrom"):
            self._env_from(dict(source))
        for variable in items(self._parts.container, "env"):
            if isinstance(variable.get("name"), str):
                self._variable(dict(variable))
            else:
                self._draft.lost("a variable without a name", "engine", "env")

    def _env_from(self, source: dict[str, Any]) -> None:
        wrong = list(faults(schema_at(("engine", "envFrom")).get("items", {}), source, "envFrom"))
        if wrong:
            self._draft.lost(f"{wrong[0].path} {wrong[0].message}", "engine", "envFrom")
        else:
            self._draft.append(("engine", "envFrom"), source)

    def _variable(self, variable: dict[str, Any]) -> None:
        name, value = str(variable.get("name")), str(variable.get("value") or "")
        secret = part(variable, "valueFrom", "secretKeyRef")
        if name in HUB_VARIABLES and self._hub_token(name, value, secret):
            return
        if name == KEY_VARIABLE:
            self._api_key(value, secret)
            return
        if self._is_the_operators(name, value):
            return
        if name == "VLLM_LOGGING_LEVEL" and value.upper() in _LOG_LEVELS and not self._draft.get("engine", "debug"):
            self._draft.put(("engine", "logLevel"), value.upper())
            return
        if not part(variable, "valueFrom") and variable.get("value") is not None and is_secret(name, value) and value:
            variable = {
                "name": name,
                "valueFrom": {"secretKeyRef": self._parts.new_reference(name, value, "env", name)},
            }
        elif variables_in(value):
            self._draft.check(f"the variable {name}: nobody has filled in {shown(value)}", "engine", "env")
            return
        self._parts.variables = [one for one in self._parts.variables if one["name"] != name]
        self._parts.variables.append(self._typed_variable(variable))

    def _typed_variable(self, variable: dict[str, Any]) -> dict[str, Any]:
        if "value" in variable and not isinstance(variable["value"], str) and variable["value"] is not None:
            text = variable["value"]
            variable["value"] = str(text).lower() if isinstance(text, bool) else str(text)
        return {key: value for key, value in variable.items() if value is not None}

    def _hub_token(self, name: str, value: str, secret: Mapping[str, Any]) -> bool:
        """Whether the variable has become the token of the model."""
        if secret:
            reference = {key: item for key, item in secret.items() if key in {"name", "key", "optional"}}
        elif value:
            reference = dict(self._parts.new_reference(name, value, "hub-token", "token"))
        else:
            return name in HUB_VARIABLES
        known = self._draft.get("model", "tokenSecret")
        if known and {**known, "optional": None} != {**reference, "optional": None}:
            return not secret
        self._draft.put(("model", "tokenSecret"), reference)
        return True

    def _api_key(self, value: str, secret: Mapping[str, Any]) -> None:
        if self._draft.get("auth", "keys") or not (value or secret):
            return
        if secret:
            reference = {"name": secret.get("name"), "key": secret.get("key")}
            if secret.get("optional"):
                self._draft.note("the API key was optional: now the engine starts only with it", "auth")
        else:
            reference = dict(self._parts.new_reference(KEY_VARIABLE, value, "api-key", "api-key"))
        self._draft.put(("auth", "keys"), [reference])

    def _is_the_operators(self, name: str, value: str) -> bool:
        """Whether a variable is left to the operator, or to the cluster."""
        if name in _CHOSEN_DEVICES and self._workload.on_a_machine:
            self._draft.note(f"{name} is left out: in a cluster the device plug-in chooses the devices")
            return True
        if self._is_of_the_machine(name, value):
            self._draft.note(f"{name} is left out: it is one of the machine's own settings")
            return True
        if name == "HOME" and not self._workload.rendered:
            self._draft.note(f"HOME is left out: the engine's home is {HOME}, writable for any user")
            return True
        if name in CACHE_VARIABLES and value.startswith(("/", "~")) and not self._parts.is_writable(value):
            self._draft.note(
                f"{name}={shown(value)} is left out: no volume is there; downloads go to {CACHE} (spec.storage.cache)",
                "storage",
            )
            return True
        if name == "VLLM_DEBUG":
            self._draft.note("VLLM_DEBUG is left out: vLLM has no such variable")
            return True
        return (name, value) in {("VLLM_NO_USAGE_STATS", "1"), ("DO_NOT_TRACK", "1")} and (
            name == "VLLM_NO_USAGE_STATS" or self._workload.rendered
        )

    def _is_of_the_machine(self, name: str, value: str) -> bool:
        """Whether a variable says something of the machine that is not so in a pod."""
        if not self._workload.on_a_machine or self._workload.rendered:
            return False
        if name.lower() in _PROXIES:
            return bool(variables_in(value))
        if _OF_ITS_NETWORK.fullmatch(name):
            return value != "all" and not self._parts.pod.get("hostNetwork")
        return name in _OF_A_MACHINE and not self._parts.container.get("image")
