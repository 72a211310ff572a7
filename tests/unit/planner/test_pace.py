"""A burst of events costs one status, and what somebody waits for is told at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.resources import NOW, as_desired, deployment_status, observation, pod, resource
from vllm_operator.planner.decide import decide
from vllm_operator.planner.pace import PAUSE, told_again_at

A_MOMENT = timedelta(milliseconds=200)


def status(generation: int = 1, *, replicas: int = 0, **conditions: str) -> dict[str, Any]:
    """A status with these conditions."""
    found = [{"type": kind, "status": value, "message": f"{replicas} engines"} for kind, value in conditions.items()]
    return {"observedGeneration": generation, "replicas": replicas, "conditions": found}


def test_words_and_numbers_wait_for_the_end_of_the_pause() -> None:
    before, after = status(Ready="False"), status(replicas=1, Ready="False")
    assert told_again_at(before, after, NOW, NOW + A_MOMENT) == NOW + PAUSE
    assert told_again_at(before, after, NOW, NOW + PAUSE) is None
    assert told_again_at(before, after, None, NOW) is None, "nothing was told by this process"
    assert told_again_at(before, after, NOW, NOW - A_MOMENT) is None, "a clock that was set back holds nothing up"


@pytest.mark.parametrize(
    "after",
    [
        status(2, Ready="False"),
        status(Ready="True"),
        status(Ready="False", Available="True"),
        status(),
    ],
)
def test_another_generation_or_condition_is_told_at_once(after: dict[str, Any]) -> None:
    assert told_again_at(status(Ready="False"), after, NOW, NOW + A_MOMENT) is None


def test_a_status_that_waits_is_decided_anew_at_the_end_of_the_pause_and_not_before() -> None:
    raw = resource()
    raw["status"] = dict(decide(observation(raw, as_desired(raw))).status or {})
    live = as_desired(raw, **deployment_status(1, ready=0))
    seen = observation(raw, live, pod(), now=NOW + A_MOMENT, told_at=NOW)
    waits = decide(seen)
    assert (waits.status, waits.news, waits.look_again_at) == (None, None, NOW + PAUSE)
    told = decide(observation(raw, live, pod(), now=NOW + PAUSE, told_at=NOW))
    assert told.status is not None
    assert told.status["replicas"] == 1
