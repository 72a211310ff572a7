"""From what was observed to the status that people and programs read. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.conditions import MAX_MESSAGE_LENGTH, Condition, ConditionType, Reason, by_type
from vllm_operator.api.status import (
    MAX_DIAGNOSES,
    MAX_ENGINES,
    MAX_EXCERPT_LENGTH,
    MAX_FIELD_LENGTH,
    MAX_PHASE_LENGTH,
    MAX_SENTENCE_LENGTH,
    MAX_WARNING_LENGTH,
    MAX_WARNINGS,
    Adapter,
    Binding,
    Diagnosis,
    Engine,
    RolloutProgress,
    VLLMModelStatus,
)
from vllm_operator.api.status import EngineState as ToldState
from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.planner.degraded import degraded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from vllm_operator.api.capacity import Capacity
    from vllm_operator.api.status import Prefetched
    from vllm_operator.diagnosis.engines import EngineReport
    from vllm_operator.diagnosis.fleet import Fleet, Outcome


NOTHING_MORE: Final[Mapping[ConditionType, tuple[str, Reason, str] | None]] = MappingProxyType({})
"""No condition beside those that every model has."""


def status_of(
    raw: Mapping[str, Any],
    seen: Fleet,
    outcome: Outcome,
    *,
    address: str,
    operator: str = "",
    vllm_version: str | None = None,
    rollout: RolloutProgress | None = None,
    warnings: Iterable[str] = (),
    pending_template: str | None = "",
    optional: Mapping[ConditionType, tuple[str, Reason, str] | None] = NOTHING_MORE,
    estimate: Capacity | None = None,
    adapters: Sequence[Adapter] = (),
    prefetch: Sequence[Prefetched] = (),
    now: datetime,
) -> dict[str, Any]:
    """The whole status; `address` is the model's base URL, `operator` the release that tells it.

    `vllm_version` is what the engines' arguments are made for. `pending_template` says in what the pods differ that
    this version of the operator would render: empty where in nothing, None where the spec cannot be rendered.
    `optional` are conditions that only some models have. What is empty is left out where it may be.
    """
    name = raw["metadata"]["name"]
    instance, pending = names.instance_name(name), _pending(name, pending_template)
    conditions = {**_conditions(seen, outcome), ConditionType.TEMPLATE_UPDATE_PENDING: pending, **optional}
    return VLLMModelStatus(
        observed_generation=raw["metadata"].get("generation", 0),
        replicas=seen.existing,
        ready_replicas=seen.serving,
        updated_replicas=seen.current,
        selector=names.selector_text(instance),
        url=address,
        operator=operator or None,
        vllm_version=vllm_version,
        binding=Binding(name=names.binding_name(instance), config_map=names.client_name(instance)),
        rollout=rollout,
        prefetch=list(prefetch) or None,
        engines=_engines(seen.engines) or None,
        adapters=list(adapters) or None,
        estimate=estimate,
        diagnosis=_diagnoses(seen.engines, raw.get("status", {}).get("diagnosis") or (), now) or None,
        warnings=[warning[:MAX_WARNING_LENGTH] for warning in warnings][:MAX_WARNINGS] or None,
        conditions=[_condition(kind, told, raw, now) for kind, told in conditions.items() if told],
    ).model_dump(mode="json", by_alias=True, exclude_none=True)


def _engines(reports: Iterable[EngineReport]) -> list[Engine]:
    """The engines, those first that do not serve, then by name; so many as there is room for."""
    by_need = sorted(reports, key=lambda report: (report.state is EngineState.SERVING, report.pod))
    return [
        Engine(
            pod=report.pod,
            state=ToldState(report.state.capitalize()),
            phase=report.phase[:MAX_PHASE_LENGTH] or None,
            since=report.since or None,
            sentence=report.sentence[:MAX_SENTENCE_LENGTH] or None,
            capacity=report.capacity,
        )
        for report in by_need[:MAX_ENGINES]
    ]


def _diagnoses(reports: Iterable[EngineReport], before: Iterable[Mapping[str, Any]], now: datetime) -> list[Diagnosis]:
    """What is known of the failures of engines, by their pods' names; each since it was first told of its engine."""
    since = {(told["engine"], told["id"]): str(told["since"]) for told in before}
    found = sorted(((report.pod, report.diagnosis) for report in reports if report.diagnosis), key=lambda pair: pair[0])
    return [
        Diagnosis(
            engine=pod,
            id=known.explanation.id,
            cause=known.explanation.cause[:MAX_SENTENCE_LENGTH],
            advice=known.explanation.advice[:MAX_SENTENCE_LENGTH],
            field=known.explanation.field or None,
            value=known.explanation.value[:MAX_FIELD_LENGTH] or None,
            since=since.get((pod, known.explanation.id)) or _stamp(now),
            excerpt=known.excerpt[:MAX_EXCERPT_LENGTH] or None,
        )
        for pod, known in found[:MAX_DIAGNOSES]
    ]


def _stamp(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(kind: ConditionType, told: tuple[str, Reason, str], raw: Mapping[str, Any], now: datetime) -> Condition:
    status, reason, message = told
    before = by_type(raw.get("status", {})).get(kind)
    return Condition.model_validate(
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message[:MAX_MESSAGE_LENGTH],
            "observed_generation": raw["metadata"].get("generation", 0),
            "last_transition_time": _transition_time(before, status, now),
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
        ConditionType.DEGRADED: degraded(seen, outcome),
        ConditionType.RECONCILING: as_desired if settled else (str(not outcome.stalled), *why),
        ConditionType.STALLED: ("True", *why) if outcome.stalled else as_desired,
    }


def _pending(name: str, difference: str | None) -> tuple[str, Reason, str]:
    if difference is None:
        return "Unknown", Reason.INVALID_SPEC, "the spec cannot be followed, so no pods are rendered from it"
    if not difference:
        return "False", Reason.AS_DESIRED, ""
    way = f"`kubectl vllm rollout restart {name}` asks for it"
    told = f"this version of the operator renders other pods: the engines keep theirs until the spec changes or {way}"
    return "True", Reason.NEWER_TEMPLATE, f"{told}: {difference}"


def _transition_time(before: Mapping[str, Any] | None, status: str, now: datetime) -> str:
    """The time stamp moves only when the condition's status does."""
    if before and before.get("status") == status:
        return str(before["lastTransitionTime"])
    return _stamp(now)
