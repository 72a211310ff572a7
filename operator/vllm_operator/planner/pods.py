"""What one engine's pod reports, as a sentence for people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import Reason
from vllm_operator.gates.judge import ENDED
from vllm_operator.planner.signals import exit_hint, exit_signal, killed_process
from vllm_operator.planner.words import Topic, moment
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from vllm_operator.planner.words import Words

_NORMAL_WAITING: Final = frozenset({"ContainerCreating", "PodInitializing"})
_LONGEST_QUOTE: Final = 300
_MOST_QUOTED: Final = 3

_REFUSALS: Final = (
    (re.compile(r"serves .*, not "), Reason.WRONG_MODEL),
    (re.compile(r".*: 401 Unauthorized"), Reason.UNAUTHORIZED),
    (re.compile(r".*: HTTP \d"), Reason.COMPLETIONS_FAIL),
    (re.compile(r".*: a completion came back empty"), Reason.COMPLETIONS_FAIL),
    (re.compile(r".*: the server has no such endpoint"), Reason.COMPLETIONS_FAIL),
    (re.compile(r"the gate itself failed"), Reason.GATE_CANNOT_RUN),
)
"""What the gate says of an engine that has loaded and will not be admitted. Anything else may still be loading."""

_ITS_LOG: Final = "kubectl logs --previous has the cause"
"""Kubelet keeps the end of the log only where the exit code is not 0."""

_CANNOT_RUN: Final = "the image needs python3 on its path, or spec.gates.probe a command that it has"


class EngineState(StrEnum):
    """How far an engine has come."""

    SERVING = "serving"
    """It passed its gate and takes traffic."""
    STARTING = "starting"
    """It loads its model."""
    WITHDRAWN = "withdrawn"
    """It served before, and lost its traffic."""
    FAILING = "failing"
    """It cannot start, does not stay up, or has loaded and cannot be admitted."""


@dataclass(frozen=True, slots=True)
class EngineReport:
    """One engine."""

    pod: str
    state: EngineState
    reason: Reason
    sentence: str = ""
    since: str = ""
    """When its readiness last changed; empty where kubelet has not reported it yet."""


def reports(
    pods: Iterable[Mapping[str, Any]], words: Mapping[str, Words | None] | None = None
) -> tuple[EngineReport, ...]:
    """One report for each pod that is not on its way out, by name. `words` is what kubelet says, by uid."""
    said = words or {}
    living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return tuple(
        report(pod, said.get(pod["metadata"]["uid"])) for pod in sorted(living, key=lambda pod: str(_name(pod)))
    )


def report(pod: Mapping[str, Any], words: Words | None = None) -> EngineReport:
    """Read one pod: the first thing that stands in its way counts."""
    name, status = _name(pod), pod.get("status", {})
    since = str(_condition(status, "Ready").get("lastTransitionTime", ""))
    if _condition(status, "Ready").get("status") == "True":
        return EngineReport(name, EngineState.SERVING, Reason.ENGINES_SERVE, since=since)
    state, reason, sentence = _obstacle(status, f" since {since}" if since else "", words)
    return EngineReport(name, state, reason, sentence, since)


def unready_since(pod: Mapping[str, Any]) -> datetime | None:
    """Since when a pod is not ready; None where it is, and where kubelet has not reported it yet."""
    ready = _condition(pod.get("status", {}), "Ready")
    return moment(ready.get("lastTransitionTime")) if ready.get("status") == "False" else None


def keeps_silent(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has a node and is not ready, and its own status does not say why."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    scheduled = _condition(pod.get("status", {}), "PodScheduled").get("status") == "True"
    return scheduled and report(pod).state in (EngineState.STARTING, EngineState.WITHDRAWN)


def words_count_from(pod: Mapping[str, Any]) -> datetime | None:
    """From when on kubelet's words explain why a pod is not ready: what was said of an earlier life does not."""
    status = pod.get("status", {})
    return unready_since(pod) if _has_served(status) else moment(_started_at(status)) or unready_since(pod)


