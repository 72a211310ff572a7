"""The attempts of one request: one engine after another, and two at once where one may be stuck."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import httpx2

from vllm_client.balance.calls import Call
from vllm_client.balance.failures import (
    NEVER,
    NOBODY_THERE,
    ConnectionWasClosed,
    TransportClosed,
    Verdict,
    backoff,
    hedge_at,
    retry_after,
    stalled_at,
    untouched,
)
from vllm_client.balance.fleet import Engine
from vllm_client.balance.policy import MOST_COMPUTATIONS
from vllm_client.tasks import Interruptible, end, finish

if TYPE_CHECKING:
    from vllm_client.balance.balancer import Balancer

logger = logging.getLogger(__name__)

Send = Callable[[Engine], Awaitable[httpx2.Response]]
Outcome = httpx2.Response | httpx2.TransportError


class Attempt(NamedTuple):
    """An engine that was asked, and when."""

    engine: Engine
    began: float


class AttemptLoop:
    """Brings one request to an answer, or to the failure that the caller is told. `next_step` decides.

    The first attempt, nearly always the only one, runs in the caller's own task: one of its own would cost as much as
    choosing the engine. Where it fails, the loop goes on in that task; where it lasts so long that there is something
    to decide beside it, in another one, whose end interrupts it.

    Args:
        balancer: What this request shares with others.
        send: Sends the request to an engine; the answer comes back once its first byte is there.
        key: What the choice of engines depends on.
        deadline: When an answer must have begun.
        call: What the request belongs to.
    """

    further: asyncio.Task[httpx2.Response] | None = None
    first_outcome: asyncio.Future[httpx2.Response] | None = None
    bell: asyncio.Future[None] | None = None
    last: Outcome | None = None
    failed_engine: Engine | None = None
    rounds = 0
    retry_at = 0.0
    resent = False
    hedged = False

    def __init__(self, balancer: Balancer, send: Send, *, key: int, deadline: float, call: Call | None = None) -> None:
        self.balancer = balancer
        self.fleet = balancer.fleet
        self.timers = balancer.fleet.timers
        self.policy = balancer.policy
        self.send = send
        self.key = key
        self.deadline = deadline
        self.began = balancer.clock()
        self.first = Attempt(balancer.choose(key), self.began)
        self.first_run: Interruptible[httpx2.Response] = Interruptible()
        self.context = copy_context()
        self.running: dict[asyncio.Future[httpx2.Response], Attempt] = {}
        self.unstarted: list[Engine] = []
        self.tried = {self.first.engine.url}
        self.ask_again_at: dict[str, float] = {}
        self.stuck: set[Engine] = set()
        self.retries_left = balancer.max_retries
        self.call = call or Call()

    async def run(self) -> httpx2.Response:
        """The answer of the engine that was first.

        Raises:
            httpx2.TransportError: There is none; the last attempt's error, or ReadTimeout at the deadline.
            AnsweredBadly: The last attempt brought an error of the engine.
        """
        self.timers.wake_at(self.look, min(self.deadline, hedge_at(self.began, self.policy)))
        answer: httpx2.Response | None = None
        outcome: Outcome | None
        try:
            try:
                outcome = await self.first_run.run(self.send(self.first.engine))
            except httpx2.TransportError as error:
                outcome = error
            except BaseException:
                self.balancer.abandon(self.first.engine)
                raise
            if self.further is None and outcome is not None:
                answer = self.settle(self.first, outcome)
            if answer is None:
                self.timers.forget(self.look)
                self.hand_in(outcome)
                answer = await (self.further or self.go_on(failed=True))
        finally:
            self.timers.forget(self.look)
            if self.further is not None or self.running:
                await closed_if_cancelled(answer, finish(self.end(answer)))
        return answer

    # What is decided

    async def next_step(self, *, failed: bool) -> None:
        """Begin what follows when no attempt has brought an answer yet: another attempt, or nothing but waiting.

        Raises:
            httpx2.TransportError: Nothing follows.
            AnsweredBadly: Nothing follows, and the last attempt brought an error of the engine.
        """
        now = self.balancer.clock()
        if self.fleet.closed:
            raise TransportClosed("the client was closed while a request waited for its answer")
        if now >= self.deadline:
            raise httpx2.ReadTimeout("no engine has answered in time")
        hedging = now >= self.hedge_at()
        self.hedged = self.hedged or hedging
        stalled = [engine for engine in self.waiting_for() if now >= self.stalled_at(engine)]
        if isinstance(self.last, ConnectionWasClosed) and not self.resent and self.may_compute():
            self.resent = True
            self.begin_attempt()
        elif not self.running:
            await self.next_round()
        elif (failed or hedging or stalled) and self.has_engine() and self.may_retry(resend=bool(stalled)):
            self.stuck.update(stalled)
            self.begin_attempt()

    async def next_round(self) -> None:
        """Try again, after a wait if every engine has been tried; give up if that is not allowed."""
        seconds = 0.0 if self.has_engine() else self.pause_seconds()
        if self.balancer.clock() + seconds >= self.deadline or not self.may_retry():
            self.give_up()
        await self.wait_until(self.balancer.clock() + seconds)
        await self.fleet.ready(self.deadline)
        self.begin_attempt()

    def may_retry(self, *, resend: bool = False) -> bool:
        """Take a further attempt from what is left to the request and, unless it fails over, from the retry budget.

        Args:
            resend: Whether it goes beside an attempt with a withdrawn engine, which may be computed still.
        """
        self.retry_at = NEVER
        if self.retries_left <= 0 or not self.may_compute():
            return False
        fails_over = not resend and self.balancer.fails_over(self.failed_engine, self.tried)
        if not fails_over and not self.balancer.spend_retry():
            self.retry_at = self.balancer.retry_affordable_at()
            return False
        self.retry_at = 0.0
        self.retries_left -= 1
        return True

    def may_compute(self) -> bool:
        """Whether one more engine may compute the prompt, beside those that do or have done so in vain."""
        return self.call.computed + len(self.running) < MOST_COMPUTATIONS

    def settle(self, attempt: Attempt, outcome: Outcome) -> httpx2.Response | None:
        """Learn from an attempt that is over; its answer, if it is one for the caller."""
        verdict = self.balancer.record(attempt.engine, outcome, attempt.began)
        if verdict is Verdict.ANSWER and isinstance(outcome, httpx2.Response):
            return outcome
        logger.debug("%s: %r", attempt.engine.url, outcome)
        self.call.computed += not untouched(outcome)
        self.last, self.failed_engine = outcome, attempt.engine
        if isinstance(outcome, httpx2.Response):
            seconds = retry_after(outcome.headers.get("retry-after"))
            self.ask_again_at[attempt.engine.url] = self.balancer.clock() + seconds
        elif isinstance(outcome, ConnectionWasClosed) and not self.resent:
            self.tried.discard(attempt.engine.url)
        return None

    def give_up(self) -> NoReturn:
        """End with what the last attempt brought."""
        if isinstance(self.last, httpx2.Response):
            raise AnsweredBadly(self.last)
        raise self.last or httpx2.ConnectError("there is no engine to ask")

    # What the decisions look at

    def has_engine(self) -> bool:
        """Whether there is an engine that has not been tried in this round."""
        return self.balancer.has_engine(self.tried)

    def waiting_for(self) -> list[Engine]:
        """The engines whose attempt may still bring an answer soon."""
        return [attempt.engine for attempt in self.running.values() if attempt.engine not in self.stuck]

    def stalled_at(self, engine: Engine) -> float:
        """When a withdrawn engine counts as one that will not answer."""
        return stalled_at(engine.absent_since, self.began, self.policy)

    def resend_at(self) -> float:
        """When to leave an engine that is withdrawn; where there is no other one, that has to come first."""
        if not self.has_engine():
            return NEVER
        return min((max(self.stalled_at(engine), self.retry_at) for engine in self.waiting_for()), default=NEVER)

    def hedge_at(self) -> float:
        """When to ask a second engine just in case."""
        return NEVER if self.hedged else hedge_at(self.began, self.policy)

    def pause_seconds(self) -> float:
        """Seconds until the next round; where nobody was there, not before discovery may know of somebody else."""
        self.rounds += 1
        refresh = self.balancer.refresh_wait_seconds() if isinstance(self.last, NOBODY_THERE) else 0.0
        times = [self.ask_again_at.get(engine.url, 0.0) for engine in self.fleet.candidates()]
        asked_to_wait = min(times, default=0.0) - self.balancer.clock()
        return max(refresh, asked_to_wait, backoff(self.rounds, self.balancer.draw(), self.policy))

    # How attempts are run

    def look(self) -> None:
        """Go on beside the first attempt if there is something to decide; otherwise look again when there is."""
        stalled = stalled_at(self.first.engine.absent_since, self.began, self.policy)
        at = min(self.deadline, hedge_at(self.began, self.policy), stalled)
        if self.fleet.closed:
            self.first_run.interrupt()
            return
        if self.balancer.clock() < at:
            self.timers.wake_at(self.look, at)
            return
        self.timers.forget(self.look)
        self.first_outcome = asyncio.get_running_loop().create_future()
        self.running[self.first_outcome] = self.first
        self.further = asyncio.create_task(self.go_on(failed=False), context=self.context)
        self.further.add_done_callback(lambda _: self.first_run.interrupt())

    def hand_in(self, outcome: Outcome | None) -> None:
        """Tell the loop beside it what the first attempt has brought."""
        if self.first_outcome is None or self.first_outcome.done():
            return
        if isinstance(outcome, httpx2.Response):
            self.first_outcome.set_result(outcome)
        elif outcome is not None:
            self.first_outcome.set_exception(outcome)
        self.ring()

    async def go_on(self, *, failed: bool) -> httpx2.Response:
        """Make further attempts until one brings an answer."""
        while True:
            await self.next_step(failed=failed)
            await self.wait()
            done = self.done()
            for future in done:
                attempt = self.running.pop(future)
                answer = self.settle(attempt, self.outcome_of(attempt, future))
                if answer is not None:
                    return answer
            failed = bool(done)

    def outcome_of(self, attempt: Attempt, future: asyncio.Future[httpx2.Response]) -> Outcome:
        """What an attempt has brought; what it should never raise is raised."""
        error = future.exception()
        if error is None or isinstance(error, httpx2.TransportError):
            return error or future.result()
        self.balancer.abandon(attempt.engine)
        raise error

    def begin_attempt(self) -> None:
        """Ask an engine that has not been tried in this round, or one in a new round."""
        if not self.has_engine():
            now = self.balancer.clock()
            self.tried = {url for url, at in self.ask_again_at.items() if at > now}
        if not self.has_engine():
            self.tried.clear()
        engine = self.balancer.choose(self.key, self.tried)
        self.tried.add(engine.url)
        self.unstarted.append(engine)
        self.running[asyncio.create_task(self.attempt(engine))] = Attempt(engine, self.balancer.clock())

    async def attempt(self, engine: Engine) -> httpx2.Response:
        """The answer of one engine."""
        self.unstarted.remove(engine)
        try:
            return await self.send(engine)
        finally:
            self.ring()

    def ring(self) -> None:
        """Something has happened that the loop has to look at."""
        if self.bell is not None and not self.bell.done():
            self.bell.set_result(None)

    async def wait(self) -> None:
        """Wait until an attempt is over, engines have come or gone, or it is time for something else."""
        if not self.done():
            await self.wait_for_ring(min(self.deadline, self.hedge_at(), self.resend_at()))

    async def wait_until(self, at: float) -> None:
        """Wait for that time; less where an engine comes that has not been tried, or the client is closed."""
        while self.balancer.clock() < at and not self.fleet.closed and not self.has_engine():
            await self.wait_for_ring(at)

    async def wait_for_ring(self, at: float) -> None:
        """Wait for that time, or until something happens before."""
        self.bell = asyncio.get_running_loop().create_future()
        self.timers.wake_at(self.ring, at)
        try:
            await self.bell
        finally:
            self.timers.forget(self.ring)

    def done(self) -> list[asyncio.Future[httpx2.Response]]:
        """The attempts that have an outcome."""
        return [outcome for outcome in self.running if outcome.done()]

    async def end(self, answer: httpx2.Response | None) -> None:
        """End what is still running, give its engines back, and close every answer but the caller's."""
        tasks = [] if self.further is None else [self.further]
        await end(*tasks)
        losers, self.running = self.running, {}
        await end(*losers)
        while self.unstarted:  # a task that is cancelled before its first step takes none, and gives nothing back
            await self.fleet.release(self.unstarted.pop())
        for attempt in losers.values():
            self.balancer.abandon(attempt.engine)
        for outcome in [*tasks, *losers]:
            if not outcome.cancelled() and outcome.exception() is None and outcome.result() is not answer:
                await outcome.result().aclose()


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
