"""What one engine asks for says nothing of another."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support.scripted_engine import Whole, completion, scripted_engine
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
@pytest.mark.parametrize("retry_after", ["1", "20", "70"])
async def test_a_free_engine_is_asked_at_once(retry_after: str, status: int) -> None:
    for prompt in range(4):
        answer, seconds, _ = await asked((full(retry_after, status),), (SOUND,), prompt=str(prompt), timeout=8)
        assert (answer, seconds < 0.8) == ("hi", True)


async def test_where_all_are_full_the_first_that_wants_to_be_asked_again_is_waited_for() -> None:
    answer, seconds, _ = await asked((full("20"), SOUND), (full("1"), SOUND), prompt="x", timeout=8)
    assert answer == "hi"
    assert 1 <= seconds < 4


async def test_a_wait_that_the_timeout_does_not_allow_ends_once_all_were_asked() -> None:
    answer, seconds, counts = await asked((full("20"),), (full("30"),), prompt="x", timeout=3)
    assert (answer, counts) == ("Overloaded", [1, 1])
    assert seconds < 2
