"""Why one engine does not serve: an ordered chain of policies, of which the first that finds a cause counts. Pure.

Each policy is a function of the pod's facts that returns a Cause, or None where it has nothing to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vllm_operator.api.conditions import Reason
from vllm_operator.diagnosis.cause import Cause, EngineState, Lookup, quoted
from vllm_operator.diagnosis.facts import PodFacts, Role
from vllm_operator.diagnosis.known import diagnosed, diagnosed_end, symptom
from vllm_operator.diagnosis.last_words import OUT_OF_MEMORY, cause_below, cause_in, managers_sentence
from vllm_operator.diagnosis.outside import CONTAINER, END, IMAGE, QUEUE, SCHEDULING, VOLUME, diagnose, says_all
from vllm_operator.diagnosis.pulls import PULL_BACK_OFF, PULL_FAILED, image_field, pull_error
from vllm_operator.diagnosis.signals import exit_hint, exit_signal

if TYPE_CHECKING:
    from vllm_operator.diagnosis.engine_status import EngineStatus
    from vllm_operator.diagnosis.facts import ContainerFacts
    from vllm_operator.diagnosis.known import Diagnosis

Policy = Callable[[PodFacts], Cause | None]

_NO_REASON: Final = "no reason given"

_ITS_LOG: Final = "kubectl logs --previous has the cause"
"""Kubelet keeps the end of a log only where the exit code is not 0."""

_NORMAL_WAITING: Final = frozenset({"ContainerCreating", "PodInitializing"})
_BACK_OFF: Final = "CrashLoopBackOff"
_IMAGE_REASONS: Final = frozenset(
    {
        PULL_FAILED,
        PULL_BACK_OFF,
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
"""Kubelet's reasons where an image is not there (pkg/kubelet/images/types.go, cri-api/pkg/errors)."""

_REFUSALS: Final = {
    "WrongModel": Reason.WRONG_MODEL,
    "Unauthorized": Reason.UNAUTHORIZED,
    "Failing": Reason.COMPLETIONS_FAIL,
    "Failed": Reason.COMPLETIONS_FAIL,
    "Refused": Reason.COMPLETIONS_FAIL,
    "Empty": Reason.COMPLETIONS_FAIL,
    "NoEndpoint": Reason.COMPLETIONS_FAIL,
    "LoopbackOnly": Reason.ENGINES_FAILING,
    "PortTaken": Reason.ENGINES_FAILING,
}
"""Causes that a manager names of an engine that has loaded and will not be admitted. Others may still be loading.

A known failure of one of these names says more than the manager's word, which is WrongModel wherever clients do not get
what they ask for.
"""

_SET_ASIDE: Final = {"Asleep": Reason.ASLEEP, "Paused": Reason.PAUSED, "Scaling": Reason.SCALING}
"""Causes that a manager names of an engine that does what it was asked to, and takes no traffic meanwhile."""

_PHASE_SAYS_IT: Final = frozenset({"Loading", "NotProven"})
"""Causes of a manager that waits for its engine: the phase says more than the sentence."""

_PHASES: Final = {
    "Starting": "starts",
    "Downloading": "downloads its model",
    "LoadingWeights": "loads its weights",
    "Compiling": "compiles its kernels",
    "KVCache": "sizes its KV cache",
    "CapturingGraphs": "captures CUDA graphs",
    "Warmup": "warms up",
    "Ready": "waits for its first completion",
}
"""What an engine does in a load phase, as its manager names it."""

_NO_PYTHON: Final = re.compile(r'exec: "python3?":')
"""What the container runtime says where the image has no interpreter for the manager."""

_PYTHON_ADVICE: Final = "the engine's manager needs python3 (3.9 or newer) on the path of the image"


_MEMORY_ADVICE: Final = "raise spec.resources.limits.memory, or let the engine use less"

_KILLED: Final = 137
"""Exit code of a process that was killed."""


def serves(pod: PodFacts) -> Cause | None:
    """A ready pod takes traffic, whatever happened to it before; it may be slow all the same."""
    if not pod.is_ready:
        return None
    known = symptom(pod.manager.symptoms) if pod.manager else None
    if known is None and pod.manager and pod.manager.adapters:
        known = diagnosed(None, [words for _, words in pod.manager.adapters.failed])
    return Cause(EngineState.SERVING, Reason.ENGINES_SERVE, lookup=Lookup.SERVING, diagnosis=known)


