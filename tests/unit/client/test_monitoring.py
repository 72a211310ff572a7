"""What hooks are told of requests, the statistics made of it, and that no text gets out."""

from __future__ import annotations

import asyncio
import logging
import math
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.llms import EchoLLM, HeldLLM, settle
from tests.unit.client.conftest import KEY
from vllm_client import (
    CachedClient,
    ErrorEvent,
    LLMClient,
    LogHook,
    MonitoredClient,
    MonitoringHook,
    NotReady,
    RequestEvent,
    RequestStatistics,
    ResponseEvent,
    TokenUsage,
    VLLMClient,
    VLLMError,
    monitor_performance,
)
from vllm_client.monitoring.histogram import GROWTH, LONGEST_SECONDS, SHORTEST_SECONDS, Histogram
from vllm_client.usage import report_usage, usage_reports

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.servers import EngineServer

Event = RequestEvent | ResponseEvent | ErrorEvent
PRIVATE = "Alice's diagnosis"


class Recorder(MonitoringHook):
    """Keeps what it is told."""

    def __init__(self, log: list[tuple[str, Event]] | None = None, name: str = "") -> None:
        self.log = [] if log is None else log
        self.name = name

    @property
    def events(self) -> list[Event]:
        """The events alone."""
        return [event for _, event in self.log]

    def on_request(self, event: RequestEvent) -> None:
        """Keep it."""
        self.log.append((f"{self.name} request", event))

    def on_response(self, event: ResponseEvent) -> None:
        """Keep it."""
        self.log.append((f"{self.name} response", event))

    def on_error(self, event: ErrorEvent) -> None:
        """Keep it."""
        self.log.append((f"{self.name} error", event))


def seconds_apart(seconds: float = 1.0) -> Callable[[], float]:
    """A clock that goes on by so much at each look."""
    looks = count()
    return lambda: next(looks) * seconds


async def test_a_request_is_told_at_its_beginning_and_its_end() -> None:
    hook = Recorder()
    llm = MonitoredClient(EchoLLM(), hook, clock=seconds_apart(2.5))
    assert isinstance(llm, LLMClient)
    await llm.complete(PRIVATE, temperature=0, max_tokens=5, stop=[PRIVATE], stream=False)
    request = RequestEvent("http://m.ns:8000/v1", "m", {"temperature": 0, "max_tokens": 5})
    assert hook.events == [request, ResponseEvent(request, 2.5)]


async def test_an_error_is_told_by_its_kind_and_raised() -> None:
    hook = Recorder()
    error = NotReady(f"cannot answer {PRIVATE}")
    llm = MonitoredClient(EchoLLM(errors={PRIVATE: error}), hook, clock=seconds_apart(2.5))
    with pytest.raises(NotReady) as caught:
        await llm.complete(PRIVATE)
    assert caught.value is error
    request, end = hook.events
    assert isinstance(request, RequestEvent)
    assert end == ErrorEvent(request, 2.5, "NotReady")


async def test_a_cancelled_request_is_told_too() -> None:
    hook = Recorder()
    llm = HeldLLM()
    waiter = asyncio.create_task(MonitoredClient(llm, hook).complete("a"))
    await llm.asked(1)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert [getattr(event, "kind", "") for event in hook.events] == ["", "CancelledError"]


@pytest.mark.parametrize("include_text", [False, True])
async def test_texts_are_told_only_where_that_is_asked_for(*, include_text: bool) -> None:
    hook = Recorder()
    llm = MonitoredClient(EchoLLM(errors={"b": NotReady(f"cannot answer {PRIVATE}")}), hook, include_text=include_text)
    await llm.complete(PRIVATE, user=PRIVATE)
    with pytest.raises(NotReady):
        await llm.complete("b", user=PRIVATE)
    told = [PRIVATE in repr(event) for event in hook.events]
    assert told == ([True, True, False, True] if include_text else [False] * 4)


