"""Metrics of models: what each has, what goes with it, and what no label ever holds."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from vllm_operator.api.conditions import ConditionType, Reason
from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.diagnosis.engines import EngineReport
from vllm_operator.telemetry.models import ROLLOUT_REASONS, ModelMetrics, model_seen

QWEN, LLAMA = ("team", "qwen"), ("team", "llama")


def engine(state: EngineState, reason: Reason) -> EngineReport:
    """An engine; its sentence is no label."""
    return EngineReport("qwen-1", state, reason, sentence="of a sentence nobody makes a label")


def condition(kind: str, status: str, reason: str) -> dict[str, str]:
    """A condition, with a message."""
    return {"type": kind, "status": status, "reason": reason, "message": "of a message nobody makes a label"}


def lines(metrics: ModelMetrics) -> list[str]:
    """The samples."""
    registry = CollectorRegistry()
    registry.register(metrics)
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


SERVES = model_seen(
    [engine(EngineState.SERVING, Reason.ENGINES_SERVE)] * 2,
    {"conditions": [condition("Ready", "True", "AllEnginesServe"), condition("Available", "True", "EnginesServe")]},
    pending=False,
)
ROLLS = model_seen(
    [engine(EngineState.SERVING, Reason.ENGINES_SERVE), engine(EngineState.STARTING, Reason.ENGINES_STARTING)],
    {"conditions": [condition("Ready", "False", "RolloutBlocked")], "rollout": {"strategy": "Surge"}},
    pending=True,
)


def test_each_model_has_its_conditions_and_all_of_them_share_the_counts() -> None:
    metrics = ModelMetrics()
    metrics.see(QWEN, SERVES)
    metrics.see(LLAMA, ROLLS)
    assert lines(metrics) == [
        'vllm_operator_engines{reason="EnginesServe",state="serving"} 3.0',
        'vllm_operator_engines{reason="EnginesStarting",state="starting"} 1.0',
        *(
            f'vllm_operator_model_condition{{name="{name}",namespace="team",reason="{reason}",status="{status}",'
            f'type="{kind}"}} 1.0'
            for name, reason, status, kind in (
                ("llama", "RolloutBlocked", "False", "Ready"),
                ("qwen", "EnginesServe", "True", "Available"),
                ("qwen", "AllEnginesServe", "True", "Ready"),
            )
        ),
        *(
            f'vllm_operator_rollouts{{reason="{reason}"}} {float(reason == "RolloutBlocked")}'
            for reason in ROLLOUT_REASONS
        ),
        "vllm_operator_template_updates_pending 1.0",
    ]


def test_the_series_of_a_model_go_with_it_and_those_of_an_earlier_state_with_that() -> None:
    metrics = ModelMetrics()
    metrics.see(QWEN, ROLLS)
    metrics.see(QWEN, SERVES)
    assert not [line for line in lines(metrics) if "RolloutBlocked" in line and line.endswith(" 1.0")]
    metrics.see(LLAMA, ROLLS)
    metrics.forget(LLAMA)
    assert not [line for line in lines(metrics) if "llama" in line]
    metrics.forget(LLAMA)
    metrics.see(("other", "qwen"), SERVES)
    metrics.forget_namespace("team")
    assert [line for line in lines(metrics) if "model_condition" in line and 'namespace="team"' in line] == []
    assert [line for line in lines(metrics) if 'namespace="other"' in line]
    metrics.clear()
    assert not [line for line in lines(metrics) if "qwen" in line]


def test_a_thousand_edits_of_a_model_leave_as_many_series_as_one() -> None:
    metrics, reasons = ModelMetrics(), list(Reason)
    for number in range(1000):
        found = [condition(kind, "False", reasons[number % len(reasons)]) for kind in ConditionType]
        metrics.see(QWEN, model_seen((), {"conditions": found}, pending=False))
    assert len([line for line in lines(metrics) if "model_condition" in line]) == len(ConditionType)


@pytest.mark.parametrize(
    ("reason", "rollout"),
    [("RevisionFails", "RevisionFails"), ("EnginesFailing", "RollingOut"), ("RollingOut", "RollingOut")],
)
def test_a_rollout_stands_as_ready_says_it_does(reason: str, rollout: str) -> None:
    status = {"conditions": [condition("Ready", "False", reason)], "rollout": {"strategy": "Surge"}}
    assert model_seen((), status, pending=False).rollout == rollout
    assert model_seen((), {"conditions": status["conditions"]}, pending=False).rollout == ""


def test_a_status_without_conditions_or_with_half_of_one_is_told_as_far_as_it_goes() -> None:
    assert model_seen((), {}, pending=False).conditions == ()
    (half,) = model_seen((), {"conditions": [{"type": "Ready"}]}, pending=False).conditions
    assert half == ("Ready", "Unknown", "")
