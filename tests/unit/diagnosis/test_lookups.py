"""When the Events of a pod are read: seldom, and ever more seldom."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.resources import NOW, pod
from vllm_operator.diagnosis.events import KubeletMessage, MessageKind
from vllm_operator.diagnosis.lookups import (
    MOST_AT_ONCE,
    EventLookup,
    after_lookup,
    due_pods,
    next_lookup,
    next_lookup_at,
)

SINCE = NOW - timedelta(hours=1)  # as the pods of the support module have it
SCHEDULED = ({"type": "PodScheduled", "status": "True"},)


def silent(name: str = "qwen-1", *, started: bool = False, version: int = 30) -> dict[str, Any]:
    """A pod that runs, is not ready and does not say why."""
    running = {"started": started, "state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}}
    found = pod(name, container=running, conditions=SCHEDULED)
    found["metadata"]["resourceVersion"] = str(version)
    return found


def reads(pod_versions: dict[int, int], minutes: int) -> int:
    """How often the Events of a pod are read in so many minutes; its versions by the second of their change."""
    known: EventLookup | None = None
    count = version = 0
    for second in range(60 * minutes):
        version = pod_versions.get(second, version)
        found, now = silent(version=version), SINCE + timedelta(seconds=second)
        when = next_lookup_at(found, known)
        if when is not None and when <= now:
            known, count = after_lookup(found, known, None, now), count + 1
    return count


def test_an_engine_that_loads_is_given_time_and_one_that_lost_its_traffic_is_asked_about_at_once() -> None:
    assert next_lookup_at(silent(), None) == SINCE + timedelta(seconds=10)
    assert next_lookup_at(silent(started=True), None) == SINCE + timedelta(seconds=2)


def test_an_unchanged_pod_is_looked_up_seven_times_in_a_quarter_of_an_hour_and_then_every_five_minutes() -> None:
    assert reads({}, 15) == 7
    assert reads({}, 75) == 7 + 12


@given(st.dictionaries(st.integers(0, 299), st.integers(1, 9), max_size=100))
def test_however_often_a_pod_changes_its_events_are_read_at_most_every_ten_seconds(versions: dict[int, int]) -> None:
    assert reads(versions, 5) <= 30


def test_other_words_and_another_version_shorten_the_pause_again() -> None:
    message = KubeletMessage(MessageKind.STARTUP, "still loading")
    first = after_lookup(silent(), None, message, NOW)
    second = after_lookup(silent(), first, message, NOW)
    assert (first.repeats, second.repeats) == (0, 1)
    assert after_lookup(silent(), second, KubeletMessage(MessageKind.STARTUP, "other"), NOW).repeats == 0
    assert after_lookup(silent(version=31), second, message, NOW).repeats == 0


def test_many_silent_pods_take_turns() -> None:
    found = [silent(f"qwen-{number}") for number in range(MOST_AT_ONCE * 2)]
    first = due_pods(found, {}, NOW)
    assert len(first) == MOST_AT_ONCE
    known = {one["metadata"]["uid"]: after_lookup(one, None, None, NOW) for one in first}
    assert next_lookup(found, known, NOW) == NOW + timedelta(seconds=1)
    second = due_pods(found, known, NOW + timedelta(seconds=1))
    assert {one["metadata"]["name"] for one in (*first, *second)} == {one["metadata"]["name"] for one in found}


def test_pods_that_need_no_explanation_are_never_looked_up() -> None:
    leaving = silent()
    leaving["metadata"]["deletionTimestamp"] = "2026-11-22T11:30:00Z"
    unreported: dict[str, Any] = {**silent(), "status": {}}
    crashed = pod(container={"state": {"terminated": {"exitCode": 1}}}, conditions=SCHEDULED)
    unscheduled = pod(containerStatuses=[])
    found = [pod(ready=True, conditions=SCHEDULED), unscheduled, leaving, unreported, crashed]
    assert [next_lookup_at(one, None) for one in found] == [None] * 5
    assert next_lookup(found, {}, NOW) is None
    assert isinstance(next_lookup([silent()], {}, NOW), datetime)
