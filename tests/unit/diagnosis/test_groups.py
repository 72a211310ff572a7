"""What is told of an engine of several pods."""

from __future__ import annotations

from typing import Any

from tests.support.grouped import member
from tests.support.resources import pod
from vllm_operator.diagnosis.engines import reports
from vllm_operator.diagnosis.groups import one_for_each_group

CRASHES = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3}


def told(*pods: dict[str, Any]) -> list[str]:
    """The pods that are told of."""
    return [report.pod for report in one_for_each_group(reports(pods), pods)]


def test_a_group_is_told_by_its_leader_and_a_pod_by_itself() -> None:
    assert told(member(0), member(1), member(2), pod("qwen-abc")) == ["qwen-0", "qwen-abc"]


def test_a_worker_that_fails_is_told_where_the_leader_only_waits() -> None:
    assert told(member(0), member(1, container=CRASHES)) == ["qwen-0-1"]


def test_a_leader_that_serves_or_fails_itself_is_told() -> None:
    assert told(member(0, ready=True), member(1, container=CRASHES)) == ["qwen-0"]
    assert told(member(0, container=CRASHES), member(1, container=CRASHES)) == ["qwen-0"]


def test_each_group_is_told_once_also_before_it_has_a_leader() -> None:
    assert told(member(1), member(0, group=1), member(1, group=1)) == ["qwen-0-1", "qwen-1"]