async def test_several_hooks_are_told_from_outside_in_and_back() -> None:
    log: list[tuple[str, Event]] = []
    await MonitoredClient(EchoLLM(), Recorder(log, "a"), Recorder(log, "b")).complete("x")
    assert [what for what, _ in log] == ["a request", "b request", "b response", "a response"]


async def test_a_hook_that_fails_is_logged_and_fails_no_request(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MonitoringHook):
        def on_request(self, event: RequestEvent) -> None:
            raise LookupError(event.model)

        def on_response(self, event: ResponseEvent) -> None:
            raise LookupError(event.request.model)

    hook = Recorder()
    assert await MonitoredClient(EchoLLM(), Broken(), hook).complete("x") == "x"
    assert len(hook.events) == 2
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert "Broken.on_request" in caplog.text


async def test_a_cache_around_it_shows_what_is_asked_and_one_inside_it_what_is_waited_for() -> None:
    asked, waited = Recorder(), Recorder()
    llm = MonitoredClient(CachedClient(MonitoredClient(EchoLLM(), asked)), waited)
    for _ in range(3):
        await llm.complete("x", temperature=0)
    assert (len(asked.events), len(waited.events)) == (2, 6)
    assert {event.model for event in waited.events if isinstance(event, RequestEvent)} == {"m"}


async def test_the_log_tells_model_time_and_kind_and_no_text(caplog: pytest.LogCaptureFixture) -> None:
    errors = {"b": NotReady(f"cannot answer {PRIVATE}")}
    llm = MonitoredClient(EchoLLM(errors=errors), LogHook(), clock=seconds_apart(0.25))
    with caplog.at_level(logging.INFO, "vllm_client"):
        await llm.complete(PRIVATE)
        with pytest.raises(NotReady):
            await llm.complete("b")
    assert [(record.name, record.levelname, record.message) for record in caplog.records] == [
        ("vllm_client", "INFO", "m at http://m.ns:8000/v1 answered in 0.250 s"),
        ("vllm_client", "WARNING", "m at http://m.ns:8000/v1 failed after 0.250 s: NotReady"),
    ]


# ------------------------------------------------------------------------------------------------------------- tokens


class CountingLLM(EchoLLM):
    """Reports tokens: a letter of the prompt each, and one for the answer."""

    async def complete(self, prompt: str, **kwargs: Any) -> str:
        """The prompt."""
        report_usage(TokenUsage(prompt_tokens=len(prompt), completion_tokens=1))
        return await super().complete(prompt, **kwargs)


async def test_tokens_reach_every_listener_through_what_is_in_between_and_only_once() -> None:
    inner, outer = Recorder(), Recorder()
    llm = MonitoredClient(CachedClient(MonitoredClient(CountingLLM(), inner)), outer)
    await llm.complete("abc", temperature=0)
    await llm.complete("abc", temperature=0)
    usages = [[event.usage for event in hook.events if isinstance(event, ResponseEvent)] for hook in (inner, outer)]
    assert usages == [[TokenUsage(3, 1)], [TokenUsage(3, 1), None]]


async def test_tokens_of_requests_at_a_time_are_told_apart() -> None:
    hook = Recorder()
    llm = MonitoredClient(CountingLLM(), hook)
    await asyncio.gather(*(llm.complete("x" * length) for length in range(1, 20)))
    usages = [event.usage for event in hook.events if isinstance(event, ResponseEvent)]
    assert sorted(usage.prompt_tokens for usage in usages if usage) == list(range(1, 20))


def test_who_has_listened_hears_no_more() -> None:
    with usage_reports() as first:
        report_usage(TokenUsage(1, 1))
    with usage_reports() as second:
        report_usage(TokenUsage(2, 2))
    report_usage(TokenUsage(3, 3))
    assert (first, second) == ([TokenUsage(1, 1)], [TokenUsage(2, 2)])


# --------------------------------------------------------------------------------------------------------- statistics