def has_ended(pod: PodFacts) -> Cause | None:
    """The pod as a whole has ended, for one because it was evicted."""
    return _failing(f"has ended: {end_of_pod(pod)}") if pod.phase in ("Failed", "Succeeded") else None


def node_is_lost(pod: PodFacts) -> Cause | None:
    """The node does not answer, so Kubernetes has taken the pod's traffic and not yet the pod.

    The node controller sets Ready to False and changes nothing else: all containers are still reported as ready, and
    there is no reason, which kubelet always gives (kubernetes pkg/controller/util/node, MarkPodsNotReady).
    """
    ready = pod.condition("Ready")
    marked = ready.get("status") == "False" and not ready.get("reason")
    marked = marked and all(container.ready for container in _containers(pod))
    if not (marked or pod.reason == "NodeLost" or ready.get("status") == "Unknown"):
        return None
    node = f"its node {pod.node}" if pod.node else "its node"
    remark = f" ({pod.placement.remark})" if pod.placement and pod.placement.remark else ""
    more = "if it stays away, another engine is started"
    sentence = f"takes no traffic{_since(pod)}: {node} does not answer{remark}; {more}"
    return Cause(EngineState.WITHDRAWN, Reason.NODE_LOST, sentence, Lookup.PLACEMENT if pod.node else None)


def is_held_back(pod: PodFacts) -> Cause | None:
    """A scheduling gate, such as that of a queue, keeps schedulers from looking at the pod."""
    scheduled = pod.condition("PodScheduled")
    if scheduled.get("reason") != "SchedulingGated" or scheduled.get("status") != "False":
        return None
    gates = " and ".join(pod.scheduling_gates) or "one that it does not name"
    sentence = f"is held back{_at(pod.waits_since)} by scheduling gate {gates}"
    if pod.is_queued:
        return _queued(pod, sentence)
    return Cause(EngineState.STARTING, Reason.SCHEDULING_GATED, f"{sentence}, until its controller admits the pod")


def _queued(pod: PodFacts, sentence: str) -> Cause:
    """A queue of Kueue holds the pod back: what it says, where it says anything, and what would help."""
    queue, found = f"LocalQueue {pod.queue}" if pod.queue else "its queue", pod.admission
    diagnosis = diagnose(QUEUE, found.words) if found else None
    if found and found.words:
        text = f"{sentence}: {queue} says: {_told(found.words, diagnosis)}"
    elif found and found.remark:
        text = f"{sentence}: {queue}: {found.remark}"
    else:
        text = f"{sentence}, until {queue} admits the pod"
    if found and found.evicted:
        text += f"; it was taken away before: {_told(found.evicted, diagnose(QUEUE, found.evicted))}"
    return Cause(EngineState.STARTING, Reason.SCHEDULING_GATED, text, Lookup.QUEUE, diagnosis)


def cannot_be_scheduled(pod: PodFacts) -> Cause | None:
    """The scheduler has found no node for the pod."""
    scheduled = pod.condition("PodScheduled")
    if scheduled.get("status") != "False":
        return None
    words = str(scheduled.get("message") or scheduled.get("reason") or _NO_REASON)
    placement = pod.placement
    seen = placement.seen if placement else None
    diagnosis = diagnose(SCHEDULING, words, seen=seen, model_spec=pod.model_spec)
    remark = f" ({placement.remark})" if placement and placement.remark else ""
    more = f"; an autoscaler says: {quoted(placement.autoscaler)}" if placement and placement.autoscaler else ""
    sentence = f"cannot be scheduled: {_told(words, diagnosis)}{remark}{more}"
    lookup = None if says_all(SCHEDULING, words) else Lookup.PLACEMENT
    return replace(_failing(sentence, lookup=lookup), diagnosis=diagnosis)


