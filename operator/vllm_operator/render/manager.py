"""The manager in the pod: its ConfigMap, the command that starts the engine by it, its port and kubelet's probes there.

The container's `command` is the manager's stem with the options of this model, and its `args` are the engine's command
line alone: whoever patches `args` means the engine.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.spec.engine import DEFAULT_SHUTDOWN_DELAY_SECONDS
from vllm_operator.api.spec.operations import (
    DEFAULT_CANARY_SECONDS,
    DEFAULT_LONGEST_STALL_SECONDS,
    DEFAULT_RESTART_SECONDS,
    DEFAULT_STALL_SECONDS,
    DEFAULT_STARTUP_BUDGET_SECONDS,
)
from vllm_operator.manager.settings import NEVER, POLLED_PATHS
from vllm_operator.render import adapters, amx, groups, tls
from vllm_operator.render.environment import key_variables
from vllm_operator.render.objects import shared
from vllm_operator.render.service import engines_host
from vllm_operator.render.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec import VLLMModelSpec
    from vllm_operator.api.spec.operations import Gates

PROGRAM_FOLDER: Final = "/opt/vllm-manager/manager"
"""The program's files. The folder's own name is that of the package, which the stem runs from the folder above."""

STATE_FOLDER: Final = "/run/vllm-manager"
"""A small folder in memory: the file of several API keys, and the time line."""

STEM: Final = f"{PROGRAM_FOLDER}/stem.py"
TELL: Final = f"{PROGRAM_FOLDER}/tell.py"
"""Prints the manager's /status: `tell.py PORT`."""

INTERPRETER: Final = ("python3", "-S", "-E", "-B")
"""The options keep its start short, free of the image's own settings, and its folder, which is read-only, as it is."""

PORT_NAME: Final = "gate"
VOLUME: Final = "manager"
STATE_VOLUME: Final = "manager-state"

NAMES_PATH: Final = "/v1/models"
"""What the manager asks often where there are adapters, which may get lost; else before the first prompt only."""

_SERVICE: Final = "--service"

_STARTUP_PERIOD_SECONDS: Final = 3
"""Short, though an answer may take longer: kubelet first asks that much after the container's start, or sooner."""

STARTUP_HOLD_SECONDS: Final = 25
"""How long the manager holds its answer to the startup probe: kubelet writes few Events while a large model loads."""

_STARTUP_TIMEOUT_SECONDS: Final = 45
_STARTUP_MARGIN: Final = 2
"""Failures beyond the budget: the manager itself ends an engine that exceeds it, with a sentence why."""

_READY_PERIOD_SECONDS: Final = 1
_READY_TIMEOUT_SECONDS: Final = 5
_READY_FAILURES: Final = 2
"""An answer that is late once, on a busy node, costs no traffic."""

_LIVE_PERIOD_SECONDS: Final = 10
_LIVE_TIMEOUT_SECONDS: Final = 10
_LIVE_FAILURES: Final = 3
"""The manager ends a hung engine itself; kubelet is there for a manager that cannot."""

_HOPELESS_SECONDS: Final = 10
"""Grace for an engine that a probe has given up: a hung one finishes no request, and a loading one ignores SIGTERM.

With the pod's own, a hung engine would be restarted that much later (measured: 103 to 122 s after the fault)."""


def program(namespace: str) -> dict[str, Any]:
    """The ConfigMap with what runs in the engines' pods: the manager, and what engines on CPU start with."""
    data = {**program_sources(), amx.FILE: amx.source()}
    return shared(namespace, names.MANAGER_CONFIG_MAP, component="manager", data=data)


@cache
def program_sources() -> dict[str, str]:
    """The program's files by their names, read once: they are rendered at every look at a namespace."""
    found = sorted(files("vllm_operator.manager").iterdir(), key=lambda file: file.name)
    return {file.name: file.read_text(encoding="utf-8") for file in found if file.name.endswith((".py", ".json"))}


def command(model: VLLMModel) -> list[str]:
    """The command of the engine's container, which starts what the container's `args` say."""
    return [*INTERPRETER, STEM, *map(_literal, _options(model)), "--"]


def alone(words: Sequence[str]) -> list[str]:
    """That command where there is no Service whose DNS records show the other engines."""
    if _SERVICE not in words:
        return list(words)
    place = words.index(_SERVICE)
    return [*words[:place], *words[place + 2 :]]


def port(spec: VLLMModelSpec) -> dict[str, Any]:
    """The port on which the manager answers."""
    return {"name": PORT_NAME, "containerPort": spec.gates.port, "protocol": "TCP"}


