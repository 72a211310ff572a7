"""The gate in the pod: the program's ConfigMap, the probes that run it and the folder of its state."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.spec.operations import DEFAULT_CANARY_SECONDS, DEFAULT_RESTART_SECONDS, DEFAULT_STALL_SECONDS
from vllm_operator.gates.judge import STARTUP_SECONDS
from vllm_operator.render import amx
from vllm_operator.render.environment import key_variables
from vllm_operator.render.objects import shared

if TYPE_CHECKING:
    from vllm_operator.api.spec import VLLMModelSpec
    from vllm_operator.api.spec.operations import Gates

PROGRAM_FILES: Final = (
    "engine.py",
    "judge.py",
    "looks.py",
    "memory.py",
    "probe.py",
    "processes.py",
    "serve.py",
    "stop.py",
)
PROGRAM_FOLDER: Final = "/opt/vllm-gates"
STATE_FOLDER: Final = "/run/vllm-gates"

_QUESTIONS: Final = ("/health", "/is_paused", "/metrics")
"""What the program asks every few seconds, and nobody reads a log of. Its canaries and its look at /v1/models go to
paths of which users want to see their own requests."""

_INTERPRETER: Final = ("python3", "-S", "-E")
"""The options keep its start short, and free of the image's own settings."""

_STARTUP_PERIOD_SECONDS = 3
"""Short, though a run of the gate takes longer: kubelet first asks that much after the container's start, or sooner."""

_STARTUP_TIMEOUT_SECONDS = 45
"""A startup probe asks for 25 s, and may be in the midst of a first completion then."""

_READY_PERIOD_SECONDS = 5
_LIVE_PERIOD_SECONDS = 10
_TIMEOUT_SECONDS = 15
"""The program keeps shorter deadlines of its own. Only a node that cannot even start it runs into this one."""

_HOPELESS_SECONDS = 10
"""Grace for an engine that a probe has given up: a hung one finishes no request, and a loading one ignores SIGTERM.

With the pod's own, a hung engine would be restarted that much later (measured: 103 to 122 s after the fault)."""

_LIVE_FAILURES = 3
"""A restart is dear: one slow start of the program on a busy node must not cause it."""


def program(namespace: str) -> dict[str, Any]:
    """The ConfigMap with what runs in the engines' pods: the gate program, and what engines on CPU start with."""
    data = {**program_sources(), amx.FILE: amx.source()}
    return shared(namespace, names.GATES_CONFIG_MAP, component="gates", data=data)


@cache
def program_sources() -> dict[str, str]:
    """The program's files, read once: it is rendered at every look at a namespace."""
    folder = files("vllm_operator.gates")
    return {name: (folder / name).read_text(encoding="utf-8") for name in PROGRAM_FILES}


def probes(spec: VLLMModelSpec) -> dict[str, Any]:
    """Startup, readiness and liveness probe of the engine's container."""
    return {
        "startupProbe": _deadly(spec, _startup(spec)),
        "readinessProbe": _probe(spec, "ready", _READY_PERIOD_SECONDS, 1),
        "livenessProbe": _deadly(spec, _probe(spec, "live", _LIVE_PERIOD_SECONDS, _LIVE_FAILURES)),
    }


def launched(spec: VLLMModelSpec, words: list[str]) -> list[str]:
    """The command of the engine's container: by way of the program that keeps several API keys off it."""
    names = key_variables(spec)
    if len(names) < 2:  # noqa: PLR2004 # a single key is read from the environment
        return words
    return [*_INTERPRETER, f"{PROGRAM_FOLDER}/serve.py", "--keys", *names, "--", *words]


def without_launcher(words: list[str]) -> list[str]:
    """The command of an engine's container as it is run where there is no gate program."""
    launcher = [*_INTERPRETER, f"{PROGRAM_FOLDER}/serve.py"]
    return words[words.index("--") + 1 :] if words[: len(launcher)] == launcher else words


def unlogged(spec: VLLMModelSpec) -> tuple[str, ...]:
    """Paths that fill the engine's access log with the gate's own requests."""
    return () if spec.gates.probe else _QUESTIONS