def waits_for_its_claims(pod: PodFacts) -> Cause | None:
    """A scheduler says nothing of a pod whose claims of devices do not all exist, in its status nor in an Event."""
    if pod.is_scheduled or not pod.device_claims:
        return None
    lacking = next((one for one in pod.device_claims if not one.claim), None)
    named = next((one for one in pod.device_claims if not one.template), None)
    if lacking is not None:
        words = f'no claim has been made of resourceclaimtemplate "{lacking.template}"'
    elif named is not None:
        words = f'nothing is scheduled that waits for resourceclaim "{named.claim}"'
    else:
        return None
    diagnosis = diagnose(SCHEDULING, words, model_spec=pod.model_spec)
    sentence = f"waits{_at(pod.created_at)} for its devices: {_told(words, diagnosis)}"
    return replace(_failing(sentence) if pod.waits_too_long else _starting(sentence), diagnosis=diagnosis)


def waits_for_a_scheduler(pod: PodFacts) -> Cause | None:
    """No scheduler has said anything of the pod; that of a claim whose volume is being made is silent as well."""
    if pod.is_scheduled:
        return None
    text = f"waits{_at(pod.created_at)} for scheduler {pod.scheduler}, which has said nothing of it"
    if pod.unbound_claims:
        text += f"; claim {' and '.join(pod.unbound_claims)} has no volume: see its Events"
    return _failing(text if pod.unbound_claims else f"{text}: does it run?") if pod.waits_too_long else _starting(text)


def waits_for_its_kubelet(pod: PodFacts) -> Cause | None:
    """The pod has a node, whose kubelet has not reported it."""
    if pod.is_reported:
        return None
    node = f" of node {pod.node}" if pod.node else ""
    text = f"waits{_at(pod.waits_since)} for the kubelet{node}, which has not taken it"
    return _failing(f"{text}: is the node well?") if pod.waits_too_long else _starting(text)


def image_is_missing(pod: PodFacts) -> Cause | None:
    """An image cannot be pulled, or has a name that is none."""
    for container in _containers(pod):
        if container.waiting.get("reason") in _IMAGE_REASONS:
            error = pull_error(container, pod.finding)
            diagnosis = diagnose(IMAGE, error.words, seen=error.seen, where=image_field(container))
            sentence = f"cannot start: {_before(container)}{error.reason}: {_told(error.words, diagnosis)}"
            lookup = Lookup.EVENTS if error.is_told_by_events else None
            return replace(_failing(sentence, lookup=lookup), diagnosis=diagnosis)
    return None


def manager_cannot_start(pod: PodFacts) -> Cause | None:
    """The image has no Python, so the manager cannot start, and no engine by it."""
    texts = (str(pod.engine.waiting.get("message") or ""), str(pod.engine.terminated.get("message") or ""))
    if pod.engine.started or not any(map(_NO_PYTHON.search, texts)):
        return None
    return Cause(EngineState.FAILING, Reason.GATE_CANNOT_RUN, f"cannot start: there is no python3: {_PYTHON_ADVICE}")


def container_cannot_be_made(pod: PodFacts) -> Cause | None:
    """Kubelet cannot make a container: most often its configuration names what is not there."""
    for container in _containers(pod):
        reason = container.waiting.get("reason")
        if reason and reason not in _NORMAL_WAITING and reason != _BACK_OFF:
            words = str(container.waiting.get("message") or "")
            diagnosis = diagnose(CONTAINER, words, model_spec=pod.model_spec)
            text = f"{_before(container)}{reason}: {_told(words, diagnosis)}"
            return replace(_failing(f"cannot start: {text}"), diagnosis=diagnosis)
    return None


def init_container_fails(pod: PodFacts) -> Cause | None:
    """An init container ends with an error, so the engine is not started."""
    failed = (one for one in pod.init if one.role is Role.INIT and _has_failed(one))
    return next((_failing(f"cannot start: init container {one.name} {_end(one)}") for one in failed), None)


def sidecar_ended(pod: PodFacts) -> Cause | None:
    """A sidecar does not stay up; the pod is not ready without it."""
    ended = (one for one in (*pod.init, *pod.beside) if one.role is Role.SIDECAR and _has_ended(one))
    return next((_failing(f"is not ready: sidecar {one.name} {_end(one)}") for one in ended), None)


