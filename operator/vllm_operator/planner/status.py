"""From what was observed to the status that people and programs read. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.api import names
from vllm_operator.api.conditions import MAX_MESSAGE_LENGTH, Condition, ConditionType, Reason
from vllm_operator.api.status import MAX_WARNING_LENGTH, MAX_WARNINGS, Binding, VLLMModelStatus
from vllm_operator.planner import pods
from vllm_operator.planner.pods import EngineState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from vllm_operator.planner.pods import EngineReport


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

    @property
    def complete(self) -> bool:
        """Whether exactly the wanted engines exist and serve."""
        return self.caught_up and self.wanted == self.existing == self.current == self.serving

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


def fleet(
    wanted: int, deployment: Mapping[str, Any] | None, engines: tuple[EngineReport, ...], *, pending: bool
) -> Fleet:
    """Read the Deployment. `pending` says that it is about to be written, so its status speaks of the past."""
    live = deployment or {}
    status = live.get("status", {})
    generation = live.get("metadata", {}).get("generation", 0)
    return Fleet(
        wanted=wanted,
        existing=status.get("replicas", 0),
        current=status.get("updatedReplicas", 0),
        serving=status.get("readyReplicas", 0),
        caught_up=bool(live) and not pending and status.get("observedGeneration", 0) >= generation,
        deadline_exceeded=any(
            condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded"
            for condition in status.get("conditions", [])
        ),
        engines=engines,
    )


def judge(seen: Fleet) -> Outcome:
    """Why the model is as it is: the first line that applies."""
    if seen.complete:
        if not seen.wanted:
            text = "spec.replicas is 0: no engine is wanted"
            return Outcome(ready=False, reason=Reason.SCALED_TO_ZERO, message=text, settled=True)
        return Outcome(ready=True, reason=Reason.ALL_ENGINES_SERVE, message=seen.count)
    failing = pods.summary(seen.engines, EngineState.FAILING)
    if seen.caught_up and seen.deadline_exceeded:
        text = f"{seen.count}, and no progress within the start-up budget"
        reason = Reason.PROGRESS_DEADLINE_EXCEEDED
        return Outcome(ready=False, reason=reason, message=_joined(text, failing), stalled=True)
    if failing:
        return Outcome(ready=False, reason=_failure(seen), message=_joined(seen.count, failing))
    withdrawn = pods.summary(seen.engines, EngineState.WITHDRAWN)
    if withdrawn:
        return Outcome(ready=False, reason=Reason.ENGINES_WITHDRAWN, message=_joined(seen.count, withdrawn))
    return Outcome(ready=False, reason=_way(seen), message=_joined(seen.count, _starting(seen)))


def _failure(seen: Fleet) -> Reason:
    """What all failing engines have in common."""
    reasons = {engine.reason for engine in seen.engines if engine.state is EngineState.FAILING}
    return reasons.pop() if len(reasons) == 1 else Reason.ENGINES_FAILING


def _way(seen: Fleet) -> Reason:
    """What kind of change is on its way."""
    if not seen.serving and seen.wanted:
        return Reason.ENGINES_STARTING
    if not seen.caught_up or seen.current < seen.existing:
        return Reason.ROLLING_OUT
    return Reason.SCALING if seen.existing != seen.wanted else Reason.ENGINES_STARTING


def _starting(seen: Fleet) -> str:
    return pods.summary(seen.engines, EngineState.STARTING)


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def refused(reason: Reason, message: str) -> Outcome:
    """Nothing will change until somebody acts. What serves goes on serving."""
    return Outcome(ready=False, reason=reason, message=message, stalled=True)


def unfinished(reason: Reason, message: str) -> Outcome:
    """The operator tries again by itself."""
    return Outcome(ready=False, reason=reason, message=message)


def status_of(
    raw: Mapping[str, Any], seen: Fleet, outcome: Outcome, *, address: str, warnings: Iterable[str] = (), now: datetime
) -> dict[str, Any]:
    """The whole status; `address` is the model's base URL. What is empty is left out where it may be."""
    instance = names.instance_name(raw["metadata"]["name"])
    before = {condition["type"]: condition for condition in raw.get("status", {}).get("conditions", [])}
    return VLLMModelStatus(
        observed_generation=raw["metadata"].get("generation", 0),
        replicas=seen.existing,
        ready_replicas=seen.serving,
        selector=names.selector_text(instance),
        url=address,
        binding=Binding(name=names.binding_name(instance), config_map=names.client_name(instance)),
        warnings=[warning[:MAX_WARNING_LENGTH] for warning in warnings][:MAX_WARNINGS] or None,
        conditions=[
            _condition(kind, told, raw, _transition_time(before.get(kind), told[0], now))
            for kind, told in _conditions(seen, outcome).items()
        ],
    ).model_dump(mode="json", by_alias=True, exclude_none=True)


def _condition(
    kind: ConditionType, told: tuple[str, Reason, str], raw: Mapping[str, Any], transition_time: str
) -> Condition:
    status, reason, message = told
    return Condition.model_validate(
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message[:MAX_MESSAGE_LENGTH],
            "observed_generation": raw["metadata"].get("generation", 0),
            "last_transition_time": transition_time,
        }
    )


def _available(serving: int) -> tuple[str, Reason, str]:
    if serving:
        return "True", Reason.ENGINES_SERVE, "at least one engine takes traffic"
    return "False", Reason.NO_ENGINE_SERVES, "no engine takes traffic"


def _conditions(seen: Fleet, outcome: Outcome) -> dict[ConditionType, tuple[str, Reason, str]]:
    as_desired = ("False", Reason.AS_DESIRED, "")
    why = (outcome.reason, outcome.message)
    settled = outcome.ready or outcome.settled
    return {
        ConditionType.READY: (str(outcome.ready), *why),
        ConditionType.AVAILABLE: _available(seen.serving),
        ConditionType.RECONCILING: as_desired if settled else (str(not outcome.stalled), *why),
        ConditionType.STALLED: ("True", *why) if outcome.stalled else as_desired,
    }


def _transition_time(before: Mapping[str, Any] | None, status: str, now: datetime) -> str:
    """The time stamp moves only when the condition's status does."""
    if before and before.get("status") == status:
        return str(before["lastTransitionTime"])
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