def pre_stop(spec: VLLMModelSpec, leave_seconds: int) -> dict[str, Any]:
    """What happens before SIGTERM: time to leave the endpoints, where there is something to leave and to finish."""
    if spec.gates.probe:
        return {"sleep": {"seconds": leave_seconds}}
    words = [*_INTERPRETER, f"{PROGRAM_FOLDER}/stop.py", "--state", STATE_FOLDER, "--leave", str(leave_seconds)]
    return {"exec": {"command": words + _restart(spec.gates)}}


def volumes(spec: VLLMModelSpec) -> list[dict[str, Any]]:
    """The program, and a small folder in memory for what it remembers between two runs."""
    return [
        {"name": "gates", "configMap": {"name": names.GATES_CONFIG_MAP}},
        {"name": "gates-state", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
        *amx.volumes(spec),
    ]


def mounts(spec: VLLMModelSpec) -> list[dict[str, Any]]:
    """Mounts of the gate's volumes in the engine's container.

    The whole ConfigMap is mounted, so that a newer program reaches running pods.
    """
    return [
        {"name": "gates", "mountPath": PROGRAM_FOLDER, "readOnly": True},
        {"name": "gates-state", "mountPath": STATE_FOLDER},
        *amx.mounts(spec),
    ]


def pools(spec: VLLMModelSpec) -> bool:
    """Whether the engine completes no prompts. With runner auto, vLLM makes a converted model a pooling one."""
    model = spec.model
    return model.runner == "pooling" or (model.runner != "generate" and model.convert in {"embed", "classify"})


def _startup(spec: VLLMModelSpec) -> dict[str, Any]:
    """As many failures as fill the budget: the gate asks for a while in each run, the user's own command may not."""
    run_seconds = _STARTUP_PERIOD_SECONDS if spec.gates.probe else int(STARTUP_SECONDS)
    failures = -(-spec.gates.startup_budget_seconds // run_seconds)
    probe = _probe(spec, "startup", _STARTUP_PERIOD_SECONDS, failures)
    return probe if spec.gates.probe else {**probe, "timeoutSeconds": _STARTUP_TIMEOUT_SECONDS}


def _probe(spec: VLLMModelSpec, mode: str, period_seconds: int, failures: int) -> dict[str, Any]:
    return {
        "exec": {"command": spec.gates.probe or _command(spec, mode)},
        "periodSeconds": period_seconds,
        "timeoutSeconds": _TIMEOUT_SECONDS,
        "failureThreshold": failures,
        "successThreshold": 1,
    }


def _deadly(spec: VLLMModelSpec, probe: dict[str, Any]) -> dict[str, Any]:
    """A probe whose failure ends the container soon, where the gate has judged and not the user's command."""
    if spec.gates.probe:
        return probe
    return {**probe, "terminationGracePeriodSeconds": _HOPELESS_SECONDS}


def _command(spec: VLLMModelSpec, mode: str) -> list[str]:
    words = [*_INTERPRETER, f"{PROGRAM_FOLDER}/probe.py", mode]
    options = ["--port", str(spec.engine.port), "--model", spec.served_names[0], "--state", STATE_FOLDER]
    if pools(spec):
        options += ["--canary", "pooling"]
    adapters = [adapter.name for adapter in (spec.lora and spec.lora.adapters) or []]
    if adapters:
        options += ["--adapters", " ".join(adapters)]  # no name has white space
    return words + options + _windows(spec.gates)


def _windows(gates: Gates) -> list[str]:
    """Options of what is not the program's default: so a newer default reaches running pods, and rolls none of them."""
    options = []
    if gates.canary == "Never":
        options += ["--canary-interval", "never"]
    elif gates.canary_interval_seconds not in (None, DEFAULT_CANARY_SECONDS):
        options += ["--canary-interval", str(gates.canary_interval_seconds)]
    if gates.stall_window_seconds not in (None, DEFAULT_STALL_SECONDS):
        options += ["--stall-window", str(gates.stall_window_seconds)]
    return options + _restart(gates)


def _restart(gates: Gates) -> list[str]:
    if gates.restart == "Never":
        return ["--restart", "never"]
    if gates.restart_window_seconds not in (None, DEFAULT_RESTART_SECONDS):
        return ["--restart-window", str(gates.restart_window_seconds)]
    return []