def engine_ended(pod: PodFacts) -> Cause | None:
    """The engine's process has ended, and has not passed its startup probe since."""
    if not _has_ended(pod.engine):
        return None
    diagnosis = diagnosed_end(pod.engine.terminated)
    lookup = Lookup.LOADING if pod.engine.running_since else None
    return replace(_failing(_engine_end(pod, diagnosis), lookup=lookup), diagnosis=diagnosis)


def container_keeps_crashing(pod: PodFacts) -> Cause | None:
    """Kubelet waits before it starts a container again, and no longer says how it ended."""
    waiting = (one for one in _containers(pod) if one.waiting.get("reason") == _BACK_OFF and not one.terminated)
    for container in waiting:
        text = quoted(container.waiting.get("message", ""))
        return _failing(f"cannot start: {_before(container)}{_BACK_OFF}: {text}")
    return None


def something_else_is_unready(pod: PodFacts) -> Cause | None:
    """The engine is ready and its pod is not: a sidecar or a readiness gate of the pod keeps it out."""
    ready = pod.condition("Ready")
    if not pod.engine.ready or ready.get("status") != "False":
        return None
    sentence = f"takes no traffic{_since(pod)}: the engine is ready, its pod is not: {quoted(ready.get('message', ''))}"
    if pod.has_served:
        return Cause(EngineState.WITHDRAWN, Reason.ENGINES_WITHDRAWN, sentence)
    return _starting(sentence)


def is_set_aside(pod: PodFacts) -> Cause | None:
    """The engine sleeps, is paused or changes its number of ranks, because somebody asked for it."""
    manager = pod.manager
    if manager is None or not pod.has_served or manager.cause not in _SET_ASIDE:
        return None
    sentence = f"takes no traffic{_since(pod)}{_colon(manager.sentence or manager.cause)}"
    return Cause(EngineState.WITHDRAWN, _SET_ASIDE[manager.cause], sentence)


def is_withdrawn(pod: PodFacts) -> Cause | None:
    """The engine has served, and its readiness probe has failed since."""
    if not pod.has_served:
        return None
    why = _colon(pod.manager.sentence) if pod.manager and not pod.manager.ready else _unanswered(pod)
    diagnosis = _diagnosis(pod.manager) if pod.manager and not pod.manager.ready else None
    sentence = f"served before, and takes no traffic{_since(pod)}{why}{_known(diagnosis)}"
    return Cause(EngineState.WITHDRAWN, Reason.ENGINES_WITHDRAWN, sentence, Lookup.WITHDRAWN, diagnosis)


def pod_cannot_be_set_up(pod: PodFacts) -> Cause | None:
    """Kubelet cannot mount the pod's volumes or make its sandbox, so it starts no container."""
    if not pod.kubelet_says or _is_set_up(pod):
        return None
    words = pod.kubelet_says
    diagnosis = diagnose(VOLUME, words, model_spec=pod.model_spec)
    sentence = f"cannot start{_since(pod)}: {_told(words, diagnosis)}"
    return replace(_failing(sentence), diagnosis=diagnosis)


def is_being_set_up(pod: PodFacts) -> Cause | None:
    """Kubelet makes the pod's sandbox, with its volumes and its network."""
    if _is_set_up(pod):
        return None
    return _starting(f"is being set up{_since(pod)}: volumes, network, image", lookup=Lookup.EVENTS)


def init_container_runs(pod: PodFacts) -> Cause | None:
    """An init container has not ended, or a sidecar before the engine has not started."""
    container = next((one for one in pod.init if not one.is_done), None)
    if container is None or _has_run(pod.engine):
        return None
    if not container.running_since:
        return _starting(f"waits for {container.role} {container.name}, whose image is pulled", lookup=Lookup.EVENTS)
    if container.role is Role.SIDECAR:
        text = f"waits for sidecar {container.name}, which runs{_at(container.running_since)} and has not started up"
    else:
        text = f"waits for init container {container.name}, which runs{_at(container.running_since)}"
    return _starting(text)


def pulls_its_image(pod: PodFacts) -> Cause | None:
    """All is there but the engine's container, so its image is pulled; kubelet reports a pull that fails by itself."""
    if _has_run(pod.engine):
        return None
    since = pod.condition("PodReadyToStartContainers").get("lastTransitionTime") or ""
    return _starting(f"pulls its image{_at(since)}")


