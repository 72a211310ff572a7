"""When a pod is looked up: seldom, and ever more seldom."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.resources import NOW, pod
from vllm_operator.diagnosis.cause import Lookup
from vllm_operator.diagnosis.engine_status import EngineStatus
from vllm_operator.diagnosis.lookups import (
    MOST_AT_ONCE,
    LookupBudget,
    PodLookup,
    Rate,
    after_lookup,
    begun,
    due,
    next_lookup,
    planned,
    planned_lookup,
    still_true,
)

if TYPE_CHECKING:
    from vllm_operator.diagnosis.facts import Finding

SINCE = NOW - timedelta(hours=1)  # as the pods of the support module have it
SCHEDULED = ({"type": "PodScheduled", "status": "True"},)
GATE = {"containers": [{"name": "vllm", "ports": [{"name": "gate", "containerPort": 8480}]}]}
WORDS = EngineStatus("starting", "Loading", phase="Downloading")


def next_lookup_at(found: dict[str, Any], last: PodLookup | None) -> datetime | None:
    """When a pod is looked up next."""
    lookup = planned_lookup(found, last)
    return None if lookup is None else lookup.at


def silent(
    name: str = "qwen-1", *, started: bool = False, version: int = 30, since: str = "2026-11-22T11:00:00Z"
) -> dict[str, Any]:
    """A pod whose engine runs since then, and loads; or one that lost its traffic at eleven."""
    running = {"started": started, "state": {"running": {"startedAt": "2026-11-22T10:00:00Z" if started else since}}}
    found = pod(name, container=running, conditions=SCHEDULED, podIP="10.0.0.5")
    found["metadata"]["resourceVersion"] = str(version)
    return {**found, "spec": GATE}


def creating(version: int = 30) -> dict[str, Any]:
    """A pod whose containers are not there yet."""
    found = pod(container={"state": {"waiting": {"reason": "ContainerCreating"}}}, conditions=SCHEDULED)
    found["metadata"]["resourceVersion"] = str(version)
    return found


def lookups_of(found: dict[str, Any], minutes: int, versions: dict[int, int] | None = None) -> list[int]:
    """The seconds in which a pod is looked up; its versions by the second of their change."""
    known: PodLookup | None = None
    made = []
    for second in range(60 * minutes):
        found["metadata"]["resourceVersion"] = str((versions or {}).get(second, found["metadata"]["resourceVersion"]))
        now = SINCE + timedelta(seconds=second)
        when = next_lookup_at(found, known)
        if when is not None and when <= now:
            known = after_lookup(found, known, WORDS, now)
            made.append(second)
    return made


def test_a_manager_is_asked_as_often_as_its_engine_may_have_come_further_and_then_once_a_minute() -> None:
    assert lookups_of(silent(), 5) == [2, 12, 32, 72, 132, 192, 252]
    assert lookups_of(silent(started=True), 3) == [2, 4, 8, 16, 32, 64, 124]


def test_an_engine_that_serves_is_asked_after_a_moment_and_then_every_five_minutes_at_most() -> None:
    found = pod(ready=True, conditions=SCHEDULED, podIP="10.0.0.5")
    assert lookups_of({**found, "spec": GATE}, 20) == [15, 45, 105, 225, 465, 765, 1065]


def test_engines_that_serve_have_their_turn_when_no_other_waits() -> None:
    serving = {**pod("qwen-0", ready=True, conditions=SCHEDULED, podIP="10.0.0.5"), "spec": GATE}
    found = [serving, *(silent(f"qwen-{number + 1}") for number in range(MOST_AT_ONCE))]
    assert serving not in [lookup.pod for lookup in due(planned(found, {}), NOW)]


def test_events_are_read_seven_times_in_a_quarter_of_an_hour_and_then_every_five_minutes() -> None:
    assert len(lookups_of(creating(), 15)) == 7
    assert len(lookups_of(creating(), 75)) == 7 + 12


@pytest.mark.parametrize(("found", "pause"), [(silent(), 10), (creating(), 10), (silent(started=True), 2)])
@given(versions=st.dictionaries(st.integers(0, 299), st.integers(1, 9), max_size=100))
def test_however_often_a_pod_changes_it_is_looked_up_only_so_often(
    found: dict[str, Any], pause: int, versions: dict[int, int]
) -> None:
    made = lookups_of(found, 5, versions)
    assert all(later - earlier >= pause for earlier, later in itertools.pairwise(made))


def test_other_words_and_another_version_shorten_the_pause_again() -> None:
    first = after_lookup(silent(), None, WORDS, NOW)
    second = after_lookup(silent(), first, WORDS, NOW)
    assert (first.repeats, second.repeats) == (0, 1)
    assert after_lookup(silent(), second, EngineStatus("starting", phase="KVCache"), NOW).repeats == 0
    assert after_lookup(silent(version=31), second, WORDS, NOW).repeats == 0


def test_a_lookup_that_was_begun_is_not_begun_again_and_what_was_known_stays_until_it_has_ended() -> None:
    before = after_lookup(silent(), None, WORDS, NOW - timedelta(minutes=1))
    running = begun(silent(), before, NOW)
    assert running.finding == WORDS
    assert due(planned([silent()], {"uid-of-qwen-1": running}), NOW + timedelta(seconds=9)) == ()
    assert begun(silent(), None, NOW).finding is None


@pytest.mark.parametrize(
    ("later", "finding"),
    [
        (silent(version=31), WORDS),
        (silent(since="2026-11-22T11:30:00Z"), None),  # started again
        (silent(started=True), None),  # served, and lost its traffic
    ],
)
def test_what_was_said_of_an_earlier_process_of_the_engine_is_forgotten(
    later: dict[str, Any], finding: Finding | None
) -> None:
    known = after_lookup(silent(), None, WORDS, NOW)
    assert still_true(later, known).finding == finding
    assert still_true(later, known).at == NOW, "which gives no right to look up sooner"


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
    without_manager = {**silent(), "spec": {}}
    found = [pod(ready=True, conditions=SCHEDULED), unscheduled, leaving, unreported, crashed, without_manager]
    assert [next_lookup_at(one, None) for one in found] == [None] * 6
    assert next_lookup(planned(found, {}), NOW, {}) is None
    assert isinstance(next_lookup(planned([silent()], {}), NOW, {}), datetime)


# --- the budget of all models

LOAD, LOST = Lookup.LOADING, Lookup.WITHDRAWN


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
    assert next_lookup(planned([loading, lost], known), NOW, turn) == NOW + timedelta(seconds=2)


def test_pods_that_lost_their_traffic_are_looked_up_before_those_that_load() -> None:
    found = [*(silent(f"qwen-{number}") for number in range(MOST_AT_ONCE)), silent("qwen-9", started=True)]
    first = due(planned(found, {}), NOW)[0]
    assert (first.pod["metadata"]["name"], first.kind) == ("qwen-9", LOST)
