"""What follows a first attempt that is not enough: one engine after another, and two at once where one may be stuck."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import httpx2

from vllm_client.balance import budget, health
from vllm_client.balance.failures import (
    NEVER,
    NOBODY_THERE,
    Verdict,
    backoff,
    hedge_at,
    retry_after,
    stalled_at,
    untouched,
)
from vllm_client.balance.fleet import Engine
from vllm_client.balance.policy import MOST_COMPUTATIONS
from vllm_client.tasks import end, finish

if TYPE_CHECKING:
    from vllm_client.balance.transport import BalancedTransport

logger = logging.getLogger(__name__)

Send = Callable[[Engine], Awaitable[httpx2.Response]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """An engine that was asked, and when."""

    engine: Engine
    began: float


class Race:
    """Brings a request to an answer, or to the failure that the caller is told.

    Args:
        transport: Whose engines, settings and retry budget these are.
        send: Sends the request to an engine; the answer comes back once its first byte is there.
        engine: Whom the first attempt has asked; `hand_in` brings its outcome.
        began: When that was.
        key: What the choice of further engines depends on.
        deadline: When an answer must have begun.
    """

    def __init__(
        self, transport: BalancedTransport, send: Send, engine: Engine, *, began: float, key: int, deadline: float
    ) -> None:
        self.transport = transport
        self.fleet = transport.fleet
        self.policy = transport.fleet.policy
        self.send = send
        self.key = key
        self.deadline = deadline
        self.began = began
        self.retries_left = transport.max_retries
        self.computed = 0
        self.retry_at = 0.0
        self.rounds = 0
        self.hedged = False
        self.first: asyncio.Future[httpx2.Response] = asyncio.get_running_loop().create_future()
        self.running: dict[asyncio.Future[httpx2.Response], Attempt] = {self.first: Attempt(engine, began)}
        self.tried = {engine.url}
        self.waits: dict[str, float] = {}
        self.passed_over: set[Engine] = set()
        self.waiting: list[Engine] = []
        self.last: httpx2.Response | httpx2.TransportError | None = None
        self.left: Engine | None = None
        self.bell: asyncio.Future[None] | None = None

    async def run(self) -> httpx2.Response:
        """The answer of the engine that was first.

        Raises:
            httpx2.TransportError: There is none; the last attempt's error, or ReadTimeout at the deadline.
            AnsweredBadly: The last attempt brought an error of the engine.
        """
        winner: httpx2.Response | None = None
        try:
            while winner is None:
                done = self.over()
                winner = self.settled(done)
                if winner is None:
                    await self.go_on(failed=bool(done))
                    await self.wait()
        finally:
            await closed_if_cancelled(winner, self.end())
        return winner

    async def hand_in(self, outcome: httpx2.Response | httpx2.TransportError | None) -> None:
        """Take what the first attempt has brought; an answer that comes after the end is closed."""
        if isinstance(outcome, httpx2.Response):
            if self.first.done():
                await outcome.aclose()
            else:
                self.first.set_result(outcome)
        elif outcome is not None and not self.first.done():
            self.first.set_exception(outcome)
        self.ring()

    async def end(self) -> None:
        """End the attempts that are still running, and close answers that came too late."""
        if self.running or self.waiting:
            await finish(self.give_back())

    async def give_back(self) -> None:
        """See `end`."""
        losers, self.running = self.running, {}
        await end(*losers)
        while self.waiting:  # a task that is cancelled before its first step takes none, and gives nothing back
            await self.fleet.release(self.waiting.pop())
        for outcome, attempt in losers.items():
            attempt.engine.health = health.abandoned(attempt.engine.health)
            if not outcome.cancelled() and outcome.exception() is None:
                await outcome.result().aclose()

    def candidates(self) -> list[Engine]:
        """The engines that get requests and have not been tried in this round."""
        return self.fleet.candidates(self.tried)

    def launch(self) -> None:
        """Begin an attempt with an engine that has not been tried in this round, or in a new round."""
        candidates = self.candidates()
        if not candidates:
            self.tried.clear()
            self.waits.clear()
            candidates = self.candidates()
        engine = self.fleet.take(self.key, candidates)
        self.tried.add(engine.url)
        self.waiting.append(engine)
        self.running[asyncio.create_task(self.attempt(engine))] = Attempt(engine, self.transport.clock())

    async def attempt(self, engine: Engine) -> httpx2.Response:
        """The answer of one engine."""
        self.waiting.remove(engine)
        try:
            return await self.send(engine)
        finally:
            self.ring()

    def ring(self) -> None:
        """Something has happened that the race has to look at."""
        if self.bell is not None and not self.bell.done():
            self.bell.set_result(None)

    async def wait(self) -> None:
        """Wait until an attempt is over, engines have come or gone, or it is time for something else."""
        if self.over():
            return
        self.bell = asyncio.get_running_loop().create_future()
        self.fleet.lookout.expect(self.ring, min(self.deadline, self.hedge_at(), self.resend_at()))
        try:
            await self.bell
        finally:
            self.fleet.lookout.dismiss(self.ring)

    def over(self) -> set[asyncio.Future[httpx2.Response]]:
        """The attempts that have an outcome."""
        return {outcome for outcome in self.running if outcome.done()}

    def waiting_for(self) -> list[Engine]:
        """The engines whose attempt has not been given up hope of."""
        engines = (attempt.engine for attempt in self.running.values())
        return [engine for engine in engines if engine not in self.passed_over]

    def stalled_at(self, engine: Engine) -> float:
        """When a withdrawn engine counts as one that will not answer."""
        return stalled_at(engine.absent_since, self.began, self.policy)

    def resend_at(self) -> float:
        """When to leave an engine that is withdrawn; where there is no other one, that has to come first."""
        if not self.candidates():
            return NEVER
        return min((max(self.stalled_at(engine), self.retry_at) for engine in self.waiting_for()), default=NEVER)

    def hedge_at(self) -> float:
        """When to ask a second engine just in case."""
        return NEVER if self.hedged else hedge_at(self.began, self.policy)

    def settled(self, done: set[asyncio.Future[httpx2.Response]]) -> httpx2.Response | None:
        """Learn from the attempts that are over; an answer for the caller if one of them has it."""
        for future in done:
            attempt = self.running.pop(future)
            error = future.exception()
            if error is not None and not isinstance(error, httpx2.TransportError):
                raise error
            outcome = error or future.result()
            judged = self.transport.judge(attempt.engine, outcome, attempt.began)
            if judged is Verdict.ANSWER and isinstance(outcome, httpx2.Response):
                return outcome
            logger.debug("%s: %r", attempt.engine.url, outcome)
            self.computed += not untouched(outcome)
            self.last, self.left = outcome, attempt.engine
            asked_to_wait = outcome.headers.get("retry-after") if isinstance(outcome, httpx2.Response) else None
            self.waits[attempt.engine.url] = retry_after(asked_to_wait)
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
        hedging = now >= self.hedge_at()
        self.hedged = self.hedged or hedging
        stalled = [engine for engine in self.waiting_for() if now >= self.stalled_at(engine)]
        if not self.running:
            await self.next_round()
        elif (failed or hedging or stalled) and self.candidates() and self.may_retry(resend=bool(stalled)):
            self.passed_over.update(stalled)
            self.launch()

    async def next_round(self) -> None:
        """Try again, after a wait if every engine has been tried; give up if that is not allowed."""
        seconds = 0.0 if self.candidates() else self.pause()
        if self.transport.clock() + seconds >= self.deadline or not self.may_retry():
            self.give_up()
        await asyncio.sleep(seconds)
        await self.fleet.ready()
        self.launch()

    def pause(self) -> float:
        """Seconds until the next round; where nobody was there, not before discovery may know of somebody else."""
        self.rounds += 1
        news = self.fleet.fresh_until - self.transport.clock() if isinstance(self.last, NOBODY_THERE) else 0.0
        news = news if news <= self.policy.ttl_floor_seconds else 0.0
        asked_to_wait = min(self.waits.values(), default=0.0)
        return max(news, asked_to_wait, backoff(self.rounds, self.transport.random(), self.policy))

    def moves_away(self) -> bool:
        """Whether the request leaves an engine that is ejected for its failures, for one that is not.

        That adds no load to the engines that work, however many requests the other one had. An engine that is only
        withdrawn may still compute what it has, and what it has may be why it is slow.
        """
        now, left = self.transport.clock(), self.left
        ejected = left is not None and not health.admitted(left.health, now)
        return ejected and any(health.admitted(engine.health, now) for engine in self.candidates())

    def may_retry(self, *, resend: bool = False) -> bool:
        """Take a further attempt from what is left to the request and, unless it moves away, to the client.

        Args:
            resend: Whether it goes beside an attempt with a withdrawn engine, which may be computed still.
        """
        self.retry_at = NEVER
        if self.retries_left <= 0 or self.computed + len(self.running) >= MOST_COMPUTATIONS:
            return False
        if resend or not self.moves_away():
            now = self.transport.clock()
            rest = budget.spent(self.transport.budget, now, self.policy)
            if rest is None:
                logger.debug("the retry budget is spent")
                self.retry_at = budget.affordable_at(self.transport.budget, now, self.policy)
                return False
            self.transport.budget = rest
        self.retry_at = 0.0
        self.retries_left -= 1
        return True

    def give_up(self) -> NoReturn:
        """End with what the last attempt brought."""
        if isinstance(self.last, httpx2.Response):
            raise AnsweredBadly(self.last)
        raise self.last or httpx2.ConnectError("there is no engine to ask")


async def closed_if_cancelled(answer: httpx2.Response | None, work: Coroutine[Any, Any, None]) -> None:
    """Do some last work; where the caller is cancelled in it, nobody takes the answer any more, and it is closed."""
    try:
        await work
    except BaseException:
        if answer is not None:
            await finish(answer.aclose())
        raise


class AnsweredBadly(Exception):  # noqa: N818 - as in errors.py: the name says what happened
    """The last engine's answer is an error, and there is no other engine to ask; the caller gets that answer."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__(response.status_code)
        self.response = response
