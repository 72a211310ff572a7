"""Whenever callers are cancelled or the client is closed, whatever engines do meanwhile: nothing is left over."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import httpx2
import pytest

from vllm_client import BalancePolicy
from vllm_client.balance.transport import BalancedTransport
from vllm_client.discovery import Discovery, Found

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vllm_client.balance.fleet import Engine

pytestmark = pytest.mark.slow

URLS = [f"http://engine-{number}:8000/v1" for number in range(3)]
LONGEST_SECONDS = 0.02
CALLERS = 25
EVENT = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'


class Body(httpx2.AsyncByteStream):
    """A body that comes slowly, may break, and knows whether it was closed."""

    def __init__(self, engines: Engines, *, streams: bool) -> None:
        self.engines = engines
        self.streams = streams
        engines.open += 1

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(3 if self.streams else 1):
            await self.engines.pause()
            if self.engines.chance(0.1):
                raise httpx2.ReadError("broken")
            yield EVENT if self.streams else b'{"choices": [{"finish_reason": "stop"}]}'
        if self.streams and not self.engines.chance(0.2):
            yield b"data: [DONE]\n\n"

    async def aclose(self) -> None:
        """Close it; that takes its time too."""
        self.engines.open -= 1
        await self.engines.pause()


class Engines(httpx2.AsyncBaseTransport, Discovery):
    """Engines that refuse, fail, hang, answer and come and go by chance; as one transport for all of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - the same chances at each run
        self.open = 0

    def chance(self, share: float) -> bool:
        """Whether something happens that does so this often."""
        return self.random.random() < share

    async def pause(self) -> None:
        """A moment, or none."""
        await asyncio.sleep(self.random.choice([0, self.random.uniform(0, LONGEST_SECONDS)]))

    async def find(self) -> Found:
        """Some of the engines, for a moment."""
        await self.pause()
        return Found(tuple(url for url in URLS if self.chance(0.8)), LONGEST_SECONDS)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """What comes of a request."""
        await self.pause()
        if self.chance(0.15):
            raise httpx2.ConnectError("nobody")
        if self.chance(0.1):
            await asyncio.sleep(LONGEST_SECONDS * 20)
        if self.chance(0.1):
            raise httpx2.ReadError("lost")
        if self.chance(0.15):
            return httpx2.Response(self.random.choice([429, 500, 503]), stream=Body(self, streams=False))
        streams = b"stream" in request.extensions["body"]
        kind = "text/event-stream" if streams else "application/json"
        return httpx2.Response(200, headers={"Content-Type": kind}, stream=Body(self, streams=streams))


async def ask(transport: BalancedTransport, engines: Engines) -> None:
    """One caller, who may stop reading in the middle."""
    streams = engines.chance(0.5)
    body = b'{"stream": true}' if streams else b"{}"
    extensions = {"timeout": {"read": LONGEST_SECONDS * 10}, "body": body}
    request = httpx2.Request("POST", f"{URLS[0]}/chat/completions", content=body, extensions=extensions)
    with contextlib.suppress(httpx2.TransportError):
        response = await transport.handle_async_request(request)
        try:
            async for _ in response.stream:  # type: ignore[union-attr]  # of an asynchronous transport
                if engines.chance(0.1):
                    break
        finally:
            await response.stream.aclose()  # type: ignore[union-attr]  # as above


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("closes", [False, True], ids=["stays open", "is closed meanwhile"])
async def test_nothing_is_left_over_whenever_callers_are_cancelled(
    seed: int, monkeypatch: pytest.MonkeyPatch, *, closes: bool
) -> None:
    engines = Engines(seed)
    monkeypatch.setattr(httpx2, "AsyncHTTPTransport", lambda **_: engines)
    policy = BalancePolicy(
        hedge_seconds=LONGEST_SECONDS / 2 if seed % 2 else None,
        stall_seconds=LONGEST_SECONDS,
        backoff_seconds=LONGEST_SECONDS / 10,
        ttl_floor_seconds=LONGEST_SECONDS,
        ejection_seconds=LONGEST_SECONDS,
    )
    transport = BalancedTransport(engines, URLS[0], policy=policy, max_retries=3)
    callers = [asyncio.create_task(ask(transport, engines)) for _ in range(CALLERS)]
    known: set[Engine] = set()
    closing: list[asyncio.Task[None]] = []
    for caller in callers:
        await asyncio.sleep(engines.random.uniform(0, LONGEST_SECONDS / 4))
        known.update(transport.fleet.engines.values())
        if closes and engines.chance(0.1):
            closing.append(asyncio.create_task(transport.aclose()))
            await asyncio.sleep(0)
            if engines.chance(0.5):
                closing[-1].cancel()
        if engines.chance(0.6):
            caller.cancel()
            if engines.chance(0.3):
                caller.cancel("once more")
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
    await asyncio.gather(*closing, return_exceptions=True)
    fleet = transport.fleet
    known.update(fleet.engines.values())
    assert [engine.outstanding for engine in known] == [0] * len(known)
    assert closing or not any(engine.health.on_trial for engine in fleet.engines.values())
    assert not fleet.timers.times
    assert not transport.streams
    assert engines.open == 0
    await transport.aclose()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
