"""Degraded: some engines serve, others do not, and one line says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import condition, deployment_status, pod
from tests.unit.diagnosis.test_fleet import LOST, QUOTA, fleet, refusing
from tests.unit.planner.test_news import status as ready
from vllm_operator.api.conditions import Reason
from vllm_operator.diagnosis.engine_status import EngineStatus
from vllm_operator.diagnosis.engines import reports
from vllm_operator.diagnosis.fleet import Fleet, judge, observed
from vllm_operator.planner.degraded import degraded
from vllm_operator.planner.news import News, news_of

SERVES = pod("qwen-1", ready=True)
NO_IMAGE = pod(
    "qwen-2",
    container={"state": {"waiting": {"reason": "ErrImagePull", "message": "docker.io/vllm/vllm-openai:v9: not found"}}},
)
HUNG = pod("qwen-3", container={"started": True, "state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}})
ODD = pod("qwen-2", container={"state": {"waiting": {"reason": "CreateContainerError", "message": "who knows"}}})


def told(seen: Fleet) -> tuple[str, Reason, str]:
    """The condition of a model with these engines."""
    return degraded(seen, judge(seen))


def test_an_engine_that_fails_beside_one_that_serves_is_told_in_one_line_with_what_to_do() -> None:
    kind, reason, message = told(fleet(2, SERVES, NO_IMAGE, ready=1))
    assert (kind, reason) == ("True", Reason.ENGINES_FAILING)
    assert message == (
        "1 of 2 engines serve; qwen-2 does not serve: the registry has no docker.io/vllm/vllm-openai:v9: correct the "
        "name and tag in spec.engine.image, or push the image"
    )


def test_what_fails_counts_before_what_may_recover_and_others_are_counted() -> None:
    kind, reason, message = told(fleet(3, SERVES, HUNG, ODD, ready=1))
    assert (kind, reason) == ("True", Reason.ENGINES_FAILING)
    assert message == "1 of 3 engines serve; qwen-2 cannot start: CreateContainerError: who knows; and 1 more"
    kind, reason, message = told(fleet(2, pod("qwen-0", ready=True), LOST, ready=1))
    assert (kind, reason) == ("True", Reason.NODE_LOST)
    assert "does not answer" in message


def test_pods_that_are_refused_and_starts_that_take_too_long_degrade_a_model_too() -> None:
    assert told(fleet(2, SERVES, ready=1, conditions=(refusing(QUOTA),)))[:2] == ("True", Reason.PODS_REFUSED)
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    seen = fleet(2, SERVES, pod("qwen-2"), ready=1, conditions=(late,))
    assert told(seen)[:2] == ("True", Reason.PROGRESS_DEADLINE_EXCEEDED)


@pytest.mark.parametrize("pods", [(SERVES,), (SERVES, pod("qwen-2"))], ids=["all serve", "one is on its way"])
def test_a_model_that_is_well_or_on_its_way_is_not_degraded(pods: tuple[dict[str, Any], ...]) -> None:
    assert told(fleet(len(pods), *pods, ready=1)) == ("False", Reason.AS_DESIRED, "")


def test_a_model_of_which_nothing_serves_is_told_as_that() -> None:
    assert told(fleet(1, NO_IMAGE))[:2] == ("False", Reason.NO_ENGINE_SERVES)


def test_engines_that_somebody_put_to_sleep_do_not_degrade_a_model() -> None:
    asleep = EngineStatus("withdrawn", "Asleep", "is asleep")
    engines = reports([SERVES, HUNG], {"uid-of-qwen-3": asleep})
    seen = observed(2, {"metadata": {"generation": 1}, "status": deployment_status(2, ready=1)}, engines, pending=False)
    assert told(seen) == ("False", Reason.AS_DESIRED, "")


def with_degraded(reason: str, message: str) -> dict[str, Any]:
    """The status of a model that is paused half-way, with what is wrong with some engine."""
    paused = condition(ready("False", "RolloutPaused"), "Ready")
    return {"conditions": [paused, {"type": "Degraded", "status": "True", "reason": reason, "message": message}]}


def test_an_engine_that_fails_during_a_pause_is_told_by_one_event_for_each_cause() -> None:
    before, failing = {"status": ready("False", "RolloutPaused")}, with_degraded("EnginesFailing", "no such image")
    assert news_of(before, failing) == News("Warning", "EnginesFailing", "no such image")
    assert news_of({"status": failing}, failing) is None
    other = with_degraded("EnginesFailing", "no such Secret")
    assert news_of({"status": failing}, other) == News("Warning", "EnginesFailing", "no such Secret")
    assert news_of({"status": failing}, ready("False", "RolloutPaused")) is None
