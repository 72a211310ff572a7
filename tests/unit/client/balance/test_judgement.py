"""What balancing decides, without engines: choice, health, retry budget."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_client import BalancePolicy, ConfigurationError
from vllm_client.balance import budget, choice, failures, health
from vllm_client.balance.choice import EngineLoad
from vllm_client.balance.failures import Verdict
from vllm_client.balance.load_report import NOTHING_KNOWN, Reported
from vllm_client.balance.policy import STRATEGIES, read_policy

if TYPE_CHECKING:
    from collections.abc import Iterable

POLICY = BalancePolicy()
NAMES = st.lists(st.integers(0, 10**6).map(lambda number: f"http://e{number}/v1"), min_size=1, max_size=12, unique=True)


def body(prompt: str, model: str = "m", **more: object) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": prompt}], "model": model, **more}).encode()


KEYS = st.integers(0, 2**64 - 1)
DRAWS = st.floats(0, 1, exclude_max=True)


def reported(pressure: float | None, at: float = 0.0) -> Reported:
    return Reported(answered=True, pressure=pressure, at=at, asked_at=at)


REPORTS = st.one_of(
    st.just(NOTHING_KNOWN),
    st.builds(reported, st.one_of(st.none(), st.floats(0, 1e6)), st.floats(-1e6, 1e6)),
)
LOADS = st.dictionaries(
    NAMES.map(lambda names: names[0]), st.builds(EngineLoad, st.integers(0, 50), REPORTS), min_size=1
)
EVEN = {f"http://10.0.0.{number}:8000/v1": EngineLoad(0, reported(1.0)) for number in range(4)}


def nearest(key: int, engines: Iterable[str]) -> str:
    return max(engines, key=lambda engine: choice.mixed(key, engine))


@given(engines=NAMES, keys=st.lists(st.tuples(KEYS, DRAWS), max_size=200), overload=st.floats(0, 3), known=REPORTS)
def test_no_engine_ever_takes_more_than_its_bound(
    engines: list[str], keys: list[tuple[int, float]], overload: float, known: Reported
) -> None:
    loads = {engine: EngineLoad(0, known) for engine in engines}
    policy = BalancePolicy(overload=overload)
    for key, draw in keys:
        limit = choice.bound(sum(load.outstanding for load in loads.values()), len(loads), overload)
        found = choice.by_prefix(key, loads, policy, now=1e6, draw=draw)
        loads[found] = EngineLoad(loads[found].outstanding + 1, known)
        assert loads[found].outstanding <= limit


@given(loads=LOADS, key=KEYS, draw=DRAWS, strategy=st.sampled_from(STRATEGIES))
def test_whatever_is_known_one_of_the_engines_is_chosen(
    loads: dict[str, EngineLoad], key: int, draw: float, strategy: str
) -> None:
    assert choice.chosen(key, loads, BalancePolicy(strategy=strategy), now=1e6, draw=draw) in loads


@given(engines=NAMES, key=KEYS, data=st.data())
def test_an_engine_that_leaves_moves_only_its_own_prompts(engines: list[str], key: int, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(engines))
    before = nearest(key, engines)
    left = [engine for engine in engines if engine != gone]
    if left and before != gone:
        assert nearest(key, left) == before


@given(key=KEYS, draw=DRAWS)
def test_engines_that_report_alike_get_the_prompts_that_are_nearest_to_them(key: int, draw: float) -> None:
    assert choice.by_prefix(key, EVEN, POLICY, now=0.0, draw=draw) == nearest(key, EVEN)


@given(key=KEYS, draw=DRAWS)
def test_an_engine_whose_reported_load_is_at_the_bound_gets_none(key: int, draw: float) -> None:
    full = nearest(key, EVEN)
    loads = {**EVEN, full: EngineLoad(0, reported(2.0))}
    assert choice.by_prefix(key, loads, POLICY, now=0.0, draw=draw) != full


@given(key=KEYS, draw=DRAWS)
def test_old_reports_of_a_busy_fleet_leave_the_choice_to_chance_and_of_an_idle_one_to_the_beginning(
    key: int, draw: float
) -> None:
    idle = {engine: EngineLoad(0, reported(0.0)) for engine in EVEN}
    draws = [choice.by_prefix(key, EVEN, POLICY, now=1e6, draw=draw) for draw in (0.0, 0.3, 0.6, 0.9)]
    assert len(set(draws)) == len(EVEN)
    assert choice.by_prefix(key, idle, POLICY, now=1e6, draw=draw) == nearest(key, EVEN)


@pytest.mark.parametrize(("known", "width"), [(NOTHING_KNOWN, choice.FIRST_SPREAD), (Reported(answered=True), 3)])
def test_where_no_load_is_known_the_nearest_few_share_a_beginning(known: Reported, width: int) -> None:
    loads = {f"http://10.0.0.{number}:8000/v1": EngineLoad(0, known) for number in range(9)}
    draws = [number / 100 for number in range(100)]
    counts = Counter(choice.by_prefix(7, loads, POLICY, now=0.0, draw=draw) for draw in draws)
    assert set(counts) == set(sorted(loads, key=lambda engine: choice.mixed(7, engine))[-width:])
    assert max(counts.values()) - min(counts.values()) <= 1


@given(key=KEYS, draw=DRAWS)
def test_a_process_with_a_request_for_each_engine_keeps_a_beginning_together(key: int, draw: float) -> None:
    loads = dict.fromkeys(EVEN, EngineLoad(1, Reported(answered=True)))
    assert choice.by_prefix(key, loads, POLICY, now=0.0, draw=draw) == nearest(key, EVEN)


def test_prompts_spread_evenly() -> None:
    counts = Counter(nearest(choice.digest(str(number).encode()), EVEN) for number in range(4000))
    assert min(counts[engine] for engine in EVEN) > 800


@given(loads=LOADS, draw=DRAWS)
def test_the_alternative_takes_one_of_the_least_loaded(loads: dict[str, EngineLoad], draw: float) -> None:
    fewest = min(load.outstanding for load in loads.values())
    assert loads[choice.by_load(loads, draw)].outstanding == fewest


def test_of_engines_that_owe_alike_the_alternative_avoids_the_one_that_reports_most() -> None:
    full = next(iter(EVEN))
    loads = {**EVEN, full: EngineLoad(0, reported(2.0))}
    found = Counter(choice.by_load(loads, number / 100) for number in range(100))
    assert set(found) == set(EVEN) - {full}


def test_only_the_beginning_of_the_prompt_and_the_model_make_the_key() -> None:
    start = "You are a librarian. " * 40
    key = choice.prefix_key(body(start + "one", temperature=0), 256)
    assert key == choice.prefix_key(body(start + "two", seed=7), 256)
    assert key != choice.prefix_key(body("Else. " + start), 256)
    assert key != choice.prefix_key(body(start + "one", model="other"), 256)
    assert choice.prefix_key(b"", 256) == choice.prefix_key(b"", 256)


@given(
    failures_=st.lists(st.tuples(st.booleans(), st.floats(0, 100), st.floats(0, 1)), min_size=1, max_size=60),
)
def test_an_ejection_ends_within_its_limit(failures_: list[tuple[bool, float, float]]) -> None:
    known, now = health.HEALTHY, 0.0
    for proof, pause, jitter in failures_:
        now += pause
        known = health.failed(health.tried(known), proof=proof, now=now, jitter=jitter, policy=POLICY)
        assert known.ejected_until <= now + POLICY.ejection_limit_seconds * 1.25
        assert health.admitted(known, max(now, known.ejected_until))


def test_ejections_grow() -> None:
    known, now, lengths = health.HEALTHY, 0.0, []
    for _ in range(8):
        known = health.failed(health.tried(known), proof=True, now=now, jitter=0.5, policy=POLICY)
        lengths.append(known.ejected_until - now)
        now = known.ejected_until
    assert lengths == [1, 2, 4, 8, 16, 32, 60, 60]
    assert all(before <= after for before, after in pairwise(lengths))


def test_one_error_ejects_nobody_and_three_in_a_row_do() -> None:
    known = health.HEALTHY
    for expected in (True, True, False):
        known = health.failed(known, proof=False, now=1, jitter=0, policy=POLICY)
        assert health.admitted(known, 1) is expected


def test_one_request_at_a_time_is_the_trial() -> None:
    ejected = health.failed(health.HEALTHY, proof=True, now=0, jitter=0, policy=POLICY)
    assert not health.admitted(ejected, 0.5)
    assert health.admitted(ejected, 1)
    trial = health.tried(ejected)
    assert not health.admitted(trial, 1)
    assert health.admitted(health.abandoned(trial), 1)
    again = health.failed(trial, proof=False, now=1, jitter=0.5, policy=POLICY)
    assert again.ejected_until == 3


def test_an_engine_that_only_answers_what_it_had_before_is_ejected_all_the_same() -> None:
    known = health.failed(health.HEALTHY, proof=False, now=5, jitter=0, policy=POLICY)
    assert health.succeeded(known, began=4) == known
    assert health.succeeded(known, began=5) == health.HEALTHY


@dataclass
class Known:
    """An engine, as far as it matters here."""

    health: health.Health


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=1))
def test_somebody_is_always_usable(known: list[tuple[float, bool]]) -> None:
    engines = [Known(health.Health(1, 1, until, trial)) for until, trial in known]
    usable = health.usable(engines, 5)
    assert usable
    admitted = [engine for engine in engines if health.admitted(engine.health, 5)]
    assert usable == (admitted or engines)


@given(requests=st.integers(0, 500), wanted=st.integers(1, 3))
def test_retries_are_bounded_by_a_share_of_the_requests(requests: int, wanted: int) -> None:
    left, made = budget.full(0, POLICY), 0
    for _ in range(requests):
        left = budget.earned(left, 0, POLICY)
        for _ in range(wanted):
            rest = budget.spent(left, 0, POLICY)
            made += rest is not None
            left = rest or left
    assert made <= POLICY.retry_burst + POLICY.retry_share * requests + 1e-6


def test_a_spent_budget_recovers_with_time() -> None:
    spent = budget.RetryBudget(0, 100)
    assert budget.spent(spent, 101, POLICY) is None
    assert budget.spent(spent, 102, POLICY) == budget.RetryBudget(0, 102)
    assert budget.affordable_at(spent, 101, POLICY) == 102


def test_a_budget_that_time_does_not_fill_is_not_waited_for_and_rounding_is_no_busy_loop() -> None:
    assert budget.affordable_at(budget.RetryBudget(0, 0), 5, BalancePolicy(retry_floor_per_second=0)) == float("inf")
    assert budget.affordable_at(budget.RetryBudget(1, 0), 0, POLICY) == 0
    assert budget.affordable_at(budget.RetryBudget(1 - 1e-12, 0), 0, POLICY) == budget.SHORTEST_WAIT_SECONDS


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *[(status, Verdict.ANSWER) for status in (200, 400, 404)],
        *[(status, Verdict.BUSY) for status in (408, 429, 503)],
        *[(status, Verdict.ERROR) for status in (500, 502)],
    ],
)
def test_what_a_status_says(status: int, expected: Verdict) -> None:
    assert failures.verdict(status) is expected


@pytest.mark.parametrize(("text", "seconds"), [(None, 0), ("2", 2), ("-1", 0), ("nan", 0), ("9999", 0), ("Wed", 0)])
def test_retry_after_is_honoured_within_reason(text: str | None, seconds: float) -> None:
    assert failures.retry_after(text) == seconds


@pytest.mark.parametrize(
    ("given_", "name"),
    [
        ({"strategy": "random"}, "balance.strategy"),
        ({"stall_seconds": -1}, "balance.stall_seconds"),
        ({"overload": "much"}, "balance.overload"),
        ({"ttl_floor_seconds": 60}, "balance.ttl_floor_seconds"),
        ({"spread": 0}, "balance.spread"),
        ({"spread": 1.5}, "balance.spread"),
        ({"spread": None}, "balance.spread"),
        ({"report_seconds": -1}, "balance.report_seconds"),
        ({"retries": 1}, "balance.retries"),
        (["x"], "balance"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(given_: object, name: str) -> None:
    with pytest.raises(ConfigurationError, match="balance") as caught:
        read_policy(given_)
    assert caught.value.variable == name