def probes(spec: VLLMModelSpec) -> dict[str, Any]:
    """Startup, readiness and liveness probe of the engine's container."""
    failures = -(-spec.gates.startup_budget_seconds // STARTUP_HOLD_SECONDS) + _STARTUP_MARGIN
    deadly = {"terminationGracePeriodSeconds": _HOPELESS_SECONDS}
    return {
        "startupProbe": _probe("/startup", _STARTUP_PERIOD_SECONDS, _STARTUP_TIMEOUT_SECONDS, failures) | deadly,
        "readinessProbe": _probe("/ready", _READY_PERIOD_SECONDS, _READY_TIMEOUT_SECONDS, _READY_FAILURES),
        "livenessProbe": _probe("/live", _LIVE_PERIOD_SECONDS, _LIVE_TIMEOUT_SECONDS, _LIVE_FAILURES) | deadly,
    }


def leave_seconds(spec: VLLMModelSpec) -> int:
    """Pause before the engine's SIGTERM, in which the pod leaves the endpoints: a draining server takes no request."""
    given = spec.engine.shutdown_delay_seconds
    return DEFAULT_SHUTDOWN_DELAY_SECONDS if given is None else given


def unlogged(spec: VLLMModelSpec) -> tuple[str, ...]:
    """Paths that fill the engine's access log with the manager's own requests, and of which nobody reads a log.

    Its canaries go to paths of which users want to see their own requests.
    """
    return (*POLLED_PATHS, NAMES_PATH) if spec.adapters or spec.updates_adapters else POLLED_PATHS


def volumes(spec: VLLMModelSpec) -> list[dict[str, Any]]:
    """The program, and its small folder in memory."""
    return [
        {"name": VOLUME, "configMap": {"name": names.MANAGER_CONFIG_MAP}},
        {"name": STATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
        *amx.volumes(spec),
        *tls.volumes(spec),
    ]


def mounts(spec: VLLMModelSpec) -> list[dict[str, Any]]:
    """Mounts of these volumes in the engine's container.

    The whole ConfigMap is mounted, so that a newer judge reaches running pods.
    """
    return [
        {"name": VOLUME, "mountPath": PROGRAM_FOLDER, "readOnly": True},
        {"name": STATE_VOLUME, "mountPath": STATE_FOLDER},
        *amx.mounts(spec),
        *tls.mounts(spec),
    ]


def pools(spec: VLLMModelSpec) -> bool:
    """Whether the engine completes no prompts. With runner auto, vLLM makes a converted model a pooling one."""
    model = spec.model
    return model.runner == "pooling" or (model.runner != "generate" and model.convert in {"embed", "classify"})


def _probe(path: str, period_seconds: int, timeout_seconds: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": PORT_NAME, "scheme": "HTTP"},
        "periodSeconds": period_seconds,
        "timeoutSeconds": timeout_seconds,
        "failureThreshold": failures,
        "successThreshold": 1,
    }


def _literal(word: str) -> str:
    """The word as kubelet hands it on unchanged: it takes `$(NAME)` for a variable, and `$$` for a dollar sign."""
    return word.replace("$", "$$")


def _options(model: VLLMModel) -> Iterator[str]:
    """What the manager has to know, see `manager/settings.py`.

    What is the program's default is left out: so a newer default reaches running pods, and rolls none of them.
    """
    spec = model.spec
    yield from ("--gate-port", str(spec.gates.port), "--engine-port", str(spec.engine.port))
    yield from ("--model", spec.served_names[0], _SERVICE, engines_host(model))
    if spec.gates.probe:
        yield from ("--canary", "command", "--command", json.dumps(spec.gates.probe))
    elif pools(spec):
        yield from ("--canary", "pooling")
    if spec.updates_adapters:
        yield from ("--adapters-file", adapters.PATH)
    elif spec.adapters:
        sources = Sources(spec)
        yield from ("--adapters", json.dumps({one.name: sources.locate(one.source) for one in spec.adapters}))
    yield from _windows(spec.gates)
    if leave_seconds(spec) != DEFAULT_SHUTDOWN_DELAY_SECONDS:
        yield from ("--leave", str(leave_seconds(spec)))
    keys = key_variables(spec)
    if len(keys) > 1:  # a single key is read from the environment
        yield from ("--keys", ",".join(keys))
    yield from tls.options(spec)
    yield from groups.options(spec)


def _windows(gates: Gates) -> Iterator[str]:
    if gates.canary == "Never":
        yield from ("--canary-interval", NEVER)
    if gates.restart == "Never":
        yield from ("--restart-window", NEVER)
    given = (
        ("--canary-interval", gates.canary_interval_seconds, DEFAULT_CANARY_SECONDS),
        ("--stall-window", gates.stall_window_seconds, DEFAULT_STALL_SECONDS),
        ("--longest-stall-window", _longest_stall_window(gates), DEFAULT_LONGEST_STALL_SECONDS),
        ("--restart-window", gates.restart_window_seconds, DEFAULT_RESTART_SECONDS),
        ("--startup-budget", gates.startup_budget_seconds, DEFAULT_STARTUP_BUDGET_SECONDS),
    )
    for option, seconds, default in given:
        if seconds not in (None, default):
            yield from (option, str(seconds))


def _longest_stall_window(gates: Gates) -> int | None:
    """The one of the spec, or the default, which a longer stall window takes along."""
    if gates.longest_stall_window_seconds is None:
        return max(DEFAULT_LONGEST_STALL_SECONDS, gates.stall_window_seconds or 0)
    return gates.longest_stall_window_seconds
