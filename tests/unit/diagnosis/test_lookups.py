"""When the Events of a pod are read: seldom, and ever more seldom."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.resources import NOW, pod
from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.diagnosis.events import KubeletMessage, MessageKind
from vllm_operator.diagnosis.lookups import (
    MOST_AT_ONCE,
    EventLookup,
    LookupBudget,
    Rate,
    after_lookup,
    due,
    next_lookup,
    planned,
    planned_lookup,
)

SINCE = NOW - timedelta(hours=1)  # as the pods of the support module have it
SCHEDULED = ({"type": "PodScheduled", "status": "True"},)


def next_lookup_at(found: dict[str, Any], last: EventLookup | None) -> datetime | None:
    """When the Events of a pod are read next."""
    lookup = planned_lookup(found, last)
    return None if lookup is None else lookup.at


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
    first = [lookup.pod for lookup in due(planned(found, {}), NOW)]
    assert len(first) == MOST_AT_ONCE
    known = {one["metadata"]["uid"]: after_lookup(one, None, None, NOW) for one in first}
    assert next_lookup(planned(found, known), NOW, {}) == NOW + timedelta(seconds=1)
    second = [lookup.pod for lookup in due(planned(found, known), NOW + timedelta(seconds=1))]
    assert {one["metadata"]["name"] for one in (*first, *second)} == {one["metadata"]["name"] for one in found}


def test_pods_that_need_no_explanation_are_never_looked_up() -> None:
    leaving = silent()
    leaving["metadata"]["deletionTimestamp"] = "2026-11-22T11:30:00Z"
    unreported: dict[str, Any] = {**silent(), "status": {}}
    crashed = pod(container={"state": {"terminated": {"exitCode": 1}}}, conditions=SCHEDULED)
    unscheduled = pod(containerStatuses=[])
    found = [pod(ready=True, conditions=SCHEDULED), unscheduled, leaving, unreported, crashed]
    assert [next_lookup_at(one, None) for one in found] == [None] * 5
    assert next_lookup(planned(found, {}), NOW, {}) is None
    assert isinstance(next_lookup(planned([silent()], {}), NOW, {}), datetime)


# --- the budget of all models

LOAD, LOST = EngineState.STARTING, EngineState.WITHDRAWN


def turns(
    budget: LookupBudget, models: list[tuple[str, int]], now: datetime
) -> tuple[LookupBudget, list[tuple[float, int]]]:
    """Ask for so many lookups of each of the models. Returns the turns: in how many seconds, and how many lookups."""
    found = []
    for model, wanted in models:
        budget, turn = budget.reserve(model, wanted, now)
        found.append(((turn.at - NOW).total_seconds(), turn.lookups))
    return budget, found


def test_models_that_wait_have_turns_one_after_the_other_and_keep_them() -> None:
    rate = Rate(timedelta(seconds=1), burst=2)
    budget, first = turns(LookupBudget(rate), [("a", 1), ("a", 1), ("a", 1), ("b", 2), ("c", 1)], NOW)
    assert first == [(0, 1), (0, 1), (1, 1), (3, 2), (4, 1)]
    _, again = turns(budget, [("c", 5), ("a", 5), ("b", 1), ("d", 1)], NOW)
    assert again == [(4, 1), (1, 1), (3, 2), (5, 1)]


def test_a_model_uses_its_turn_once_and_then_stands_behind_the_others() -> None:
    budget, _ = turns(LookupBudget(Rate(timedelta(seconds=1), burst=1)), [("a", 1), ("a", 1), ("b", 1)], NOW)
    _, found = turns(budget, [("a", 1), ("a", 1), ("b", 1)], NOW + timedelta(seconds=1))
    assert found == [(1, 1), (3, 1), (2, 1)]


def test_who_has_nothing_to_look_up_any_more_holds_no_turn() -> None:
    budget, _ = turns(LookupBudget(Rate(timedelta(seconds=1), burst=1)), [("a", 1), ("b", 1)], NOW)
    assert budget.turns.keys() == {"b"}
    assert budget.release("b").turns == {}
    assert budget.release("x") is budget


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 5), st.integers(0, 3000)), max_size=200))
def test_lookups_never_exceed_the_rate_its_burst_and_the_turns_that_were_given(
    asked: list[tuple[str, int, int]],
) -> None:
    budget, now = LookupBudget(Rate(timedelta(seconds=1), burst=5)), NOW
    made: list[datetime] = []
    for model, wanted, milliseconds in asked:
        now += timedelta(milliseconds=milliseconds)
        budget, turn = budget.reserve(model, wanted, now)
        made += [now] * (turn.lookups if turn.at <= now else 0)
    most = 10 + 5 + 5 * len("abcd")  # a turn may be used late, so those of all models may come together
    assert all(sum(start <= when < start + timedelta(seconds=10) for when in made) <= most for start in made)


def test_pods_that_wait_for_their_turn_have_the_model_looked_at_then_and_the_others_in_time() -> None:
    loading, lost = silent("qwen-1"), silent("qwen-2", started=True)
    known = {"uid-of-qwen-2": after_lookup(lost, None, None, NOW)}
    turn = {LOAD: NOW + timedelta(minutes=2)}
    assert next_lookup(planned([loading], {}), NOW, turn) == NOW + timedelta(minutes=2)
    assert next_lookup(planned([loading, lost], known), NOW, turn) == NOW + timedelta(seconds=10)


def test_pods_that_lost_their_traffic_are_looked_up_before_those_that_load() -> None:
    found = [*(silent(f"qwen-{number}") for number in range(MOST_AT_ONCE)), silent("qwen-9", started=True)]
    first = due(planned(found, {}), NOW)[0]
    assert (first.pod["metadata"]["name"], first.state) == ("qwen-9", LOST)
