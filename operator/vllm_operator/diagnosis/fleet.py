"""Why a model is ready or not: its Deployment and its engines, judged by an ordered chain of policies. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import Reason, by_type
from vllm_operator.diagnosis.cause import EngineState, quoted
from vllm_operator.diagnosis.ended import keep_ending, story
from vllm_operator.diagnosis.engines import summary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.diagnosis.ended import EndedPod
    from vllm_operator.diagnosis.engines import EngineReport


_FORBIDDEN: Final = re.compile(r'^(?:Pod|pods) "[^"]*" is (?:forbidden|invalid): ')
"""Before the cause; the pod was never made, so its name helps nobody."""

_REFUSALS: Final = (
    (
        re.compile(r"exceeded quota|must specify|failed quota"),
        "free or raise the namespace's ResourceQuota, or ask for less",
    ),
    (
        re.compile(r"violates PodSecurity"),
        "change spec.pod, or the pod-security.kubernetes.io/enforce label of the namespace",
    ),
    (re.compile(r"admission webhook|ValidatingAdmissionPolicy|denied the request"), "ask whoever runs that policy"),
    (re.compile(r"(?:maximum|minimum) .* usage per"), "the namespace has a LimitRange: change spec.resources, or it"),
    (
        re.compile(r"error looking up service account"),
        "make that ServiceAccount in this namespace, or correct spec.pod.serviceAccountName",
    ),
    (
        re.compile(r"no PriorityClass with name"),
        "correct spec.scheduling.priorityClassName, or make that PriorityClass (`kubectl get priorityclasses`)",
    ),
    (
        re.compile(r"RuntimeClass .* not found"),
        "correct spec.scheduling.runtimeClassName, or make that RuntimeClass (`kubectl get runtimeclasses`)",
    ),
)
"""Who is against a pod, as the API server's message shows it, and what can be done."""