async def test_statistics_of_an_engine(engine: EngineServer) -> None:
    statistics = RequestStatistics()
    async with MonitoredClient(VLLMClient(engine.url, "tiny", KEY, max_retries=0), statistics) as llm:
        for _ in range(3):
            await llm.complete("hello")
        engine.faults(fail={"status": 500, "message": "boom"})
        with pytest.raises(VLLMError):
            await llm.complete("hello")
    (seen,) = statistics.snapshot()
    assert (seen.endpoint, seen.model) == (f"{engine.url}/v1", "tiny")
    assert (seen.in_flight, seen.answered, seen.errors) == (0, 3, {"EngineFailed": 1})
    assert 0 < seen.p50_seconds <= seen.p90_seconds <= seen.p99_seconds <= seen.longest_seconds
    assert seen.mean_seconds <= seen.longest_seconds


async def test_endpoints_and_models_are_counted_apart_by_one_object() -> None:
    statistics = RequestStatistics()
    clients = [
        MonitoredClient(CountingLLM(SimpleNamespace(model_name=model, base_url=url)), statistics)
        for url, model in (("http://a", "m"), ("http://a", "n"), ("http://b", "m"))
    ]
    for number, llm in enumerate(clients, start=1):
        for _ in range(number):
            await llm.complete("abc")
    assert [(one.endpoint, one.model, one.answered, one.prompt_tokens) for one in statistics.snapshot()] == [
        ("http://a", "m", 1, 3),
        ("http://a", "n", 2, 6),
        ("http://b", "m", 3, 9),
    ]


async def test_requests_under_way_are_counted() -> None:
    statistics = RequestStatistics()
    inside = HeldLLM()
    llm = MonitoredClient(inside, statistics)
    waiters = [asyncio.create_task(llm.complete("a")) for _ in range(2)]
    await inside.asked(2)
    assert statistics.snapshot()[0].in_flight == 2
    inside.calls[0].answer.set_result("x")
    waiters[1].cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    await settle()
    (seen,) = statistics.snapshot()
    assert (seen.in_flight, seen.answered, seen.errors) == (0, 1, {"CancelledError": 1})


@given(
    durations=st.lists(st.floats(SHORTEST_SECONDS, LONGEST_SECONDS), min_size=1, max_size=200),
    percent=st.floats(0, 100),
)
def test_a_percentile_is_at_most_a_fifth_above_the_true_one(durations: list[float], percent: float) -> None:
    histogram = Histogram()
    for seconds in durations:
        histogram.observe(seconds)
    true = sorted(durations)[max(1, math.ceil(len(durations) * percent / 100)) - 1]
    assert true <= histogram.percentile(percent) <= true * GROWTH * (1 + 1e-9)


@given(durations=st.lists(st.floats(0, 1e9), max_size=20))
def test_durations_of_any_size_are_counted(durations: list[float]) -> None:
    histogram = Histogram()
    for seconds in durations:
        histogram.observe(seconds)
    assert histogram.count == len(durations)
    assert histogram.percentile(100) == max(durations, default=0.0)


# ---------------------------------------------------------------------------------------------------------- decorator


async def test_the_decorator_logs_the_time_and_the_outcome_and_no_text(caplog: pytest.LogCaptureFixture) -> None:
    @monitor_performance
    async def extract(text: str, *, fail: bool = False) -> str:
        """Extracts."""
        if fail:
            raise NotReady(f"cannot answer {text}")
        return text

    with caplog.at_level(logging.INFO, "vllm_client"):
        assert await extract(PRIVATE) == PRIVATE
        with pytest.raises(NotReady):
            await extract(PRIVATE, fail=True)
    taken, failed = caplog.messages
    assert "extract took 0." in taken
    assert "extract failed after 0." in failed
    assert failed.endswith(": NotReady")
    assert PRIVATE not in caplog.text
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert extract.__doc__ == "Extracts."


def test_the_decorator_refuses_what_it_cannot_time() -> None:
    def plain() -> None:
        """Returns at once."""

    with pytest.raises(TypeError, match="is not an async function"):
        monitor_performance(plain)  # type: ignore[arg-type] # the mistake under test
