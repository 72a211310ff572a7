"""Why one engine does not serve: an ordered chain of policies, of which the first that finds a cause counts. Pure.

Each policy is a function of the pod's facts that returns a Cause, or None where it has nothing to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import Reason
from vllm_operator.diagnosis.cause import Cause, EngineState, quoted
from vllm_operator.diagnosis.events import MessageKind
from vllm_operator.diagnosis.facts import PodFacts
from vllm_operator.gates.judge import ENDED

if TYPE_CHECKING:
    from collections.abc import Mapping

Policy = Callable[[PodFacts], Cause | None]

_NO_REASON: Final = "no reason given"
_NORMAL_WAITING: Final = frozenset({"ContainerCreating", "PodInitializing"})

_REFUSALS: Final = (
    (re.compile(r"serves .*, not "), Reason.WRONG_MODEL),
    (re.compile(r".*: 401 Unauthorized"), Reason.UNAUTHORIZED),
    (re.compile(r".*: HTTP \d"), Reason.COMPLETIONS_FAIL),
    (re.compile(r".*: a completion came back empty"), Reason.COMPLETIONS_FAIL),
    (re.compile(r".*: the server has no such endpoint"), Reason.COMPLETIONS_FAIL),
    (re.compile(r"the gate itself failed"), Reason.GATE_CANNOT_RUN),
)
"""What the gate says of an engine that has loaded and will not be admitted. Anything else may still be loading."""

_GATE_ADVICE: Final = "the image needs python3 on its path, or spec.gates.probe a command that it has"


def serves(pod: PodFacts) -> Cause | None:
    """A ready pod takes traffic, whatever happened to it before."""
    return Cause(EngineState.SERVING, Reason.ENGINES_SERVE) if pod.is_ready else None


def cannot_be_scheduled(pod: PodFacts) -> Cause | None:
    """The scheduler has found no node for the pod."""
    scheduled = pod.condition("PodScheduled")
    if scheduled.get("status") != "False":
        return None
    return _failing(f"cannot be scheduled: {quoted(scheduled.get('message', scheduled.get('reason', _NO_REASON)))}")


def has_failed(pod: PodFacts) -> Cause | None:
    """The pod as a whole has ended, for one because it was evicted."""
    if pod.phase != "Failed":
        return None
    return _failing(f"failed: {pod.reason or _NO_REASON}: {quoted(pod.message)}")


def engine_ended(pod: PodFacts) -> Cause | None:
    """The engine's process has ended, and has not passed its startup probe since."""
    if pod.engine.started or not pod.engine.terminated:
        return None
    return _failing(_end(pod.engine.terminated, pod.engine.restarts))


def engine_cannot_be_made(pod: PodFacts) -> Cause | None:
    """Kubelet cannot make the engine's container: its image cannot be pulled, or its configuration is wrong."""
    reason = pod.engine.waiting.get("reason")
    if pod.engine.started or not pod.engine.waiting or reason in _NORMAL_WAITING:
        return None
    return _failing(f"cannot start: {reason}: {quoted(pod.engine.waiting.get('message', ''))}")


def is_withdrawn(pod: PodFacts) -> Cause | None:
    """The engine has served, and its readiness probe has failed since."""
    if not pod.has_served:
        return None
    sentence = f"served before, and takes no traffic{_since(pod)}{_colon(pod.kubelet_says(MessageKind.READINESS))}"
    return Cause(EngineState.WITHDRAWN, Reason.ENGINES_WITHDRAWN, sentence)


def volumes_are_missing(pod: PodFacts) -> Cause | None:
    """Kubelet cannot mount the pod's volumes, so it starts no container."""
    text = pod.kubelet_says(MessageKind.UNMOUNTED)
    return _failing(f"cannot start{_since(pod)}: {quoted(text)}") if text and not pod.engine.started else None


def gate_cannot_run(pod: PodFacts) -> Cause | None:
    """Kubelet cannot run the gate's program, so nothing is known of the engine."""
    text = pod.kubelet_says(MessageKind.ERRORED)
    if not text:
        return None
    sentence = f"is not admitted{_since(pod)}: its gate cannot run: {quoted(text)}; {_GATE_ADVICE}"
    return Cause(EngineState.FAILING, Reason.GATE_CANNOT_RUN, sentence)


def gate_refuses(pod: PodFacts) -> Cause | None:
    """The engine answers, and its answer is not what the gate has to see."""
    text = pod.kubelet_says(pod.admission)
    reason = next((reason for pattern, reason in _REFUSALS if pattern.match(text)), None)
    if reason is None:
        return None
    return Cause(EngineState.FAILING, reason, f"is not admitted{_since(pod)}: {quoted(text)}")


def loads(pod: PodFacts) -> Cause:
    """Nothing is wrong, so the engine loads its model."""
    sentence = f"loads its model{_since(pod)}{_colon(pod.kubelet_says(pod.admission))}"
    return Cause(EngineState.STARTING, Reason.ENGINES_STARTING, sentence)


POLICIES: Final[tuple[Policy, ...]] = (
    serves,  # what a pod went through before it got ready is over
    cannot_be_scheduled,  # without a node there are no containers to look at
    has_failed,  # a pod that is over says why itself; what its containers reported was before
    engine_ended,  # the crash counts more than the back-off that follows it
    engine_cannot_be_made,
    is_withdrawn,  # an engine that has served is past all that keeps one from being admitted
    volumes_are_missing,
    gate_cannot_run,
    gate_refuses,
    loads,  # always finds a cause
)


def cause_of(pod: PodFacts) -> Cause:
    """Why an engine is as it is: what the first policy finds."""
    return next(cause for policy in POLICIES if (cause := policy(pod)) is not None)


def _failing(sentence: str) -> Cause:
    return Cause(EngineState.FAILING, Reason.ENGINES_FAILING, sentence)


def _since(pod: PodFacts) -> str:
    return f" since {pod.since}" if pod.since else ""


def _colon(text: str) -> str:
    return f": {quoted(text)}" if text else ""


def _end(terminated: Mapping[str, Any], restarts: int) -> str:
    """How the engine's process ended, in words."""
    code = terminated.get("exitCode")
    if str(terminated.get("message", "")).startswith(ENDED):
        return f"{quoted(terminated['message'])} ({restarts} restarts)"
    how = f"ended with exit code {code} ({terminated.get('reason', _NO_REASON)}, {restarts} restarts)"
    if code == 0:
        how += ", which is a crash too: vLLM exits so when its engine has died"
    lines = [line for line in terminated.get("message", "").splitlines() if line.strip()]
    return f"{how}: {quoted(lines[-1])}" if lines else how
