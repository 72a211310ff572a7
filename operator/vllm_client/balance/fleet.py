"""The engines that are known now, kept up to date while requests are made."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2

from vllm_client.balance import choice, health
from vllm_client.balance.failures import NEVER, TransportClosed
from vllm_client.balance.health import HEALTHY, Health
from vllm_client.balance.load_report import NOTHING_KNOWN, Reported
from vllm_client.balance.timers import Timers
from vllm_client.discovery import DiscoveryFailed
from vllm_client.tasks import end

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from vllm_client.balance.policy import BalancePolicy
    from vllm_client.discovery import Discovery

logger = logging.getLogger(__name__)

NEVER_ASKED = float("-inf")


@dataclass(eq=False)
class Engine:
    """One engine.

    Attributes:
        url: Its base URL.
        transport: Its connections.
        outstanding: Requests that it has not answered to the end.
        health: What came of earlier ones.
        reported: What it said of its load.
        absent_since: When discovery was first without it; None while it is there.
    """

    url: str
    transport: httpx2.AsyncBaseTransport
    outstanding: int = 0
    health: Health = field(default=HEALTHY)
    reported: Reported = field(default=NOTHING_KNOWN)
    absent_since: float | None = None


class Fleet:
    """The engines of a model.

    Args:
        discovery: Where they are.
        fallback: The base URL to use while there are none: the Service in front of them.
        policy: The settings.
        connect: Makes an engine's transport.
        clock: The time in seconds.
    """

    def __init__(
        self,
        discovery: Discovery,
        fallback: str,
        *,
        policy: BalancePolicy,
        connect: Callable[[], httpx2.AsyncBaseTransport],
        clock: Callable[[], float],
    ) -> None:
        self.discovery = discovery
        self.fallback = fallback
        self.policy = policy
        self.connect = connect
        self.clock = clock
        self.engines: dict[str, Engine] = {}
        self.timers = Timers(clock)
        self.fresh_until = NEVER_ASKED
        self.asked_at = NEVER_ASKED
        self.failing = False
        self.closed = False
        self._used = False
        self._soon = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def ready(self, deadline: float = NEVER) -> None:
        """Have engines to choose from; ask discovery only where what it said is out of date.

        Raises:
            httpx2.PoolTimeout: Discovery has not answered by the deadline.
            TransportClosed: There are no engines any more.
        """
        self._used = True
        if self.closed:
            raise TransportClosed("the client is closed")
        if self.clock() >= self.fresh_until:
            await self.refreshed(deadline)
        if self.fresh_until == float("inf"):
            return
        if self._keeper is not None and self._keeper.done():
            self._keeper.result()  # what should not happen is not silent
            self._keeper = None
        self._keeper = self._keeper or asyncio.create_task(self._keep_fresh(), name="vllm_client discovery")

    def present(self) -> dict[str, Engine]:
        """The engines that new requests may go to."""
        return {url: engine for url, engine in self.engines.items() if engine.absent_since is None}

    def candidates(self, tried: Container[str] = ()) -> list[Engine]:
        """The engines that new requests should go to, but for those with these URLs."""
        present = [engine for engine in self.engines.values() if engine.absent_since is None]
        return [engine for engine in health.usable(present, self.clock()) if engine.url not in tried]

    def take(self, key: int, candidates: Sequence[Engine], draw: float) -> Engine:
        """The engine for a request, of these; the request counts as its own from now on. See `choice.by_prefix`."""
        loads = {engine.url: engine for engine in candidates}
        url = choice.chosen(key, loads, self.policy, now=self.clock(), draw=draw)
        engine = loads[url]
        engine.outstanding += 1
        engine.health = health.tried(engine.health)
        return engine

    async def refreshed(self, deadline: float) -> None:
        """Wait for discovery. It is asked once for all who wait, and goes on when one of them has no more time.

        Raises:
            httpx2.PoolTimeout: It has not answered by the deadline.
            TransportClosed: The client was closed meanwhile.
        """
        task = self._refreshing
        if task is None or task.done():
            task = self._refreshing = asyncio.create_task(self.refresh(), name="vllm_client discovery")
        await asyncio.wait([task], timeout=None if deadline == NEVER else max(0.0, deadline - self.clock()))
        if self.closed:
            raise TransportClosed("the client was closed while discovery was asked for engines")
        if not task.done():
            raise httpx2.PoolTimeout("discovery has not said in time where the engines are")
        task.result()

    async def refresh(self) -> None:
        """Ask discovery; what was known stays while it fails."""
        policy = self.policy
        self.asked_at = self.clock()
        try:
            found = await self.discovery.find()
        except DiscoveryFailed as error:
            level = logging.DEBUG if self.failing else logging.WARNING
            logger.log(level, "%s; going on with %s", error, sorted(self.present()) or self.fallback)
            self.failing = True
            self.fresh_until = self.clock() + policy.ttl_floor_seconds
            if not self.engines:
                await self.update([self.fallback])
            return
        self.failing = False
        ttl = found.ttl_seconds
        if ttl != float("inf"):
            ttl = min(max(ttl, policy.ttl_floor_seconds), policy.ttl_ceiling_seconds)
        self.fresh_until = self.clock() + ttl
        await self.update(found.urls or [self.fallback])

    def refresh_soon(self) -> None:
        """An engine has failed, and may be gone: ask discovery as soon as it may be asked again."""
        due = self.asked_at + self.policy.ttl_floor_seconds
        if due < self.fresh_until < float("inf"):
            self.fresh_until = due
            self._soon.set()

    async def update(self, urls: Iterable[str]) -> None:
        """Take over the engines that there are now."""
        wanted, before = set(urls), set(self.present())
        for url in wanted - set(self.engines):
            self.engines[url] = Engine(url, self.connect())
        for url, engine in self.engines.items():
            if url in wanted:
                engine.absent_since = None
            elif engine.absent_since is None:
                engine.absent_since = self.clock()
        for engine in list(self.engines.values()):
            await self.forget_idle(engine)
        if before != wanted:
            self.timers.wake_all()

    async def release(self, engine: Engine) -> None:
        """A request to the engine is over."""
        engine.outstanding -= 1
        if engine.absent_since is not None:
            await self.forget_idle(engine)

    async def forget_idle(self, engine: Engine) -> None:
        """Close the connections to an engine that has left and owes no answer."""
        if engine.absent_since is not None and engine.outstanding == 0 and self.engines.get(engine.url) is engine:
            del self.engines[engine.url]
            await engine.transport.aclose()

    async def close(self) -> None:
        """Wake all who wait, so that they end; ask discovery no more, and close every connection."""
        self.closed = True
        self.timers.wake_all()
        await end(*[task for task in (self._keeper, self._refreshing) if task is not None])
        self._keeper = self._refreshing = None
        engines, self.engines = list(self.engines.values()), {}
        self.timers.stop()
        for engine in engines:
            await engine.transport.aclose()

    async def _keep_fresh(self) -> None:
        """Refresh whenever the time is over, until nobody has asked anything meanwhile."""
        while self._used or any(engine.outstanding for engine in self.engines.values()):
            self._used = False
            await self._until_stale()
            await self.refreshed(NEVER)

    async def _until_stale(self) -> None:
        """Wait until what is known is out of date; `refresh_soon` may bring that forward."""
        while (seconds := self.fresh_until - self.clock()) > 0:
            self._soon.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._soon.wait()