def _name(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"]["name"])


def _obstacle(status: Mapping[str, Any], since: str, words: Words | None) -> tuple[EngineState, Reason, str]:
    """What keeps an engine from serving: what its pod says, and then what kubelet says of its gate."""
    failure = _not_scheduled(status) or _pod_failed(status) or _container_failed(_container(status))
    if failure:
        return EngineState.FAILING, Reason.ENGINES_FAILING, failure
    if _has_served(status):
        told = _told(words, Topic.READINESS)
        sentence = f"served before, and takes no traffic{since}{told}"
        return EngineState.WITHDRAWN, Reason.ENGINES_WITHDRAWN, sentence
    return _not_admitted(status, since, words) or (
        EngineState.STARTING,
        Reason.ENGINES_STARTING,
        f"loads its model{since}{_told(words, _admission(status))}",
    )


def _not_admitted(status: Mapping[str, Any], since: str, words: Words | None) -> tuple[EngineState, Reason, str] | None:
    """What keeps an engine from ever being admitted; None where it may just be loading."""
    if words is None:
        return None
    if words.topic is Topic.UNMOUNTED and not _container(status).get("started"):
        return EngineState.FAILING, Reason.ENGINES_FAILING, f"cannot start{since}: {_quote(words.text)}"
    if words.topic is Topic.ERRORED:
        sentence = f"is not admitted{since}: its gate cannot run: {_quote(words.text)}; {_CANNOT_RUN}"
        return EngineState.FAILING, Reason.GATE_CANNOT_RUN, sentence
    if words.topic is not _admission(status):
        return None
    for pattern, reason in _REFUSALS:
        if pattern.match(words.text):
            return EngineState.FAILING, reason, f"is not admitted{since}: {_quote(words.text)}"
    return None


def _admission(status: Mapping[str, Any]) -> Topic:
    """The probe that an engine in this state has to pass next."""
    return Topic.READINESS if _container(status).get("started") else Topic.STARTUP


def _told(words: Words | None, topic: Topic) -> str:
    return f": {_quote(words.text)}" if words is not None and words.topic is topic else ""


def summary(engines: Iterable[EngineReport], state: EngineState) -> str:
    """The engines in one state, each with its sentence; the first few stand for many."""
    quoted = [f"{engine.pod} {engine.sentence}" for engine in engines if engine.state is state]
    more = len(quoted) - _MOST_QUOTED
    return "; ".join(quoted[:_MOST_QUOTED]) + (f"; and {more} more" if more > 0 else "")


def _has_served(status: Mapping[str, Any]) -> bool:
    """Whether the running container was ready before: only then did readiness change after the container's start."""
    started_at = _started_at(status)
    changed_at = _condition(status, "Ready").get("lastTransitionTime", "")
    return bool(started_at) and bool(_container(status).get("started")) and str(changed_at) > started_at


def _started_at(status: Mapping[str, Any]) -> str:
    return str(_container(status).get("state", {}).get("running", {}).get("startedAt", ""))


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
    if str(terminated.get("message", "")).startswith(ENDED):
        return f"{_quote(terminated['message'])} ({restarts} restarts)"
    how = _ending(code, str(terminated.get("reason", "no reason given")), restarts)
    message = str(terminated.get("message", ""))
    lines = [line for line in message.splitlines() if line.strip()]
    words = killed_process(message) or (_quote(lines[-1]) if lines else "")
    if words:
        return f"{how}: {words}"
    return f"{how}; {_ITS_LOG}" if code == 0 else how


def _ending(code: int | None, reason: str, restarts: int) -> str:
    """How a container ended, as far as its exit code and kubelet's reason tell."""
    signal, hint = exit_signal(code), exit_hint(code, reason)
    how = f"ended with exit code {code}{f', {signal}' if signal else ''} ({reason}, {restarts} restarts)"
    if code == 0:
        how += ", which is a crash too: vLLM exits so when its engine has died"
    return f"{how}, {hint}" if hint else how


def _quote(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST_QUOTE else f"{flat[: _LONGEST_QUOTE - 3]}..."
