"""What one engine asks for says nothing of another."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support.scripted_engine import Whole, completion, scripted_engine
from tests.support.servers import free_port
from vllm_client import BalancePolicy, NotReady, Overloaded, VLLMClient

SOUND = Whole(completion("hi"))


def full(retry_after: str, status: int = 503) -> Whole:
    """The answer of an engine whose queue is full."""
    error = {"error": {"message": "The engine is currently busy", "type": "ServiceUnavailable", "code": status}}
    return Whole(error, status=status, retry_after=retry_after)


async def asked(*engines: tuple[Whole, ...], prompt: str, **options: Any) -> tuple[str, float, list[int]]:
    """The answer that a client of these engines gets, how long it took, and how often each was asked."""
    async with AsyncExitStack() as stack:
        started = [await stack.enter_async_context(scripted_engine(*answers)) for answers in engines]
        urls = [engine.url for engine in started]
        settings = {"max_retries": 3, "balance": BalancePolicy(backoff_seconds=0.01), **options}
        client = await stack.enter_async_context(VLLMClient(urls[0], "m", engines=urls, **settings))
        began = time.monotonic()
        try:
            answer = await client.complete(prompt)
        except (Overloaded, NotReady) as error:
            answer = type(error).__name__
        return answer, time.monotonic() - began, [len(engine.bodies) for engine in started]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retry_after", ["20", "70"])
async def test_a_free_engine_is_asked_at_once(retry_after: str, status: int) -> None:
    for prompt in range(4):
        answer, seconds, _ = await asked((full(retry_after, status),), (SOUND,), prompt=str(prompt), timeout=30)
        assert (answer, seconds < 20) == ("hi", True)


async def test_where_all_are_full_the_first_that_wants_to_be_asked_again_is_waited_for() -> None:
    for prompt in range(3):
        answer, seconds, counts = await asked((full("20"),), (full("1"), SOUND), prompt=str(prompt), timeout=19)
        assert (answer, counts, seconds >= 1) == ("hi", [1, 2], True)


async def test_a_wait_that_the_timeout_does_not_allow_ends_once_all_were_asked() -> None:
    answer, seconds, counts = await asked((full("20"),), (full("30"),), prompt="x", timeout=19)
    assert (answer, counts) == ("Overloaded", [1, 1])
    assert seconds < 19


async def test_an_engine_that_is_gone_does_not_shorten_the_wait_for_the_one_that_is_full() -> None:
    async with scripted_engine(full("1"), SOUND) as engine:
        engines = [engine.url, f"http://127.0.0.1:{free_port()}/v1"]
        async with VLLMClient(engine.url, "m", engines=engines, balance=BalancePolicy(backoff_seconds=0.01)) as client:
            began = time.monotonic()
            assert await client.complete("x") == "hi"
    assert time.monotonic() - began >= 1
    assert len(engine.bodies) == 2


async def test_with_one_address_no_wait_is_longer_than_the_timeout_either() -> None:
    answer, seconds, counts = await asked((full("20"),), prompt="x", timeout=19)
    assert (answer, counts, seconds < 19) == ("Overloaded", [1], True)
