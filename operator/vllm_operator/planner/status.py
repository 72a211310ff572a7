"""From what was observed to the status that people and programs read. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.api import names
from vllm_operator.api.conditions import MAX_MESSAGE_LENGTH, Condition, ConditionType, Reason
from vllm_operator.api.status import Binding, VLLMModelStatus
from vllm_operator.planner import pods
from vllm_operator.planner.pods import EngineState
from vllm_operator.render.service import url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from vllm_operator.api.resource import VLLMModel
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
    model: VLLMModel, deployment: Mapping[str, Any] | None, engines: tuple[EngineReport, ...], *, pending: bool
) -> Fleet:
    """Read the Deployment. `pending` says that it is about to be written, so its status speaks of the past."""
    live = deployment or {}
    status = live.get("status", {})
    generation = live.get("metadata", {}).get("generation", 0)
    return Fleet(
        wanted=model.spec.replicas,
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
        return Outcome(ready=False, reason=Reason.ENGINES_FAILING, message=_joined(seen.count, failing))
    withdrawn = pods.summary(seen.engines, EngineState.WITHDRAWN)
    if withdrawn:
        return Outcome(ready=False, reason=Reason.ENGINES_WITHDRAWN, message=_joined(seen.count, withdrawn))
    return Outcome(ready=False, reason=_way(seen), message=_joined(seen.count, _starting(seen)))


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


def status_of(model: VLLMModel, seen: Fleet, outcome: Outcome, raw: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The whole status of a model whose spec can be followed."""
    conditions = _conditions(seen, outcome)
    return _status(
        model_fields={
            "replicas": seen.existing,
            "ready_replicas": seen.serving,
            "selector": names.selector_text(model.instance),
            "url": url(model),
            "binding": Binding(name=names.client_name(model.instance)),
        },
        conditions=conditions,
        raw=raw,
        now=now,
    )


def refused_status(raw: Mapping[str, Any], reason: Reason, message: str, now: datetime) -> dict[str, Any]:
    """Status of a model that the operator cannot follow: what serves goes on serving and is counted as before."""
    before = raw.get("status", {})
    serving = before.get("readyReplicas", 0)
    conditions = {
        ConditionType.READY: ("False", reason, message),
        ConditionType.AVAILABLE: _available(serving),
        ConditionType.RECONCILING: ("False", reason, message),
        ConditionType.STALLED: ("True", reason, message),
    }
    kept = {name: before.get(key, default) for name, key, default in _KEPT}
    return _status(model_fields=kept, conditions=conditions, raw=raw, now=now)


_KEPT = (
    ("replicas", "replicas", 0),
    ("ready_replicas", "readyReplicas", 0),
    ("selector", "selector", ""),
    ("url", "url", ""),
    ("binding", "binding", {"name": ""}),
)


def _available(serving: int) -> tuple[str, Reason, str]:
    if serving:
        return "True", Reason.ENGINES_SERVE, "at least one engine takes traffic"
    return "False", Reason.NO_ENGINE_SERVES, "no engine takes traffic"


def _conditions(seen: Fleet, outcome: Outcome) -> dict[ConditionType, tuple[str, Reason, str]]:
    on_the_way = not (outcome.ready or outcome.stalled or outcome.settled)
    as_desired = ("False", Reason.AS_DESIRED, "")
    why = (outcome.reason, outcome.message)
    return {
        ConditionType.READY: (str(outcome.ready), *why),
        ConditionType.AVAILABLE: _available(seen.serving),
        ConditionType.RECONCILING: ("True", *why) if on_the_way else as_desired,
        ConditionType.STALLED: ("True", *why) if outcome.stalled else as_desired,
    }


def _status(
    *,
    model_fields: Mapping[str, Any],
    conditions: Mapping[ConditionType, tuple[str, Reason, str]],
    raw: Mapping[str, Any],
    now: datetime,
) -> dict[str, Any]:
    generation = raw["metadata"].get("generation", 0)
    before = {condition["type"]: condition for condition in raw.get("status", {}).get("conditions", [])}
    return VLLMModelStatus(
        observed_generation=generation,
        conditions=[
            Condition.model_validate(
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message[:MAX_MESSAGE_LENGTH],
                    "observed_generation": generation,
                    "last_transition_time": _transition_time(before.get(kind), status, now),
                }
            )
            for kind, (status, reason, message) in conditions.items()
        ],
        **model_fields,
    ).model_dump(mode="json", by_alias=True)


def _transition_time(before: Mapping[str, Any] | None, status: str, now: datetime) -> str:
    """The time stamp moves only when the condition's status does."""
    if before and before.get("status") == status:
        return str(before["lastTransitionTime"])
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
