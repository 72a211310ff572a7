"""Metrics of the models, as the leader last saw each: their conditions, engines, rollouts and pending templates.

What is exported follows what is remembered, so the series of a model go with it. Labels are a model's namespace and
name, and words of the API, which are few: a message is in its status.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from vllm_operator.api.conditions import ConditionType, Reason, by_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric

    from vllm_operator.diagnosis.engines import EngineReport

ROLLOUT_REASONS: Final = (
    Reason.ROLLING_OUT,
    Reason.ROLLOUT_WAITS,
    Reason.ROLLOUT_BLOCKED,
    Reason.ROLLOUT_PAUSED,
    Reason.REVISION_FAILS,
)
"""Why a rollout stands where it does, as the condition Ready says it; of any other reason it is on its way."""


class ModelKey(NamedTuple):
    """Which model."""

    namespace: str
    name: str


class Condition(NamedTuple):
    """One condition of a model."""

    type: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelSeen:
    """One model, as it was last looked at."""

    engines: Mapping[tuple[str, str], int]
    """How many, by state and reason."""
    conditions: tuple[Condition, ...] = ()
    rollout: str = ""
    """Why its rollout stands where it does, one of ROLLOUT_REASONS; empty where none is on its way."""
    pending: bool = False
    """Whether its engines keep a pod template that this version of the operator renders otherwise."""


def model_seen(engines: Iterable[EngineReport], status: Mapping[str, Any], *, pending: bool) -> ModelSeen:
    """What metrics tell of a model.

    Args:
        engines: Its engines.
        status: Its status, as it stands now.
        pending: See `ModelSeen`.
    """
    conditions = by_type(status)
    reason = conditions.get(ConditionType.READY, {}).get("reason", "")
    return ModelSeen(
        engines=collections.Counter((str(engine.state), str(engine.reason)) for engine in engines),
        conditions=tuple(
            Condition(kind, str(one.get("status", "Unknown")), str(one.get("reason", "")))
            for kind, one in sorted(conditions.items())
        ),
        rollout=(reason if reason in ROLLOUT_REASONS else Reason.ROLLING_OUT) if status.get("rollout") else "",
        pending=pending,
    )


class ModelMetrics(Collector):
    """Collects from what is remembered of each model."""

    def __init__(self) -> None:
        self._models: dict[ModelKey, ModelSeen] = {}

    def see(self, model: tuple[str, str], seen: ModelSeen) -> None:
        """Remember a model, in the place of what was known of it."""
        self._models[ModelKey(*model)] = seen

    def forget(self, model: tuple[str, str]) -> None:
        """Forget a model that is gone, or is on its way."""
        self._models.pop(ModelKey(*model), None)

    def forget_namespace(self, namespace: str) -> None:
        """Forget all models of a namespace that is not followed any more."""
        self._models = {key: seen for key, seen in self._models.items() if key.namespace != namespace}

    def clear(self) -> None:
        """Forget every model: another replica tells of them now."""
        self._models.clear()

    def collect(self) -> Iterator[Metric]:
        """The metrics, when they are asked for."""
        models = sorted(self._models.items())
        yield _engines(seen for _, seen in models)
        yield _conditions(models)
        yield _rollouts(seen for _, seen in models)
        help_text = "Models whose engines keep a pod template that this version of the operator renders otherwise."
        pending = sum(seen.pending for _, seen in models)
        yield GaugeMetricFamily("vllm_operator_template_updates_pending", help_text, value=pending)


def _engines(models: Iterable[ModelSeen]) -> Metric:
    family = GaugeMetricFamily("vllm_operator_engines", "Engines by state and reason.", labels=["state", "reason"])
    counted: collections.Counter[tuple[str, str]] = collections.Counter()
    for seen in models:
        counted.update(seen.engines)
    for labels, number in sorted(counted.items()):
        family.add_metric(labels, number)
    return family


def _conditions(models: Iterable[tuple[ModelKey, ModelSeen]]) -> Metric:
    labels = ["namespace", "name", "type", "status", "reason"]
    help_text = "1 for each condition of each model, as its status has it."
    family = GaugeMetricFamily("vllm_operator_model_condition", help_text, labels=labels)
    for key, seen in models:
        for condition in seen.conditions:
            family.add_metric([*key, *condition], 1)
    return family


def _rollouts(models: Iterable[ModelSeen]) -> Metric:
    help_text = "Models of which a change is on its way to the engines, by what the condition Ready says of it."
    family = GaugeMetricFamily("vllm_operator_rollouts", help_text, labels=["reason"])
    counted = collections.Counter(seen.rollout for seen in models)
    for reason in ROLLOUT_REASONS:
        family.add_metric([reason], counted[reason])
    return family
