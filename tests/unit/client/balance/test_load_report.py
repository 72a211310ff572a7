"""What engines say of their load: what is understood of it, how seldom they are asked, and what it is worth later."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.loaded_engine import loaded_engine
from vllm_client import BalancePolicy, VLLMClient
from vllm_client.balance import load_report
from vllm_client.balance.load_report import NOTHING_KNOWN, LoadReport, Reported

POLICY = BalancePolicy()
TEXT = 'JSON {"named_metrics": {"num_requests_waiting": 2.0, "kv_cache_usage_perc": 0.4}}'


def text(**metrics: Any) -> str:
    return f"JSON {json.dumps({'named_metrics': metrics})}"


def test_vllms_report_is_understood() -> None:
    assert load_report.read_report(TEXT) == LoadReport(kv_cache_usage=0.4, waiting=2.0)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "JSON",
        "JSON []",
        "JSON {}",
        'JSON {"named_metrics": {}}',
        'JSON {"named_metrics": null}',
        "TEXT named_metrics.kv_cache_usage_perc=0.4",
        text(kv_cache_usage_perc=0.4),
        text(kv_cache_usage_perc=0.4, num_requests_waiting=None),
        text(kv_cache_usage_perc=0.4, num_requests_waiting=-1),
        text(kv_cache_usage_perc=float("nan"), num_requests_waiting=1),
        text(kv_cache_usage_perc=1.1, num_requests_waiting=1),
        text(kv_cache_usage_perc=0.4, num_requests_waiting=float("inf")),
        text(kv_cache_usage_perc=0.4, num_requests_waiting=10**400),
        text(kv_cache_usage_perc=0.4, num_requests_waiting=1, other="x" * 5000),
        "JSON " + "[" * 4000,
    ],
    ids=lambda header: header[:60],
)
def test_what_is_no_report_is_as_good_as_none(header: str) -> None:
    known = load_report.answered(NOTHING_KNOWN, header, 5.0)
    assert known == Reported(answered=True)
    before = Reported(answered=True, pressure=0.5, at=1.0)
    assert load_report.answered(before, header, 5.0) == before


@given(header=st.text())
def test_no_header_breaks_an_answer(header: str) -> None:
    load_report.answered(NOTHING_KNOWN, header, 0.0)
    load_report.answered(NOTHING_KNOWN, f"JSON {header}", 0.0)


def test_an_engine_is_asked_once_in_a_while_and_never_where_that_is_set() -> None:
    asked = load_report.asked(NOTHING_KNOWN, 10.0)
    assert load_report.is_due(NOTHING_KNOWN, 10.0, POLICY)
    assert not load_report.is_due(asked, 10.9, POLICY)
    assert load_report.is_due(asked, 11.0, POLICY)
    told = load_report.answered(asked, TEXT, 15.0)
    assert not load_report.is_due(told, 15.9, POLICY)
    assert not load_report.is_due(NOTHING_KNOWN, 10.0, replace(POLICY, report_seconds=None))


def test_a_report_is_worth_less_the_older_it_is_and_a_new_one_the_more() -> None:
    idle = load_report.answered(NOTHING_KNOWN, text(kv_cache_usage_perc=0, num_requests_waiting=0), 0.0)
    full = text(kv_cache_usage_perc=0.8, num_requests_waiting=0)
    worth = [load_report.worth(idle, now) for now in (0.0, 10.0, 60.0, 600.0)]
    assert worth == sorted(worth, reverse=True)
    assert worth[0] == 1
    assert worth[-1] < 0.01
    soon, late = (load_report.answered(idle, full, now).pressure or 0.0 for now in (1.0, 600.0))
    assert 0 < soon < late <= 1


async def test_a_client_asks_each_engine_for_its_load_once_a_second_and_keeps_what_it_says() -> None:
    async with contextlib.AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(loaded_engine()) for _ in range(2)]
        urls = [engine.url for engine in engines]
        policy = BalancePolicy(report_seconds=3600)
        client = await stack.enter_async_context(VLLMClient(urls[0], "m", engines=urls, balance=policy))
        await client.generate_batch([f"{number}\n" for number in range(24)], max_tokens=1)
        assert sum(engine.requests for engine in engines) == 24
        assert all(engine.asked == 1 for engine in engines)


@pytest.mark.parametrize("report", ["", "TEXT named_metrics.kv_cache_usage_perc=0.4", "JSON {"])
async def test_engines_that_say_nothing_that_is_understood_answer_as_ever(report: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(loaded_engine(report=report)) for _ in range(2)]
        urls = [engine.url for engine in engines]
        client = await stack.enter_async_context(VLLMClient(urls[0], "m", engines=urls))
        assert await client.generate_batch(["a\n", "b\n", "c\n"], max_tokens=1) == ["yes"] * 3
