"""What all requests of a client share: the engines, the retry budget, the policy and the clock."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

import httpx2

from vllm_client.balance import budget, health, load_report
from vllm_client.balance.failures import NOBODY_THERE, ConnectionWasClosed, Verdict, answered, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from vllm_client.balance.fleet import Engine, Fleet

logger = logging.getLogger(__name__)

DRAW = random.SystemRandom().random


class Balancer:
    """Says whom to ask and whether to ask once more, and learns from what comes of it.

    Args:
        fleet: The engines.
        max_retries: Further attempts that a request may take.
        clock: The time in seconds.
        draw: A random number, at least 0 and below 1, another one in each process.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        max_retries: int,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = DRAW,
    ) -> None:
        self.fleet = fleet
        self.policy = fleet.policy
        self.max_retries = max_retries
        self.clock = clock
        self.draw = draw
        self.budget = budget.full(clock(), fleet.policy)

    def earn_retries(self) -> None:
        """A request begins, and adds its share to the retry budget."""
        self.budget = budget.earned(self.budget, self.clock(), self.policy)

    def spend_retry(self) -> bool:
        """Take a further attempt from the retry budget; False where it is spent."""
        rest = budget.spent(self.budget, self.clock(), self.policy)
        if rest is None:
            logger.debug("the retry budget is spent")
            return False
        self.budget = rest
        return True

    def retry_affordable_at(self) -> float:
        """When time alone has filled the budget for a further attempt."""
        return budget.affordable_at(self.budget, self.clock(), self.policy)

    def has_engine(self, tried: Container[str]) -> bool:
        """Whether there is an engine to ask but for those with these URLs."""
        return bool(self.fleet.candidates(tried))

    def choose(self, key: int, tried: Container[str] = ()) -> Engine:
        """The engine for an attempt, but for those with these URLs; the attempt counts as its own from now on."""
        return self.fleet.take(key, self.fleet.candidates(tried), self.draw())

    def fails_over(self, failed_engine: Engine | None, tried: Container[str]) -> bool:
        """Whether a request leaves an engine that is ejected for its failures, for one that is not.

        That adds no load to the engines that work, however many requests the other one had. An engine that is only
        withdrawn may still compute what it has, and what it has may be why it is slow.
        """
        if failed_engine is None:
            return False
        now = self.clock()
        return not health.admitted(failed_engine.health, now) and any(
            health.admitted(engine.health, now) for engine in self.fleet.candidates(tried)
        )

    def record(self, engine: Engine, outcome: httpx2.Response | httpx2.TransportError, began: float) -> Verdict:
        """Learn from an attempt that began then; what to do with its outcome."""
        if isinstance(outcome, httpx2.Response):
            found, proof = verdict_of(outcome), False
            if found is Verdict.ANSWER:
                engine.health = answered(engine.health, outcome, began)
        else:
            blameless = isinstance(outcome, httpx2.ReadTimeout | httpx2.PoolTimeout | ConnectionWasClosed)
            found, proof = Verdict.BUSY if blameless else Verdict.ERROR, isinstance(outcome, NOBODY_THERE)
        if found is Verdict.BUSY:
            self.abandon(engine)
        elif found is Verdict.ERROR:
            engine.health = health.failed(
                engine.health, proof=proof, now=self.clock(), jitter=self.draw(), policy=self.policy
            )
            self.fleet.refresh_soon()
        return found

    def record_stream(self, engine: Engine, began: float, failure: httpx2.TransportError | None) -> None:
        """Learn from a stream that began then and is over, by its end, by the caller, or by a failure."""
        if failure is None:
            engine.health = health.succeeded(engine.health, began)
        else:
            self.record(engine, failure, began)

    def ask_for_report(self, engine: Engine, headers: httpx2.Headers) -> None:
        """Have a request to the engine ask for its load, if it is time to and the caller asks for no other form."""
        now = self.clock()
        if load_report.is_due(engine.reported, now, self.policy):
            engine.reported = load_report.asked(engine.reported, now)
            headers.setdefault(load_report.REQUEST_HEADER, load_report.FORMAT)

    def record_report(self, engine: Engine, headers: httpx2.Headers) -> None:
        """Learn from an answer what the engine says of its load."""
        header = headers.get(load_report.RESPONSE_HEADER)
        engine.reported = load_report.answered(engine.reported, header, self.clock())

    @staticmethod
    def abandon(engine: Engine) -> None:
        """An attempt ended without an outcome: it says nothing of the engine."""
        engine.health = health.abandoned(engine.health)

    def refresh_wait_seconds(self) -> float:
        """Seconds until discovery may know other engines; 0 where it will not be asked soon."""
        seconds = self.fleet.fresh_until - self.clock()
        return seconds if seconds <= self.policy.ttl_floor_seconds else 0.0
