"""Operators in the test's own process: they start in half a second, and are cut off where a process would be killed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import kopf

from tests.support.servers import free_port
from vllm_operator.controller import app
from vllm_operator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    import pytest

    from tests.support.api_proxy import ApiProxy

START_SECONDS = 90.0
END_SECONDS = 30.0
QUIET_SECONDS = 1.5
"""How long nobody writes before a test takes it that nobody will: the operator has nothing that it does later by itself
within that time, since a first failure is tried again after 0.2 s."""

SETTLE_SECONDS = 120.0
LEASE: Mapping[str, Any] = {
    "lease_duration_seconds": 30,
    "renew_deadline_seconds": 20.0,
    "retry_period_seconds": 1.0,
    "pod": "operator",
}
"""No operator loses it because the machine is busy, and none waits for that of one that was killed: each is the next
process of the same pod."""


def settings(**given: Any) -> Settings:
    """Of an operator in a test."""
    return Settings(workers=4, listen_host="127.0.0.1", listen_port=free_port(), **{**LEASE, **given})


class Operators:
    """One after the other, each at an address of its own of the proxy. Use it as an `async with` block of the test.

    kopf cancels, when it ends, whatever task has begun since it started: no fixture can end it.
    """

    def __init__(self, proxy: ApiProxy, monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
        self.proxy = proxy
        self.given = given
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._settings = settings(**given)
        monkeypatch.setattr(app, "connection", lambda _: kopf.ConnectionInfo(server=proxy.url))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start one, and wait until it follows the cluster."""
        await self.launch()
        await self.ready()

    async def ready(self) -> None:
        """Wait until it follows the cluster."""
        async with asyncio.timeout(START_SECONDS):
            while (await self.get("/readyz"))[0] != 200:
                assert self._task is not None
                if self._task.done():
                    await self._task
                await asyncio.sleep(0.02)

    async def launch(self) -> None:
        """Start one, and wait for nothing."""
        self._stop, self._settings = asyncio.Event(), settings(**self.given)
        self._task = asyncio.create_task(app.run(self._settings, stop=self._stop), name="operator")

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self._task is not None and self._task.done()

    async def stop(self) -> None:
        """End it in order."""
        self._stop.set()
        if self._task is not None:
            async with asyncio.timeout(END_SECONDS):
                with contextlib.suppress(ExceptionGroup):  # cut off before it followed
                    await self._task

    async def crash(self) -> None:
        """Let nothing of it through any more, and end it."""
        self.proxy.cut_off()
        await self.stop()

    async def get(self, path: str) -> tuple[int, str]:
        """What it answers; 0 while it does not."""
        with contextlib.suppress(aiohttp.ClientError):
            url = f"http://127.0.0.1:{self._settings.listen_port}{path}"
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return answer.status, await answer.text()
        return 0, ""

    async def idles(self) -> bool:
        """Whether it is ready, the one that writes, and has nothing to look at."""
        ready, metrics = await self.get("/readyz"), await self.get("/metrics")
        idle = {"vllm_operator_leader 1.0", "vllm_operator_queue_depth 0.0"} <= set(metrics[1].splitlines())
        return ready[0] == 200 and idle and not self.proxy.busy

    async def settle(self) -> None:
        """Until nobody has asked or written anything for a while, and nothing is left to look at."""
        async with asyncio.timeout(SETTLE_SECONDS):
            seen = -1
            while seen != self.proxy.asked or not await self.idles():
                seen = self.proxy.asked
                await asyncio.sleep(QUIET_SECONDS)


async def until(look: Callable[[], object], what: str, seconds: float = SETTLE_SECONDS) -> None:
    """Wait for it, and let everything else of the test's loop go on meanwhile."""
    for _ in itertools.count():
        if look():
            return
        seconds -= 0.05
        assert seconds > 0, f"{what} did not come"
        await asyncio.sleep(0.05)


async def until_true(look: Callable[[], Awaitable[object]], what: str, seconds: float = SETTLE_SECONDS) -> None:
    """The same with a look that takes its time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await look():
        assert loop.time() < deadline, f"{what} did not come"
        await asyncio.sleep(0.05)
