"""What one engine's pod reports, as a sentence for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NORMAL_WAITING: Final = frozenset({"ContainerCreating", "PodInitializing"})
_LONGEST_QUOTE: Final = 300
_MOST_QUOTED: Final = 3


class EngineState(Enum):
    """How far an engine has come."""

    SERVING = auto()
    """It passed its gate and takes traffic."""
    STARTING = auto()
    """It loads its model."""
    WITHDRAWN = auto()
    """It served before, and lost its traffic."""
    FAILING = auto()
    """It cannot start, or does not stay up."""


@dataclass(frozen=True, slots=True)
class EngineReport:
    """One engine."""

    pod: str
    state: EngineState
    sentence: str = ""


def reports(pods: Iterable[Mapping[str, Any]]) -> tuple[EngineReport, ...]:
    """One report for each pod that is not on its way out, by name."""
    living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return tuple(report(pod) for pod in sorted(living, key=lambda pod: str(pod["metadata"]["name"])))


def report(pod: Mapping[str, Any]) -> EngineReport:
    """Read one pod: the first thing that stands in its way counts."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if _condition(status, "Ready").get("status") == "True":
        return EngineReport(name, EngineState.SERVING)
    failure = _not_scheduled(status) or _pod_failed(status) or _container_failed(_container(status))
    if failure:
        return EngineReport(name, EngineState.FAILING, failure)
    if _has_served(status):
        sentence = "served before, and does not make progress now"
        return EngineReport(name, EngineState.WITHDRAWN, sentence)
    return EngineReport(name, EngineState.STARTING, "loads its model")


def summary(engines: Iterable[EngineReport], state: EngineState) -> str:
    """The engines in one state, each with its sentence; the first few stand for many."""
    quoted = [f"{engine.pod} {engine.sentence}" for engine in engines if engine.state is state]
    more = len(quoted) - _MOST_QUOTED
    return "; ".join(quoted[:_MOST_QUOTED]) + (f"; and {more} more" if more > 0 else "")


def _has_served(status: Mapping[str, Any]) -> bool:
    """Whether the running container was ready before: only then did readiness change after the container's start."""
    started_at = _container(status).get("state", {}).get("running", {}).get("startedAt", "")
    changed_at = _condition(status, "Ready").get("lastTransitionTime", "")
    return bool(started_at) and bool(_container(status).get("started")) and str(changed_at) > str(started_at)


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((condition for condition in status.get("conditions", []) if condition["type"] == kind), {})


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    containers = status.get("containerStatuses", [])
    return next((container for container in containers if container["name"] == CONTAINER_NAME), {})


def _not_scheduled(status: Mapping[str, Any]) -> str:
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") != "False":
        return ""
    return f"cannot be scheduled: {_quote(scheduled.get('message', scheduled.get('reason', 'no reason given')))}"


def _pod_failed(status: Mapping[str, Any]) -> str:
    if status.get("phase") != "Failed":
        return ""
    return f"failed: {status.get('reason', 'no reason given')}: {_quote(status.get('message', ''))}"


def _container_failed(container: Mapping[str, Any]) -> str:
    if container.get("started"):
        return ""  # it has passed its gate since the crash that `lastState` remembers
    waiting = container.get("state", {}).get("waiting", {})
    terminated = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    if terminated:
        return _exit(terminated, container.get("restartCount", 0))
    if waiting and waiting.get("reason") not in _NORMAL_WAITING:
        return f"cannot start: {waiting.get('reason')}: {_quote(waiting.get('message', ''))}"
    return ""


def _exit(terminated: Mapping[str, Any], restarts: int) -> str:
    code = terminated.get("exitCode")
    how = f"ended with exit code {code} ({terminated.get('reason', 'no reason given')}, {restarts} restarts)"
    if code == 0:
        how += ", which is a crash too: vLLM exits so when its engine has died"
    lines = [line for line in terminated.get("message", "").splitlines() if line.strip()]
    return f"{how}: {_quote(lines[-1])}" if lines else how


def _quote(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST_QUOTE else f"{flat[: _LONGEST_QUOTE - 3]}..."