def is_refused(pod: PodFacts) -> Cause | None:
    """The engine answers, and its answer is not what its manager has to see."""
    manager = pod.manager
    if manager is None or manager.cause not in _REFUSALS:
        return None
    diagnosis = _diagnosis(manager)
    sentence = f"is not admitted{_since(pod)}: {manager.sentence or manager.cause}{_known(diagnosis)}"
    reason = _REFUSALS.get(diagnosis.explanation.id if diagnosis else "", _REFUSALS[manager.cause])
    return Cause(EngineState.FAILING, reason, sentence, diagnosis=diagnosis)


def loads(pod: PodFacts) -> Cause:
    """Nothing is wrong, so the engine loads its model."""
    manager = pod.manager
    if manager is None or not manager.phase:
        text = f"loads its model{_since(pod)}{_colon(manager.sentence) if manager else _unanswered(pod)}"
        return _starting(text, lookup=Lookup.LOADING)
    if manager.ready:
        return _starting("has completed a prompt, and kubelet has not let it in yet", lookup=Lookup.LOADING)
    more = "" if manager.cause in _PHASE_SAYS_IT else _colon(manager.sentence)
    told = _starting(f"{_doing(manager)}{_at(manager.phase_since)}{more}", lookup=Lookup.LOADING)
    return replace(told, diagnosis=_diagnosis(manager))


POLICIES: Final[tuple[Policy, ...]] = (
    serves,  # what a pod went through before it got ready is over
    has_ended,  # a pod that is over says why itself; what its containers reported was before
    node_is_lost,  # what a node last reported may no longer be so
    is_held_back,  # gated pods are not unschedulable: no scheduler has tried
    cannot_be_scheduled,  # without a node there are no containers to look at
    waits_for_its_claims,  # no scheduler looks at a pod before its claims exist, and it says nothing
    waits_for_a_scheduler,
    waits_for_its_kubelet,
    image_is_missing,  # also where an earlier process has ended: the image is why there is no new one
    manager_cannot_start,  # before what says so in the words of the container runtime
    container_cannot_be_made,
    init_container_fails,  # what starts first counts first
    sidecar_ended,
    engine_ended,  # the crash counts more than the back-off that follows it
    container_keeps_crashing,
    something_else_is_unready,  # before what is said of engines that are not ready
    is_set_aside,  # what was asked for is no fault
    is_withdrawn,  # an engine that has served is past all that keeps one from being admitted
    pod_cannot_be_set_up,
    is_being_set_up,
    init_container_runs,
    pulls_its_image,
    is_refused,
    loads,  # always finds a cause
)


def cause_of(pod: PodFacts) -> Cause:
    """Why an engine is as it is: what the first policy finds."""
    return next(cause for policy in POLICIES if (cause := policy(pod)) is not None)


def end_of_pod(pod: PodFacts) -> str:
    """Why a pod as a whole has ended, in words: Evicted, Preempting, UnexpectedAdmissionError and so on."""
    disruption = pod.condition("DisruptionTarget")
    reason = pod.reason or disruption.get("reason") or pod.engine.terminated.get("reason") or _NO_REASON
    message = str(pod.message or disruption.get("message") or pod.engine.terminated.get("message") or "")
    if not message:
        return str(reason)
    diagnosis = diagnose(END, message)
    return f"{reason}: {_told(message, diagnosis)}"


def _failing(sentence: str, *, lookup: Lookup | None = None) -> Cause:
    return Cause(EngineState.FAILING, Reason.ENGINES_FAILING, sentence, lookup)


def _starting(sentence: str, *, lookup: Lookup | None = None) -> Cause:
    return Cause(EngineState.STARTING, Reason.ENGINES_STARTING, sentence, lookup)


def _containers(pod: PodFacts) -> tuple[ContainerFacts, ...]:
    """All containers, those first that start first."""
    return (*pod.init, pod.engine, *pod.beside)


def _is_set_up(pod: PodFacts) -> bool:
    """Whether sandbox, volumes and network are there; kubelets before 1.29 do not say it, but run containers then."""
    reported = pod.condition("PodReadyToStartContainers").get("status") == "True"
    return reported or any(_has_run(container) for container in _containers(pod))


