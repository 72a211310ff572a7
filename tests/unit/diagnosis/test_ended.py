"""Pods that are over are history as soon as something that came after them serves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.resources import NOW, deployment_status, pod
from tests.unit.diagnosis.test_engines import LOW_ON_MEMORY
from vllm_operator.api.conditions import Reason
from vllm_operator.diagnosis.ended import ended_pods, keep_ending, story
from vllm_operator.diagnosis.engines import reports
from vllm_operator.diagnosis.fleet import judge, observed

EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}


def at(minute: int) -> str:
    """A time stamp."""
    return (NOW + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")


def dead(name: str, *, created: int, ended: int, **status: Any) -> dict[str, Any]:
    """A pod that is over."""
    target = {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": at(ended)}
    found = pod(name, conditions=(target,), **{**EVICTED, **status})
    found["metadata"]["creationTimestamp"] = at(created)
    return found


def living(name: str, *, created: int, ready: bool) -> dict[str, Any]:
    """A pod that serves or loads."""
    found = pod(name, ready=ready)
    found["metadata"]["creationTimestamp"] = at(created)
    return found


def told(wanted: int, *pods: dict[str, Any]) -> tuple[Reason, str]:
    """What the model says."""
    engines = reports(pods)
    ready = sum(engine.state == "serving" for engine in engines)
    live = {"metadata": {"generation": 1}, "status": deployment_status(len(engines), ready=ready)}
    outcome = judge(observed(wanted, live, engines, pending=False, ended=ended_pods(pods)))
    return outcome.reason, outcome.message


def test_an_evicted_pod_is_told_while_its_replacement_loads_and_is_no_failing_engine() -> None:
    reason, message = told(1, dead("qwen-1", created=0, ended=60), living("qwen-2", created=60, ready=False))
    assert reason is Reason.ENGINES_STARTING
    assert message == (
        "0 of 1 engines serve; qwen-2 loads its model since 2026-11-22T11:00:00Z; "
        f"qwen-1 has ended at {at(60)}: Evicted: {LOW_ON_MEMORY}"
    )


def test_it_is_forgotten_when_its_replacement_serves_whatever_else_is_wrong() -> None:
    gone, replacement = dead("qwen-1", created=0, ended=60), living("qwen-2", created=60, ready=True)
    assert told(1, gone, replacement) == (Reason.ALL_ENGINES_SERVE, "1 of 1 engines serve")
    _, message = told(2, gone, replacement, living("qwen-3", created=70, ready=False))
    assert "Evicted" not in message


def test_engines_that_served_before_do_not_make_it_history() -> None:
    pods = [living("qwen-0", created=0, ready=True), dead("qwen-1", created=0, ended=60)]
    assert "qwen-1 has ended" in told(2, *pods, living("qwen-2", created=60, ready=False))[1]


def test_replacements_that_end_too_are_told_as_failing() -> None:
    rejected = [
        dead(f"qwen-{n}", created=n, ended=n, reason="UnexpectedAdmissionError", message="no devices") for n in range(5)
    ]
    assert keep_ending(ended_pods(rejected))
    reason, message = told(1, *rejected, living("qwen-9", created=5, ready=False))
    assert reason is Reason.ENGINES_FAILING
    assert message == (
        "0 of 1 engines serve; pods end one after the other, the last: "
        f"qwen-4 has ended at {at(4)}: UnexpectedAdmissionError: no devices (4 more have ended before it)"
    )


def test_many_that_end_together_do_not_keep_ending() -> None:
    assert not keep_ending(ended_pods([dead(f"qwen-{n}", created=0, ended=60) for n in range(5)]))
    assert not keep_ending(())


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({}, f"Evicted: {LOW_ON_MEMORY}"),
        ({"reason": "", "message": ""}, "no reason given"),
        (
            {
                "reason": "",
                "message": "",
                "container": {"state": {"terminated": {"reason": "Completed", "exitCode": 0}}},
            },
            "Completed",
        ),
    ],
    ids=["said by the pod", "said by nobody", "said by its container"],
)
def test_why_a_pod_has_ended_is_found_where_it_is_said(status: dict[str, Any], why: str) -> None:
    (found,) = ended_pods([dead("qwen-1", created=0, ended=1, **status)])
    assert found.why == why
    assert story((found,)) == f"qwen-1 has ended at {at(1)}: {why}"


def test_pods_that_are_deleted_are_not_told() -> None:
    leaving = dead("qwen-1", created=0, ended=1)
    leaving["metadata"]["deletionTimestamp"] = at(2)
    assert ended_pods([leaving]) == ()
    assert story(()) == ""
