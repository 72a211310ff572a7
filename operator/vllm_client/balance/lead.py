"""The first attempt of a request, which nearly always is the only one."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, cast

import httpx2

from vllm_client.balance import health
from vllm_client.balance.failures import Verdict, answered, hedge_at, stalled_at, verdict_of
from vllm_client.balance.race import Race, closed_if_cancelled
from vllm_client.tasks import end, finish

if TYPE_CHECKING:
    from vllm_client.balance.race import Send
    from vllm_client.balance.transport import BalancedTransport


class Lead:
    """Brings one request to an answer, or to the failure that the caller is told.

    The first attempt runs in the caller's own task: one of its own would cost as much as choosing the engine. Where it
    fails, lasts too long or loses its engine, a race begins, which takes this attempt as its first. A race that is over
    before this attempt ends it.

    Args:
        transport: Whose engines, settings and retry budget these are.
        send: Sends the request to an engine; the answer comes back once its first byte is there.
        key: What the choice depends on.
        deadline: When an answer must have begun.
    """

    def __init__(self, transport: BalancedTransport, send: Send, *, key: int, deadline: float) -> None:
        self.transport = transport
        self.fleet = transport.fleet
        self.send = send
        self.key = key
        self.deadline = deadline
        self.began = transport.clock()
        self.engine = self.fleet.take(key, self.fleet.candidates())
        self.context = copy_context()
        self.caller: asyncio.Task[object] | None = None
        self.overtaken = False
        self.race: Race | None = None
        self.contest: asyncio.Task[httpx2.Response] | None = None

    async def run(self) -> httpx2.Response:
        """The answer of the engine that was first.

        Raises:
            httpx2.TransportError: There is none; the last attempt's error, or ReadTimeout at the deadline.
            AnsweredBadly: The last attempt brought an error of the engine.
        """
        self.fleet.lookout.expect(self.look, min(self.deadline, hedge_at(self.began, self.fleet.policy)))
        answer: httpx2.Response | None = None
        try:
            outcome = await self.outcome()
            if self.race is None and isinstance(outcome, httpx2.Response) and self.is_answer(outcome):
                return outcome
            race = self.race or self.begin()
            await race.hand_in(outcome)
            answer = await (self.contest or race.run())
        finally:
            self.fleet.lookout.dismiss(self.look)
            if self.race is not None:
                await closed_if_cancelled(answer, finish(self.end(self.race, answer)))
        return answer

    async def end(self, race: Race, answer: httpx2.Response | None) -> None:
        """End the race, also where its task was cancelled before its first step, and close what nobody has taken."""
        if self.contest is not None:
            await end(self.contest)
            if not self.contest.cancelled() and self.contest.exception() is None and answer is None:
                await self.contest.result().aclose()
        await race.end()

    def is_answer(self, response: httpx2.Response) -> bool:
        """Whether it is for the caller; then the engine is well."""
        if verdict_of(response) is not Verdict.ANSWER:
            return False
        self.engine.health = answered(self.engine.health, response, self.began)
        return True

    async def outcome(self) -> httpx2.Response | httpx2.TransportError | None:
        """What the first attempt brings; None where the race has ended it.

        The race's cancellation is told from others as asyncio.timeout does it, which itself costs a request too much.
        """
        self.caller = caller = cast("asyncio.Task[object]", asyncio.current_task())
        cancellations = caller.cancelling()
        try:
            return await self.send(self.engine)
        except httpx2.TransportError as error:
            return error
        except BaseException as error:
            if (
                self.overtaken
                and isinstance(error, asyncio.CancelledError)
                and caller.cancelling() == cancellations + 1
            ):
                return None
            self.engine.health = health.abandoned(self.engine.health)
            raise
        finally:
            self.caller = None
            if self.overtaken:
                caller.uncancel()

    def look(self) -> None:
        """Begin the race if it is time to; otherwise look again when it is, or when engines come or go."""
        policy = self.fleet.policy
        began = self.began
        at = min(self.deadline, hedge_at(began, policy), stalled_at(self.engine.absent_since, began, policy))
        if self.transport.clock() < at:
            self.fleet.lookout.expect(self.look, at)
            return
        self.contest = asyncio.create_task(self.begin().run(), context=self.context)
        self.contest.add_done_callback(self.overtake)

    def begin(self) -> Race:
        """Begin the race."""
        self.fleet.lookout.dismiss(self.look)
        self.race = Race(self.transport, self.send, self.engine, began=self.began, key=self.key, deadline=self.deadline)
        return self.race

    def overtake(self, _: object) -> None:
        """The race is over: end the first attempt."""
        if self.caller is not None:
            self.overtaken = True
            self.caller.cancel()
