"""The first attempt and those that may overtake it, with engines that do just what a test says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx2
import pytest

from vllm_client import BalancePolicy
from vllm_client.balance.attempts import AttemptLoop
from vllm_client.balance.transport import BalancedTransport
from vllm_client.discovery import FixedEngines

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vllm_client.balance.fleet import Engine

URLS = [f"http://engine-{number}:8000/v1" for number in range(3)]
HEDGING = BalancePolicy(hedge_seconds=0.01)


class Answer(httpx2.Response):
    """An answer that knows whether it was closed."""

    closed_late = False

    async def aclose(self) -> None:
        """Nobody reads it."""
        self.closed_late = True


async def ask(
    *engines: Callable[[], Awaitable[httpx2.Response]], policy: BalancePolicy = HEDGING, seconds: float = 20
) -> httpx2.Response:
    """Send one request; the first engine that is asked does what the first function does, and so on."""
    transport = BalancedTransport(FixedEngines(tuple(URLS)), URLS[0], policy=policy, max_retries=2)
    await transport.fleet.ready()
    left = list(engines)

    async def send(engine: Engine) -> httpx2.Response:
        try:
            return await left.pop(0)()
        finally:
            await transport.fleet.release(engine)

    try:
        return await AttemptLoop(transport.balancer, send, key=7, deadline=transport.clock() + seconds).run()
    finally:
        assert not transport.fleet.timers.times
        assert not any(engine.outstanding for engine in transport.fleet.engines.values())
        assert not any(engine.health.on_trial for engine in transport.fleet.engines.values())
        await transport.aclose()


async def never() -> httpx2.Response:
    await asyncio.Event().wait()
    raise AssertionError


def cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_an_overtaken_attempt_ends_and_the_caller_is_not_cancelled() -> None:
    ended: list[str] = []

    async def stuck() -> httpx2.Response:
        try:
            return await never()
        finally:
            ended.append("first")

    async def answers() -> httpx2.Response:
        return Answer(200)

    async with asyncio.timeout(10):
        assert (await ask(stuck, answers)).status_code == 200
        assert ended == ["first"]
        assert cancellations() == 0
        await asyncio.sleep(0)


async def test_an_answer_that_comes_after_another_one_is_closed() -> None:
    late = Answer(200)

    async def stubborn() -> httpx2.Response:
        try:
            return await never()
        except asyncio.CancelledError:
            return late

    async def answers() -> httpx2.Response:
        return Answer(201)

    assert (await ask(stubborn, answers)).status_code == 201
    assert late.closed_late
    assert cancellations() == 0


async def test_the_first_attempt_may_still_win_and_the_second_ends() -> None:
    ended: list[str] = []
    asked = asyncio.Event()

    async def slow() -> httpx2.Response:
        await asked.wait()
        return Answer(200)

    async def stuck() -> httpx2.Response:
        asked.set()
        try:
            return await never()
        finally:
            ended.append("second")

    assert (await ask(slow, stuck)).status_code == 200
    assert ended == ["second"]


async def test_where_the_first_attempt_fails_the_second_answers() -> None:
    async def refuses() -> httpx2.Response:
        raise httpx2.ConnectError("nobody is there")

    async def answers() -> httpx2.Response:
        return Answer(200)

    assert (await ask(refuses, answers, policy=BalancePolicy())).status_code == 200


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_cancelled_caller_ends_every_attempt(attempts: int) -> None:
    running = 0
    begun = asyncio.Event()

    async def stuck() -> httpx2.Response:
        nonlocal running
        running += 1
        if running == attempts:
            begun.set()
        try:
            return await never()
        finally:
            running -= 1

    policy = HEDGING if attempts == 2 else BalancePolicy()
    task = asyncio.create_task(ask(stuck, stuck, policy=policy))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running == 0


async def test_a_caller_that_is_cancelled_while_it_is_overtaken_stays_cancelled() -> None:
    async def cancelled_too() -> httpx2.Response:
        try:
            return await never()
        finally:
            task.cancel()

    async def answers() -> httpx2.Response:
        return Answer(200)

    async def both() -> None:
        with pytest.raises(asyncio.CancelledError):
            await ask(cancelled_too, answers)
        assert cancellations() == 1

    task = asyncio.create_task(both())
    await task


async def test_what_an_attempt_should_never_raise_is_not_hidden() -> None:
    async def broken() -> httpx2.Response:
        await asyncio.sleep(0.05)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ask(broken, never)


async def test_no_time_is_left_for_another_attempt_at_the_deadline() -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await ask(never, policy=BalancePolicy(), seconds=0.05)
    assert cancellations() == 0
