"""One engine as a service of a Compose file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.quantity import quantity
from vllm_operator.cli.compose.volumes import config_mounts, escaped, mounts_of, program_mounts, user_of
from vllm_operator.cli.engine import Outside
from vllm_operator.cli.outside import comment
from vllm_operator.cli.places import mounts
from vllm_operator.render import manager

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.cli.compose.slots import Slot
    from vllm_operator.cli.engine import Engine, Source, Text

_ASK_MANAGER: Final = """\
import http.client
connection = http.client.HTTPConnection("127.0.0.1", {port}, timeout=5)
connection.request("GET", "/ready")
answer = connection.getresponse()
print(answer.read().decode())
raise SystemExit(answer.status != 200)
"""
_AMD_DEVICES: Final = "HIP_VISIBLE_DEVICES"
_UNITS: Final = (("g", 2**30), ("m", 2**20), ("k", 2**10))
_PULL_POLICIES: Final = {"Always": "always", "IfNotPresent": "missing", "Never": "never"}
"""Kubernetes' policies in Compose's words."""

_DEFAULT_GRACE_SECONDS: Final = 30
"""What Kubernetes takes where a pod says nothing."""


def service_of(slot: Slot, names: Mapping[Outside, str], program: Sequence[str]) -> dict[str, Any]:
    """What the template writes of one engine; every text is as Compose takes it, variables and all.

    `program` are the names of the manager's files.
    """
    engine, spec = slot.engine, slot.engine.model.spec
    return {
        "name": slot.name,
        "anchor": engine.model.instance if spec.replicas > 1 else "",
        "first": slot.number == 0,
        "image": escaped(engine.container.get("image", "")),
        "pull_policy": _PULL_POLICIES.get(spec.engine.image_pull_policy or "", ""),
        "entrypoint": [_text(word, names) for word in engine.stem],
        "command": [_text(word, names) for word in engine.words],
        "environment": _environment(slot, names),
        "env_file": [{"path": env_file(one), "required": not one.optional} for one in engine.sources],
        "user": user_of(engine),
        "port": f"{slot.port}:{spec.engine.port}",
        "devices": _device_files(engine),
        "security": _security(engine),
        "shared_memory": _shared_memory(engine),
        "volumes": [*mounts_of(engine), {"type": "tmpfs", "target": manager.STATE_FOLDER}],
        "configs": [*config_mounts(engine), *program_mounts(program)],
        "resources": _resources(slot),
        "health": _health(engine),
        "start_period": f"{spec.gates.startup_budget_seconds}s",
        "grace": f"{engine.pod.get('terminationGracePeriodSeconds', _DEFAULT_GRACE_SECONDS)}s",
        "stopped": spec.wanted_replicas == 0,
    }


def _environment(slot: Slot, names: Mapping[Outside, str]) -> list[str]:
    """One text for each variable; one that may be missing is handed on only where it is set."""
    engine = slot.engine
    written = []
    for name, text in engine.variables.items():
        lone = text[0] if len(text) == 1 else None
        handed_on = isinstance(lone, Outside) and lone.optional and names[lone] == name
        written.append(name if handed_on else f"{name}={_text(text, names)}")
    if _device_files(engine) and slot.devices and _AMD_DEVICES not in engine.variables:
        written.append(f"{_AMD_DEVICES}={','.join(slot.devices)}")
    return written


def _text(text: Text, names: Mapping[Outside, str]) -> str:
    return "".join(_reference(part, names[part]) if isinstance(part, Outside) else escaped(part) for part in text)


def _reference(variable: Outside, name: str) -> str:
    if variable.optional:
        return f"${{{name}-}}"
    told = "".join(character for character in comment(variable.origin) if character not in "${}")
    return f"${{{name}:?{told}}}"


def env_file(source: Source) -> str:
    """File with the variables that a Secret or ConfigMap holds in a cluster."""
    return f"./{source.kind.lower()}-{source.name}.env"


def _device_files(engine: Engine) -> list[str]:
    spec = engine.model.spec
    return ["/dev/kfd", "/dev/dri"] if spec.accelerator.profile == "amd" and spec.device_count else []


def _security(engine: Engine) -> list[str]:
    unconfined = ["seccomp=unconfined"] if _device_files(engine) else []  # as ROCm asks for
    return ["no-new-privileges:true", *unconfined]


def _shared_memory(engine: Engine) -> str:
    found = [place.details.get("sizeLimit") for place in mounts(engine) if place.volume["name"] == "shm"]
    return _size(found[0]) if found and found[0] else ""


def _size(written: str | int) -> str:
    """A quantity as Compose writes sizes, rounded up to whole bytes."""
    count = math.ceil(quantity(written))
    return next((f"{count // unit}{letter}" for letter, unit in _UNITS if count % unit == 0), f"{count}b")


def _resources(slot: Slot) -> dict[str, Any]:
    spec = slot.engine.model.spec
    limits, requests = spec.resources.limits or {}, spec.resources.requests or {}
    resources: dict[str, Any] = {}
    if "cpu" in limits:
        resources.setdefault("limits", {})["cpus"] = format(quantity(limits["cpu"]).normalize(), "f")
    if "memory" in limits:
        resources.setdefault("limits", {})["memory"] = _size(limits["memory"])
    if "memory" in requests:
        resources.setdefault("reservations", {})["memory"] = _size(requests["memory"])
    if spec.accelerator.profile == "nvidia" and spec.device_count:
        chosen = {"device_ids": list(slot.devices)} if slot.devices else {"count": spec.device_count}
        device = {"driver": "nvidia", **chosen, "capabilities": ["gpu"]}
        resources.setdefault("reservations", {})["devices"] = [device]
    return resources


def _health(engine: Engine) -> list[str]:
    """Asks the manager, by the image's own Python: not every image has curl."""
    program = _ASK_MANAGER.format(port=engine.model.spec.gates.port)
    return ["CMD", *map(escaped, (*manager.INTERPRETER, "-c", program))]