_NO_ADVICE: Final = "change the spec, or what refuses it"
_TRIED_AGAIN: Final = "within 17 minutes"
"""The longest back-off of the ReplicaSet's controller is 1000 s."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The engines of one model, as its Deployment and its pods report them."""

    wanted: int
    existing: int
    current: int
    """Engines of the newest template."""
    serving: int
    caught_up: bool
    """Whether the Deployment's own status speaks of what is wanted now."""
    deadline_exceeded: bool
    engines: tuple[EngineReport, ...]
    ended: tuple[EndedPod, ...] = ()
    """Pods that are over, and that nothing has replaced yet that serves."""
    evicted: str = ""
    """That a queue has taken a pod away, as a sentence; empty where it has not, or others have come since."""
    refusal: str = ""
    """Why Kubernetes makes or deletes no pods, in its own words with advice; empty where it does."""
    suspended: bool = False
    """Whether no engine is wanted because the model is suspended."""

    @property
    def complete(self) -> bool:
        """Whether exactly the wanted engines exist and serve."""
        return self.caught_up and self.wanted == self.existing == self.current == self.serving

    def sentences(self, state: EngineState) -> str:
        """The sentences of the engines in a state; empty where there are none."""
        return summary(self.engines, state)

    @property
    def symptoms(self) -> str:
        """What slows engines down that serve, and what they refuse to everybody, each once; empty where nothing is."""
        serving = (engine for engine in self.engines if engine.state is EngineState.SERVING)
        return "; ".join(dict.fromkeys(engine.diagnosis.sentence for engine in serving if engine.diagnosis))

    @property
    def count(self) -> str:
        """How many serve, in words."""
        return f"{self.serving} of {self.wanted} engines serve"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Why the model is ready or not, and whether anything is still on its way."""

    ready: bool
    reason: Reason
    message: str
    stalled: bool = False
    settled: bool = False
    """Nothing is on its way, though the model is not ready."""


def observed(
    wanted: int,
    deployment: Mapping[str, Any] | None,
    engines: tuple[EngineReport, ...],
    *,
    pending: bool,
    suspended: bool = False,
    ended: tuple[EndedPod, ...] = (),
    evicted: str = "",
) -> Fleet:
    """Read the Deployment. `pending` says that it is about to be written, so its status speaks of the past."""
    live = deployment or {}
    status = live.get("status", {})
    generation = live.get("metadata", {}).get("generation", 0)
    conditions = by_type(status)
    return Fleet(
        wanted=wanted,
        existing=status.get("replicas", 0),
        current=status.get("updatedReplicas", 0),
        serving=status.get("readyReplicas", 0),
        caught_up=bool(live) and not pending and status.get("observedGeneration", 0) >= generation,
        deadline_exceeded=conditions.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded",
        refusal=refusal_of(conditions.get("ReplicaFailure", {})),
        engines=engines,
        ended=ended,
        evicted=evicted,
        suspended=suspended,
    )


def refusal_of(condition: Mapping[str, Any]) -> str:
    """The Deployment's condition ReplicaFailure as a sentence, with advice; empty where it does not hold.

    The message is that of the first refusal: the ReplicaSet's controller keeps it until one of its attempts succeeds.
    """
    if condition.get("status") != "True":
        return ""
    text = _FORBIDDEN.sub("", str(condition.get("message") or ""))
    if condition.get("reason") == "FailedDelete":
        return f"Kubernetes cannot delete pods: {quoted(text)}"
    advice = next((advice for pattern, advice in _REFUSALS if pattern.search(text)), _NO_ADVICE)
    return f"the API server refuses pods: {quoted(text)}; {advice}; Kubernetes tries again {_TRIED_AGAIN}"


def refused(reason: Reason, message: str) -> Outcome:
    """Nothing will change until somebody acts. What serves goes on serving."""
    return Outcome(ready=False, reason=reason, message=message, stalled=True)


def unfinished(reason: Reason, message: str) -> Outcome:
    """The operator tries again by itself."""
    return Outcome(ready=False, reason=reason, message=message)


def all_serve(seen: Fleet) -> Outcome | None:
    """Exactly the wanted engines exist and serve."""
    if not seen.complete:
        return None
    if seen.suspended:
        text = "spec.suspend is true: no engine is wanted until it is false again"
        return Outcome(ready=False, reason=Reason.SUSPENDED, message=text, settled=True)
    if not seen.wanted:
        text = "spec.replicas is 0: no engine is wanted, and connections are refused until it is raised"
        return Outcome(ready=False, reason=Reason.SCALED_TO_ZERO, message=text, settled=True)
    return Outcome(ready=True, reason=Reason.ALL_ENGINES_SERVE, message=_joined(seen.count, seen.symptoms))


def is_too_late(seen: Fleet) -> Outcome | None:
    """The Deployment has made no progress within the start-up budget."""
    if not (seen.caught_up and seen.deadline_exceeded):
        return None
    late = f"{seen.count}, and no progress within the start-up budget"
    engines = seen.sentences(EngineState.FAILING) or seen.sentences(EngineState.STARTING)
    message = _joined(late, seen.refusal, engines, story(seen.ended))
    return Outcome(ready=False, reason=Reason.PROGRESS_DEADLINE_EXCEEDED, message=message, stalled=True)


def pods_are_refused(seen: Fleet) -> Outcome | None:
    """The API server takes in no pod of the Deployment: a quota, Pod Security or a webhook is against it.

    Not stalled: the ReplicaSet's controller tries again by itself, and a quota may be freed by others.
    """
    if not (seen.caught_up and seen.refusal):
        return None
    message = _joined(seen.count, seen.refusal, seen.sentences(EngineState.FAILING))
    return unfinished(Reason.PODS_REFUSED, message)


def engines_fail(seen: Fleet) -> Outcome | None:
    """Some engine cannot start or does not stay up. Stalled where starting them again is known not to help."""
    failing = seen.sentences(EngineState.FAILING)
    if not failing:
        return None
    reason = _common_reason(seen, EngineState.FAILING) or Reason.ENGINES_FAILING
    message = _joined(seen.count, failing, story(seen.ended))
    return refused(reason, message) if _is_hopeless(seen) else unfinished(reason, message)


def pods_keep_ending(seen: Fleet) -> Outcome | None:
    """Engines are evicted or rejected, and those that replace them as well."""
    if not keep_ending(seen.ended):
        return None
    message = _joined(seen.count, f"pods end one after the other, the last: {story(seen.ended)}")
    return unfinished(Reason.ENGINES_FAILING, message)


def engines_are_withdrawn(seen: Fleet) -> Outcome | None:
    """Some engine has lost its traffic."""
    withdrawn = seen.sentences(EngineState.WITHDRAWN)
    if not withdrawn:
        return None
    reason = _common_reason(seen, EngineState.WITHDRAWN) or Reason.ENGINES_WITHDRAWN
    return unfinished(reason, _joined(seen.count, withdrawn, story(seen.ended)))


def is_on_its_way(seen: Fleet) -> Outcome:
    """Nothing is wrong, so a change is on its way."""
    starting = seen.sentences(EngineState.STARTING)
    return unfinished(_way(seen), _joined(seen.count, seen.evicted, starting, story(seen.ended)))


POLICIES: Final[tuple[Callable[[Fleet], Outcome | None], ...]] = (
    all_serve,  # of engines that are not wanted any more nothing is told
    is_too_late,  # the one state of a Deployment that does not end by itself
    pods_are_refused,  # engines that do not exist cannot say what is wrong with them
    engines_fail,  # what is broken counts more than what may recover
    pods_keep_ending,
    engines_are_withdrawn,
    is_on_its_way,  # always has an outcome
)


def judge(seen: Fleet) -> Outcome:
    """Why the model is as it is: what the first policy says."""
    return next(outcome for policy in POLICIES if (outcome := policy(seen)) is not None)


def _common_reason(seen: Fleet, state: EngineState) -> Reason | None:
    """The reason that all engines in a state have in common; None where they have none."""
    reasons = {engine.reason for engine in seen.engines if engine.state is state}
    return reasons.pop() if len(reasons) == 1 else None


def _is_hopeless(seen: Fleet) -> bool:
    """Whether no engine serves or starts, and each fails of what no further start of it can mend."""
    states = {engine.state for engine in seen.engines}
    known = [engine.diagnosis for engine in seen.engines]
    return states == {EngineState.FAILING} and all(one is not None and one.explanation.permanent for one in known)


def _way(seen: Fleet) -> Reason:
    """What kind of change is on its way."""
    if _common_reason(seen, EngineState.STARTING) is Reason.SCHEDULING_GATED:
        return Reason.SCHEDULING_GATED
    if not seen.serving and seen.wanted:
        return Reason.ENGINES_STARTING
    if not seen.caught_up or seen.current < seen.existing:
        return Reason.ROLLING_OUT
    return Reason.SCALING if seen.existing != seen.wanted else Reason.ENGINES_STARTING


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
