"""What is read of a manager's answer: words, whatever comes."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.diagnosis.engine_status import EngineStatus, engine_status
from vllm_operator.diagnosis.known import Recognized

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER: dict[str, Any] = {
    "pod": "qwen-1",
    "verdict": "withdrawn",
    "cause": "Stalled",
    "sentence": "no step with 8 requests in flight (engine 0)",
    "since": "2026-11-22T11:00:00Z",
    "phase": {"name": "Ready", "detail": "", "since": "2026-11-22T10:02:03Z"},
    "admitted": True,
    "ready": False,
    "suspected": True,
    "restarting": False,
    "in_flight": 8,
    "longest_step_seconds": 0.4,
    "stall_window_seconds": 6.0,
    "ranks": {"0": {"steps": 1, "running": 8, "waiting": 0, "deferred": 0, "asleep": False}},
    "timeline": [{"time": "2026-11-22T11:00:00Z", "verdict": "withdrawn", "cause": "Stalled", "sentence": "no step"}],
    "excerpt": "ValueError: No available memory for the cache blocks.\n  with a key: hf_abcdefghijklmnopqrst",
    "diagnosis": {"id": "NoKvCache", "groups": {"a": "1", "b": 2}},
    "symptoms": [{"id": "QueueGrows", "groups": {"running": "8", "waiting": "20"}}],
    "trouble": "",
    "program": "0123abcd",
    "answered_by": "judge",
}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=8,
)


def test_a_whole_answer_is_read() -> None:
    assert engine_status(ANSWER) == EngineStatus(
        verdict="withdrawn",
        cause="Stalled",
        sentence="no step with requests in flight (engine 0)",
        phase="Ready",
        phase_since="2026-11-22T10:02:03Z",
        recognized=Recognized("NoKvCache", (("a", "1"),)),
        symptoms=("QueueGrows",),
    )


def test_an_excerpt_is_read_line_by_line_without_secrets() -> None:
    found = engine_status(ANSWER)
    assert found is not None
    assert found.excerpt == ("ValueError: No available memory for the cache blocks.", "with a key: ***")


def test_what_moves_in_an_answer_moves_nothing_of_what_is_told() -> None:
    later = {
        **ANSWER,
        "in_flight": 9,
        "longest_step_seconds": 3.0,
        "since": "2026-11-22T11:00:01Z",
        "ranks": {},
        "symptoms": [{"id": "QueueGrows", "groups": {"running": "9", "waiting": "31"}}],
    }
    assert engine_status(later) == engine_status(ANSWER)
    aged = {**ANSWER, "sentence": "no step for 13 s with 7 requests in flight (engine 0)"}
    assert engine_status(aged) == engine_status(ANSWER)
    first, second = (
        engine_status({**ANSWER, "trouble": f"2026-11-22T11:00:0{number}Z the judge ended with exit code 1: E{times}"})
        for number, times in ((1, ""), (2, " (fault 2 of the gate in this container)"))
    )
    assert first == second
    assert first is not None
    assert first.trouble == "the judge ended with exit code 1: E"


@pytest.mark.parametrize(
    "document", [None, [], "starting", 5, {}, {"status": "ok"}, {"verdict": ""}, {"verdict": 1}, {"verdict": None}]
)
def test_what_is_no_answer_of_a_manager_is_told_from_one(document: object) -> None:
    assert engine_status(document) is None


def flat(value: Any) -> Iterator[Any]:
    """What is in tuples, at any depth."""
    if not isinstance(value, tuple):
        yield value
        return
    for part in value:
        yield from flat(part)


@given(st.dictionaries(st.sampled_from(sorted(ANSWER)), values), values, values)
def test_no_field_of_whatever_kind_is_an_error_and_no_text_is_long_or_has_lines(
    odd: dict[str, Any], phase: object, since: object
) -> None:
    told = engine_status({**ANSWER, "phase": {"name": phase, "detail": phase, "since": since}, **odd, "more": phase})
    for text in flat(astuple(told)) if told else ():
        assert text is None or isinstance(text, (bool, float)) or (len(text) <= 300 and text.isprintable())


@pytest.mark.parametrize(
    ("since", "told"),
    [
        ("2026-11-22T11:02:03.123456+01:00", "2026-11-22T10:02:03Z"),
        ("2026-11-22T11:02:03", ""),
        ("yesterday", ""),
        ("9999-12-31T23:59:59-14:00", ""),
        ("0001-01-01T00:00:00+14:00", ""),
        (1700000000, ""),
        (None, ""),
    ],
)
def test_a_time_is_told_as_the_api_server_writes_it_or_not_at_all(since: object, told: str) -> None:
    found = engine_status({"verdict": "starting", "phase": {"name": "Compiling", "since": since}})
    assert found is not None
    assert (found.phase, found.phase_since) == ("Compiling", told)


def test_long_texts_and_colours_are_cut() -> None:
    found = engine_status(json.loads(json.dumps({"verdict": "starting", "sentence": "\x1b[31m" + "x" * 10**6})))
    assert found is not None
    assert found.sentence.startswith("[31mxxx")
    assert len(found.sentence) == 300


@pytest.mark.parametrize(
    ("in_flight", "ranks", "requests"),
    [
        (8, {"0": {"deferred": 2}, "1": {"deferred": 1}}, 11),
        (0, {}, 0),
        (3, None, 3),
        (3, {"0": "odd"}, 3),
        (None, {}, None),
        (True, {}, None),
        (-1, {}, None),
        (float("nan"), {}, None),
        ("8", {}, None),
        (8, {"0": {"deferred": "2"}}, None),
    ],
)
def test_the_requests_of_an_engine_are_those_in_flight_and_those_put_off(
    in_flight: Any, ranks: Any, requests: float | None
) -> None:
    found = engine_status({**ANSWER, "in_flight": in_flight, "ranks": ranks})
    assert found is not None
    assert found.requests == requests
    assert found == engine_status(ANSWER), "work moves from look to look, and is no news"