def _has_run(container: ContainerFacts) -> bool:
    return bool(container.running_since or container.terminated)


def _has_ended(container: ContainerFacts) -> bool:
    """Whether a container that should run has ended, and has not passed its startup probe since."""
    return bool(container.terminated) and not container.started


def _has_failed(container: ContainerFacts) -> bool:
    """Whether an init container has ended with an error, and not well since."""
    return bool(container.terminated.get("exitCode"))


def _before(container: ContainerFacts) -> str:
    return "" if container.role is Role.ENGINE else f"{container.role} {container.name}: "


def _at(stamp: object) -> str:
    return f" since {stamp}" if stamp else ""


def _since(pod: PodFacts) -> str:
    return f" since {pod.since}" if pod.since else ""


def _colon(text: str) -> str:
    return f": {quoted(text)}" if text else ""


def _doing(manager: EngineStatus) -> str:
    """What an engine does in its load phase, and how much of it is done; a phase that is not known is told as it is."""
    doing = _PHASES.get(manager.phase, f"loads its model ({manager.phase})")
    return f"{doing} ({manager.phase_detail})" if manager.phase_detail else doing


def _unanswered(pod: PodFacts) -> str:
    return f"; {pod.unanswered}" if pod.unanswered else ""


def _diagnosis(manager: EngineStatus) -> Diagnosis | None:
    """The known failure that a manager tells of. Where it has recognized none, its excerpt may be of long ago."""
    return diagnosed(manager.recognized, [*(manager.excerpt if manager.recognized else ()), manager.sentence])


def _told(words: str, diagnosis: Diagnosis | None) -> str:
    """Somebody's words, and what is known of them."""
    return f"{quoted(words).rstrip('. ')}{_known(diagnosis)}" if diagnosis else quoted(words)


def _known(diagnosis: Diagnosis | None) -> str:
    return f": {diagnosis.sentence}" if diagnosis else ""


def _engine_end(pod: PodFacts, diagnosis: Diagnosis | None) -> str:
    """How the engine's process ended, in words: those of its manager, where it had any, and what is known of it."""
    ended = pod.engine.terminated
    sentence = managers_sentence(ended, managed=bool(pod.gate_port))
    if not sentence:
        return _end(pod.engine, diagnosis)
    told = f"{quoted(sentence)} ({pod.engine.restarts} restarts)"
    if sentence.startswith(OUT_OF_MEMORY):
        return f"{told}: {_MEMORY_ADVICE}"
    signal = exit_signal(ended.get("exitCode"))
    hint = signal.hint if signal and signal is not exit_signal(_KILLED) else ""  # who killed it, its manager has seen
    cause = _why(diagnosis, cause_below(ended) or hint)
    return f"{told}: {cause}" if cause else told


def _why(diagnosis: Diagnosis | None, words: str) -> str:
    """Why it ended: a known cause says more than the words that are there, and these say more than what follows."""
    return diagnosis.sentence if diagnosis and (diagnosis.is_cause or not words) else words


def _end(container: ContainerFacts, diagnosis: Diagnosis | None = None) -> str:
    """How a container ended, in words: by which signal, if by one, and what its log says last, or what that means."""
    how = _exit(container)
    shown = diagnosis if diagnosis and diagnosis.excerpt else None  # else its exit says it already
    words = _why(shown, cause_in(str(container.terminated.get("message") or "")))
    if words:
        return f"{how}: {words}"
    code = container.terminated.get("exitCode")
    return f"{how}; {_ITS_LOG}" if code == 0 and container.role is Role.ENGINE else how


def _exit(container: ContainerFacts) -> str:
    """How a container ended, as far as its exit code and kubelet's reason tell."""
    code, reason = container.terminated.get("exitCode"), str(container.terminated.get("reason", _NO_REASON))
    signal, hint = exit_signal(code), exit_hint(code, reason)
    how = f"ended with exit code {code}{f', {signal}' if signal else ''} ({reason}, {container.restarts} restarts)"
    if code == 0 and container.role is Role.ENGINE:
        how += ", which is a crash too: vLLM exits so when its engine has died"
    return f"{how}, {hint}" if hint else how
