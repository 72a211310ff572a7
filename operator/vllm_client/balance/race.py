"""The attempts of one request: one engine after another, and two at once where the first may never answer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn

import httpx2

from vllm_client.balance import budget, choice, health
from vllm_client.balance.failures import Verdict, backoff, retry_after
from vllm_client.tasks import end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vllm_client.balance.fleet import Engine
    from vllm_client.balance.transport import BalancedTransport

logger = logging.getLogger(__name__)
NEVER = float("inf")


class Race:
    """Brings one request to an answer, or to the failure that the caller is told.

    Args:
        transport: Whose engines, settings and retry budget these are.
        send: Sends the request to an engine; the answer comes back once its first byte is there.
        key: What the choice depends on.
        deadline: When an answer must have begun.
    """

    def __init__(
        self,
        transport: BalancedTransport,
        send: Callable[[Engine], Awaitable[httpx2.Response]],
        *,
        key: int,
        deadline: float,
    ) -> None:
        self.transport = transport
        self.fleet = transport.fleet
        self.policy = transport.fleet.policy
        self.send = send
        self.key = key
        self.deadline = deadline
        self.started = transport.clock()
        self.retries_left = transport.max_retries
        self.rounds = 0
        self.hedged = False
        self.tried: set[str] = set()
        self.running: dict[asyncio.Task[httpx2.Response], Engine] = {}
        self.begun: dict[Engine, float] = {}
        self.passed_over: set[Engine] = set()
        self.last: httpx2.Response | httpx2.TransportError | None = None
        self.left: Engine | None = None
        self.bell: asyncio.Future[None] | None = None

    async def run(self) -> httpx2.Response:
        """The answer of the engine that was first.

        Raises:
            httpx2.TransportError: There is none; the last attempt's error, or ReadTimeout at the deadline.
            AnsweredBadly: The last attempt brought an error of the engine.
        """
        self.fleet.listeners.add(self.ring)
        try:
            self.launch()
            while True:
                done = await self.wait()
                winner = self.settled(done)
                if winner is not None:
                    return winner
                await self.go_on(failed=bool(done))
        finally:
            await self.end()

    async def end(self) -> None:
        """End the attempts that are still running, and close answers that came too late."""
        self.fleet.listeners.discard(self.ring)
        losers, self.running = self.running, {}
        await end(*losers)
        for task, engine in losers.items():
            engine.health = health.abandoned(engine.health)
            if not task.cancelled() and task.exception() is None:
                await task.result().aclose()

    def candidates(self) -> dict[str, Engine]:
        """The engines that get requests and have not been tried in this round."""
        present = self.fleet.present()
        healths = {url: engine.health for url, engine in present.items()}
        usable = health.usable(healths, self.transport.clock())
        return {url: present[url] for url in usable if url not in self.tried}

    def launch(self) -> None:
        """Begin an attempt with an engine that has not been tried in this round, or in a new round."""
        candidates = self.candidates()
        if not candidates:
            self.tried.clear()
            candidates = self.candidates()
        engine = candidates[self.chosen({url: engine.outstanding for url, engine in candidates.items()})]
        self.tried.add(engine.url)
        engine.outstanding += 1
        engine.health = health.tried(engine.health)
        self.begun[engine] = self.transport.clock()
        self.running[asyncio.create_task(self.attempt(engine))] = engine

    async def attempt(self, engine: Engine) -> httpx2.Response:
        """The answer of one engine."""
        try:
            return await self.send(engine)
        finally:
            self.ring()

    def ring(self) -> None:
        """Something has happened that the race has to look at."""
        if self.bell is not None and not self.bell.done():
            self.bell.set_result(None)

    def chosen(self, loads: dict[str, int]) -> str:
        """The engine for the request, of these."""
        if len(loads) == 1:
            return next(iter(loads))
        if self.policy.strategy == "prefix":
            return choice.by_prefix(self.key, loads, self.policy.overload)
        return choice.by_load(self.key, loads)

    async def wait(self) -> set[asyncio.Task[httpx2.Response]]:
        """The attempts that are over; none if it is time for something else, or engines have come or gone.

        As asyncio.wait, which takes one more turn of the loop: here an attempt rings on its way out.
        """
        waking = min(self.deadline, self.hedge_at(), *(self.stalled_at(engine) for engine in self.waiting_for()))
        loop = asyncio.get_running_loop()
        self.bell = loop.create_future()
        timer = None if waking == NEVER else loop.call_later(max(0.0, waking - self.transport.clock()), self.ring)
        try:
            await self.bell
        finally:
            if timer is not None:
                timer.cancel()
        return {task for task in self.running if task.done()}

    def waiting_for(self) -> list[Engine]:
        """The engines whose attempt has not been given up hope of."""
        return [engine for engine in self.running.values() if engine not in self.passed_over]

    def stalled_at(self, engine: Engine) -> float:
        """When a withdrawn engine counts as one that will not answer."""
        return (
            NEVER if engine.absent_since is None else max(engine.absent_since, self.started) + self.policy.stall_seconds
        )

    def hedge_at(self) -> float:
        """When to ask a second engine just in case."""
        hedging = self.policy.hedge_seconds
        return NEVER if hedging is None or self.hedged else self.started + hedging

    def settled(self, done: set[asyncio.Task[httpx2.Response]]) -> httpx2.Response | None:
        """Learn from the attempts that are over; an answer for the caller if one of them has it."""
        for task in done:
            engine = self.running.pop(task)
            error = task.exception()
            if error is not None and not isinstance(error, httpx2.TransportError):
                raise error
            outcome = error or task.result()
            if self.transport.judge(engine, outcome, self.begun[engine]) is Verdict.ANSWER and isinstance(
                outcome, httpx2.Response
            ):
                return outcome
            logger.debug("%s: %r", engine.url, outcome)
            self.last, self.left = outcome, engine
        return None

    async def go_on(self, *, failed: bool) -> None:
        """What follows when no attempt has brought an answer yet.

        Raises:
            httpx2.TransportError: Nothing does.
            AnsweredBadly: Nothing does, and the last attempt brought an error of the engine.
        """
        now = self.transport.clock()
        if now >= self.deadline:
            raise httpx2.ReadTimeout("no engine has answered in time")
        overdue = self.overdue(now)
        if not self.running:
            await self.next_round()
        elif (failed or overdue) and self.candidates() and self.may_retry():
            self.launch()

    def overdue(self, now: float) -> bool:
        """Whether another engine should be asked too, beside those that have not answered; said once for each cause."""
        stalled = [engine for engine in self.waiting_for() if now >= self.stalled_at(engine)]
        hedging = now >= self.hedge_at()
        self.passed_over.update(stalled)
        self.left = stalled[-1] if stalled else self.left
        self.hedged = self.hedged or hedging
        return hedging or bool(stalled)

    async def next_round(self) -> None:
        """Try again, after a wait if every engine has been tried; give up if that is not allowed."""
        seconds = 0.0 if self.candidates() and not self.asked_to_wait() else self.pause()
        if self.transport.clock() + seconds >= self.deadline or not self.may_retry():
            self.give_up()
        await asyncio.sleep(seconds)
        self.launch()

    def asked_to_wait(self) -> float:
        """Seconds that the last answer asks to wait."""
        return retry_after(self.last.headers.get("retry-after")) if isinstance(self.last, httpx2.Response) else 0.0

    def pause(self) -> float:
        """Seconds until the next round."""
        self.rounds += 1
        return max(self.asked_to_wait(), backoff(self.rounds, self.transport.random(), self.policy))

    def moves_away(self) -> bool:
        """Whether the request leaves an engine that gets none any more, for one that does.

        That adds no load to the engines that work, however many requests the other one had.
        """
        now, left = self.transport.clock(), self.left
        gone = left is not None and (left.absent_since is not None or not health.admitted(left.health, now))
        return gone and any(health.admitted(engine.health, now) for engine in self.candidates().values())

    def may_retry(self) -> bool:
        """Take a further attempt from what is left to the request and, unless it moves away, to the client."""
        if self.retries_left <= 0:
            return False
        if self.moves_away():
            self.retries_left -= 1
            return True
        rest = budget.spent(self.transport.budget, self.transport.clock(), self.policy)
        if rest is None:
            logger.debug("the retry budget is spent")
            return False
        self.transport.budget = rest
        self.retries_left -= 1
        return True

    def give_up(self) -> NoReturn:
        """End with what the last attempt brought."""
        if isinstance(self.last, httpx2.Response):
            raise AnsweredBadly(self.last)
        raise self.last or httpx2.ConnectError("there is no engine to ask")


class AnsweredBadly(Exception):  # noqa: N818 - as in errors.py: the name says what happened
    """The last engine's answer is an error, and there is no other engine to ask; the caller gets that answer."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__(response.status_code)
        self.response = response
