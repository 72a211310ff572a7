"""Which changes of a status are announced."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.resources import NOW
from vllm_operator.planner.news import MOST_EVENTS, NO_EVENTS, QUIET, News, adapter_news, after_event, is_due, news_of


def status(ready: str, reason: str, message: str = "why") -> dict[str, Any]:
    """A status with its Ready condition."""
    return {"conditions": [{"type": "Ready", "status": ready, "reason": reason, "message": message}]}


STARTING, SERVING = status("False", "EnginesStarting"), status("True", "AllEnginesServe")
CRASH = "1 of 2 engines serve; qwen-5d8c9b7f6-x2x5p ended with exit code 1 (Error, 3 restarts): no such model"
AGAIN = "0 of 2 engines serve; qwen-5d8c9b7f6-9kq4z ended with exit code 1 (Error, 17 restarts): no such model"
KILLED = "0 of 2 engines serve; qwen-5d8c9b7f6-9kq4z ended with exit code 137 (Error, 17 restarts): no such model"
CRASHED = status("False", "EnginesFailing", CRASH)
TAKEN = "Kueue has taken qwen-5d8c9b7f6-x2x5p away at 2026-11-22T12:00:00Z: Preempted"
FULL = "0 of 1 engines serve; qwen-5d8c9b7f6-x2x5p is held back since 2026-11-22T11:00:00Z: 1 more needed"
FULL_AGAIN = "0 of 1 engines serve; qwen-5d8c9b7f6-9kq4z is held back since 2026-11-22T12:00:00Z: 2 more needed"
WITHDRAWN, FAILING = status("False", "EnginesWithdrawn"), status("False", "EnginesFailing")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (STARTING, SERVING, ("Normal", "AllEnginesServe")),
        (SERVING, WITHDRAWN, ("Warning", "EnginesWithdrawn")),
        (WITHDRAWN, SERVING, ("Normal", "AllEnginesServe")),
        (STARTING, FAILING, ("Warning", "EnginesFailing")),
        (FAILING, status("False", "WrongModel"), ("Warning", "WrongModel")),
        (FAILING, status("False", "ProgressDeadlineExceeded"), ("Warning", "ProgressDeadlineExceeded")),
        ({}, status("False", "InvalidSpec"), ("Warning", "InvalidSpec")),
        ({}, STARTING, None),
        (SERVING, status("False", "RollingOut"), None),
        (SERVING, status("False", "ScaledToZero"), None),
        (SERVING, SERVING, None),
        (FAILING, status("False", "EnginesFailing", "another cause"), ("Warning", "EnginesFailing")),
        (CRASHED, status("False", "EnginesFailing", AGAIN), None),
        (CRASHED, status("False", "EnginesFailing", KILLED), ("Warning", "EnginesFailing")),
        (CRASHED, status("False", "EnginesFailing", f"{CRASH}; and 2 more"), None),
        (CRASHED, status("False", "EnginesFailing", f"{CRASH}; qwen-1 is not there"), ("Warning", "EnginesFailing")),
        (status("False", "EnginesFailing", f"{CRASH}; qwen-1 is not there"), CRASHED, None),
        (SERVING, status("True", "AllEnginesServe", "2 of 2 engines serve, and more"), None),
        (STARTING, status("False", "EnginesStarting", "another"), None),
        (STARTING, status("False", "EnginesStarting", f"why; {TAKEN}"), ("Warning", "EnginesStarting")),
        (status("False", "EnginesStarting", TAKEN), status("False", "EnginesStarting", TAKEN), None),
        (STARTING, status("False", "SchedulingGated", "the queue is full"), ("Normal", "SchedulingGated")),
        (status("False", "SchedulingGated", FULL), status("False", "SchedulingGated", FULL_AGAIN), None),
    ],
)
def test_what_needs_attention_and_its_end_are_news(
    before: dict[str, Any], after: dict[str, Any], told: tuple[str, str] | None
) -> None:
    news = news_of({"status": before} if before else {}, after)
    assert (news and (news.type, news.reason)) == told


def adapters(reason: str, message: str = "") -> dict[str, Any]:
    """A status of a model that serves, with what is told of its adapters."""
    told = {"type": "AdaptersLoaded", "status": "False", "reason": reason, "message": message}
    return {"conditions": [*SERVING["conditions"], told]}


def test_an_adapter_that_an_engine_cannot_load_is_told_once_for_each_cause() -> None:
    loading = adapters("AdaptersLoading", "0 of 1 engines serve it")
    rank = adapters("AdapterFails", "spec.lora.adapters[1] (wide): qwen-5d8c9b7f6-x2x5p: LoRA rank 64")
    missing = adapters("AdapterFails", "spec.lora.adapters[1] (wide): qwen-5d8c9b7f6-x2x5p: no such file")
    assert adapter_news({"status": SERVING}, loading) is None
    news = adapter_news({"status": loading}, rank)
    assert news is not None
    assert (news.type, news.reason) == ("Warning", "AdapterFails")
    assert "LoRA rank 64" in news.message
    assert adapter_news({"status": rank}, rank) is None
    assert adapter_news({"status": rank}, missing) is not None
    assert adapter_news({"status": rank}, loading) is None


def test_a_message_is_no_longer_than_an_event_may_be() -> None:
    assert news_of({}, status("False", "ChildRefused", "x" * 2048)) == News("Warning", "ChildRefused", "x" * 1024)


def told(messages: list[str], *, every_seconds: float, reason: str = "EnginesFailing") -> list[str]:
    """Which of the messages, one after the other, become Events."""
    history = NO_EVENTS
    found: list[str] = []
    for number, message in enumerate(messages):
        news, now = News("Warning", reason, message), NOW + timedelta(seconds=number * every_seconds)
        if is_due(news, history, now):
            history, found = after_event(news, history, now), [*found, message]
    return found


def test_causes_that_come_and_go_are_told_once_in_five_minutes() -> None:
    assert told(["a", "b"] * 5, every_seconds=30) == ["a", "b"]
    assert told(["a", "a", "a"], every_seconds=150) == ["a", "a"]


def test_a_cause_that_joins_another_is_told() -> None:
    assert told(["n; a", "n; a; b", "n; b", "n; a"], every_seconds=1) == ["n; a", "n; a; b"]


def test_of_ever_new_causes_a_model_makes_at_most_six_events_in_five_minutes() -> None:
    words = [f"cause {chr(97 + number)}" for number in range(20)]
    assert told(words, every_seconds=1) == words[:MOST_EVENTS]
    assert len(told(words, every_seconds=60)) > MOST_EVENTS


def test_the_same_cause_under_another_reason_is_told() -> None:
    history = after_event(News("Warning", "EnginesFailing", "a"), NO_EVENTS, NOW)
    assert is_due(News("Warning", "ProgressDeadlineExceeded", "a"), history, NOW)


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abcdefghij")), max_size=80))
def test_whatever_happens_events_are_bounded(steps: list[tuple[int, str]]) -> None:
    history, now = NO_EVENTS, NOW
    posted: list[datetime] = []
    for seconds, cause in steps:
        now += timedelta(seconds=seconds)
        news = News("Warning", "EnginesFailing", cause)
        if is_due(news, history, now):
            history, posted = after_event(news, history, now), [*posted, now]
    assert all(sum(now - QUIET < when <= now for when in posted) <= MOST_EVENTS for now in posted)
