"""A slow prompt takes no second engine out: what it costs beyond one engine is bounded, whatever engines do."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import httpx2
import pytest

from vllm_client import BalancePolicy
from vllm_client.balance.attempts import AnsweredBadly, AttemptLoop
from vllm_client.balance.transport import BalancedTransport
from vllm_client.discovery import FixedEngines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from vllm_client.balance.fleet import Engine

URLS = tuple(f"http://engine-{number}:8000/v1" for number in range(6))
SOON = BalancePolicy(stall_seconds=0.01, backoff_seconds=0.001, retry_share=0.0, retry_floor_per_second=0.0)
WITHIN_SECONDS = 20


class Fleet:
    """Six engines that do what a test says, and a client's way to them."""

    def __init__(self, policy: BalancePolicy, answer: Callable[[Engine], httpx2.Response | Exception | None]) -> None:
        self.transport = BalancedTransport(FixedEngines(URLS), URLS[0], policy=policy, max_retries=5)
        self.answer = answer
        self.asked: Counter[str] = Counter()
        self.asked_now = asyncio.Condition()
        self.awake = asyncio.Event()

    async def send(self, engine: Engine) -> httpx2.Response:
        """What the engine makes of a request; None: nothing, until all are awake."""
        try:
            async with self.asked_now:
                self.asked[engine.url] += 1
                self.asked_now.notify_all()
            outcome = self.answer(engine)
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is None:
                await self.awake.wait()
            return outcome or httpx2.Response(200)
        finally:
            await self.transport.fleet.release(engine)

    async def ask(self, key: int = 7, seconds: float = WITHIN_SECONDS) -> httpx2.Response:
        """Send one request."""
        await self.transport.fleet.ready()
        return await AttemptLoop(
            self.transport.balancer, self.send, key=key, deadline=self.transport.clock() + seconds
        ).run()

    async def wait_asked(self, count: int) -> None:
        """Wait until so many requests have reached engines."""
        async with asyncio.timeout(WITHIN_SECONDS), self.asked_now:
            await self.asked_now.wait_for(lambda: self.asked.total() >= count)

    async def withdraw(self, *urls: str) -> None:
        """Have discovery no longer know these."""
        await self.transport.fleet.update(set(self.transport.fleet.present()) - set(urls))


@pytest.fixture
async def tasks() -> AsyncIterator[list[asyncio.Task[httpx2.Response]]]:
    """Requests that end with the test."""
    running: list[asyncio.Task[httpx2.Response]] = []
    yield running
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_prompt_that_has_every_engine_withdrawn_reaches_two_of_them(
    tasks: list[asyncio.Task[httpx2.Response]],
) -> None:
    fleet = Fleet(SOON, lambda _: None)
    tasks.append(asyncio.create_task(fleet.ask(seconds=1)))
    await fleet.wait_asked(1)
    await fleet.withdraw(*fleet.asked)
    await fleet.wait_asked(2)
    await fleet.withdraw(*fleet.asked)
    with pytest.raises(httpx2.ReadTimeout):
        await tasks[0]
    assert sorted(fleet.asked.values()) == [1, 1]


@pytest.mark.parametrize(
    "failure", [httpx2.ReadError("gone"), httpx2.RemoteProtocolError("gone"), httpx2.Response(500)], ids=repr
)
async def test_a_prompt_that_two_engines_have_failed_with_gets_no_third(failure: httpx2.Response | Exception) -> None:
    fleet = Fleet(SOON, lambda _: failure)
    with pytest.raises(AnsweredBadly if isinstance(failure, httpx2.Response) else type(failure)):
        await fleet.ask()
    assert sorted(fleet.asked.values()) == [1, 1]


@pytest.mark.parametrize(
    "refusal", [httpx2.ConnectError("nobody"), httpx2.Response(503), httpx2.Response(429)], ids=repr
)
async def test_engines_that_have_not_begun_with_it_do_not_count(refusal: httpx2.Response | Exception) -> None:
    fleet = Fleet(SOON, lambda _: httpx2.Response(200) if fleet.asked.total() > 4 else refusal)
    assert (await fleet.ask()).status_code == 200
    assert len(fleet.asked) == 5


async def test_the_requests_of_a_withdrawn_engine_are_resent_within_the_retry_budget_and_no_faster(
    tasks: list[asyncio.Task[httpx2.Response]],
) -> None:
    """And none is forgotten: those for which there was no room go as soon as there is."""
    policy = BalancePolicy(
        overload=100, spread=1, stall_seconds=0.01, retry_burst=3, retry_share=0, retry_floor_per_second=2
    )
    first: set[str] = set()

    def answer(engine: Engine) -> httpx2.Response | None:
        first.update({engine.url} if not first else ())
        return None if engine.url in first else httpx2.Response(200)

    fleet = Fleet(policy, answer)
    tasks.extend(asyncio.create_task(fleet.ask(key=7)) for _ in range(6))
    await fleet.wait_asked(6)
    assert fleet.asked == dict.fromkeys(first, 6)
    began = fleet.transport.clock()
    await fleet.withdraw(*first)
    async with asyncio.timeout(WITHIN_SECONDS):
        answers = await asyncio.gather(*tasks)
    assert [answer.status_code for answer in answers] == [200] * 6
    assert fleet.transport.clock() - began >= (6 - 3) / 2 - 0.1
    assert fleet.asked.total() == 12


async def test_with_the_budget_spent_a_withdrawn_engine_that_answers_is_still_heard(
    tasks: list[asyncio.Task[httpx2.Response]],
) -> None:
    fleet = Fleet(BalancePolicy(stall_seconds=0.01, retry_burst=0, retry_floor_per_second=0), lambda _: None)
    tasks.append(asyncio.create_task(fleet.ask()))
    await fleet.wait_asked(1)
    await fleet.withdraw(*fleet.asked)
    await asyncio.sleep(0.1)  # the stall is over, and nothing is to follow from it
    fleet.awake.set()
    assert (await tasks[0]).status_code == 200
    assert fleet.asked.total() == 1


async def test_leaving_an_ejected_engine_costs_no_budget() -> None:
    fleet = Fleet(
        BalancePolicy(retry_burst=0, retry_floor_per_second=0),
        lambda _: httpx2.ConnectError("nobody") if fleet.asked.total() == 1 else httpx2.Response(200),
    )
    assert (await fleet.ask()).status_code == 200
    assert fleet.asked.total() == 2
