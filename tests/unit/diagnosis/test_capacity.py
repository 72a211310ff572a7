"""What engines have reported at their start."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.resources import NOW, pod
from vllm_operator.api.capacity import ReportedCapacity, reported_by_pod
from vllm_operator.diagnosis.capacity import reported_capacity, told_capacities
from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.diagnosis.engine_status import EngineStatus, NoAnswer, capacity_of
from vllm_operator.diagnosis.engines import report
from vllm_operator.diagnosis.lookups import PodLookup, after_lookup, planned_lookup, still_true

STARTED_AT = "2026-11-22T10:00:00Z"
FIGURES = {
    "weights_gib": 14.986,
    "kv_cache_gib": 3.3,
    "kv_cache_tokens": 26336,
    "max_model_len": 131072,
    "max_concurrency": 0.2,
}
CAPACITY = {
    "weights": "14.99Gi",
    "kvCache": "3.30Gi",
    "kvCacheTokens": 26336,
    "maxModelLen": 131072,
    "maxConcurrency": "0.20",
    "startedAt": STARTED_AT,
}
GATE = {"containers": [{"name": "vllm", "ports": [{"name": "gate", "containerPort": 8480}]}]}
REPORTED = capacity_of(FIGURES)
SERVES = EngineStatus("serving", ready=True, capacity=REPORTED)
OLD = EngineStatus("serving", ready=True)
SILENT = NoAnswer("its manager cannot be reached")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: st.dictionaries(st.sampled_from([*FIGURES, "other"]), inside, max_size=6),
    max_leaves=8,
)


def serving(name: str = "qwen-1", *, started_at: str = STARTED_AT, ready: bool = True) -> dict[str, Any]:
    """A pod whose engine serves since eleven, or loads."""
    running = {"started": ready, "ready": ready, "state": {"running": {"startedAt": started_at}}}
    return {**pod(name, ready=ready, container=running, podIP="10.0.0.5"), "spec": GATE}


def test_figures_are_told_as_quantities() -> None:
    assert REPORTED is not None
    found = reported_capacity(REPORTED, STARTED_AT)
    assert found is not None
    assert found.manifest() == CAPACITY
    assert ReportedCapacity.read(CAPACITY) == found


@given(values, st.sampled_from(["", STARTED_AT]))
def test_whatever_a_manager_says_is_told_within_bounds_or_not_at_all(figures: Any, started_at: str) -> None:
    capacity = capacity_of(figures)
    found = reported_capacity(capacity, started_at) if capacity else None
    assert found is None or ReportedCapacity.read(found.manifest()) == found
    assert started_at or found is None


@pytest.mark.parametrize("figures", [{"weights_gib": -1}, {"weights_gib": True}, {"max_model_len": 7}, {}, None, "x"])
def test_what_says_nothing_of_memory_is_none(figures: object) -> None:
    assert capacity_of(figures) is None


def test_what_another_version_of_the_operator_has_told_is_read_or_passed_over() -> None:
    told = [{"pod": "a", "capacity": CAPACITY}, {"pod": "b", "capacity": {**CAPACITY, "newer": 1}}, {"pod": "c"}]
    assert list(reported_by_pod({"engines": told})) == ["a"]


def test_a_report_is_of_one_process_of_the_engine() -> None:
    status = {"engines": [{"pod": "qwen-1", "capacity": CAPACITY}]}
    assert set(told_capacities(status, [serving(), serving("qwen-2")])) == {"qwen-1"}
    assert told_capacities(status, [serving(started_at="2026-11-22T11:00:01Z")]) == {}
    assert told_capacities({}, [serving()]) == {}
    assert told_capacities(status, [serving(started_at="")]) == {}


def test_what_an_engine_reported_before_its_kv_cache_was_laid_out_is_told_as_it_is() -> None:
    weights = {"weights": "14.99Gi", "startedAt": STARTED_AT}
    status = {"engines": [{"pod": "qwen-1", "capacity": weights}]}
    assert told_capacities(status, [serving()])["qwen-1"].manifest() == weights


def test_the_report_of_an_engine_comes_out_of_its_managers_answer_whether_it_loads_or_serves() -> None:
    loads = EngineStatus("starting", "Loading", phase="CapturingGraphs", capacity=REPORTED)
    for found in (report(serving(), SERVES), report(serving(ready=False), loads)):
        assert found.capacity is not None
        assert found.capacity.manifest() == CAPACITY
    assert report(serving(), OLD).capacity is None


def test_the_trouble_of_a_manager_is_not_told_of_an_engine_that_serves() -> None:
    """It is asked ever more seldom: the warning would stay for minutes."""
    found = report(serving(), EngineStatus("serving", ready=True, trouble="its judge ended"))
    assert (found.state, found.trouble) == (EngineState.SERVING, "")


def test_questions_while_it_loaded_do_not_count_once_it_serves() -> None:
    loading = {**serving(ready=False)}
    known: PodLookup | None = None
    for second in range(9):
        known = after_lookup(loading, known, SILENT, NOW + timedelta(seconds=second))
    assert known is not None
    ready = serving()
    ready["status"]["conditions"][-1]["lastTransitionTime"] = "2026-11-22T11:30:00Z"
    assert planned_lookup(ready, still_true(ready, known)) is not None


def test_pods_that_have_no_manager_are_not_asked() -> None:
    assert planned_lookup({**serving(), "spec": {}}, None) is None
    assert planned_lookup(pod(ready=True, container={}), None) is None
