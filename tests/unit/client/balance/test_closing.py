"""Whoever waits when the client is closed is told so at once, and nothing is left over."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.scripted_engine import chunk
from vllm_client import BalancePolicy, CachedClient, ClientClosed, SyncVLLMClient, VLLMClient
from vllm_client.discovery import Discovery, Found

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

WITHIN_SECONDS = 20
"""Much less than anybody here would wait by himself."""
LONG_SECONDS = 600


class HungEngine:
    """One that takes requests and does not answer, or stops in the middle of a stream."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = asyncio.Semaphore(0)
        self.status = 200
        self.retry_after = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Nothing more than a beginning."""
        wanted = await request.json()
        self.asked.release()
        if self.status != 200:
            return web.Response(status=self.status, headers={"Retry-After": self.retry_after})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if wanted.get("stream"):
            await response.prepare(request)
            await response.write(b"data: %s\n\n" % web.json_response(chunk("one")).body)
        await asyncio.Event().wait()
        return response


@asynccontextmanager
async def hung_engine() -> AsyncIterator[HungEngine]:
    engine = HungEngine()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", engine.answer)
    async with TestServer(app) as server:
        engine.url = str(server.make_url("/v1"))
        yield engine


class SilentDiscovery(Discovery):
    """Never says where the engines are."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def find(self) -> Found:
        """Nothing, for ever."""
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


def transport_of(client: VLLMClient) -> Any:
    return client.openai._client._transport  # noqa: SLF001 - the connections are nobody else's business


def client_of(engine: HungEngine, engines: int = 1, **settings: Any) -> VLLMClient:
    urls = [engine.url, engine.url.replace("127.0.0.1", "localhost")][:engines]
    return VLLMClient(engine.url, "m", engines=urls, **{"timeout": LONG_SECONDS, **settings})


async def collect(client: VLLMClient) -> str:
    return "".join([piece async for piece in client.stream("x")])


WAYS: list[Callable[[VLLMClient], Any]] = [
    lambda client: client.complete("x"),
    collect,
    lambda client: CachedClient(client).complete("x", temperature=0),
    lambda client: client.generate_batch(["x", "y"]),
]


@pytest.mark.parametrize("hedge_seconds", [None, 0.0], ids=["one attempt", "two attempts"])
@pytest.mark.parametrize("way", WAYS, ids=["complete", "stream", "cached", "batch"])
async def test_all_who_wait_for_an_answer_are_told(
    way: Callable[[VLLMClient], Any], hedge_seconds: float | None
) -> None:
    async with asyncio.timeout(WITHIN_SECONDS), hung_engine() as engine:
        client = client_of(engine, engines=2, balance=BalancePolicy(hedge_seconds=hedge_seconds))
        transport = transport_of(client)
        waiting = [asyncio.ensure_future(way(client)) for _ in range(3)]
        for _ in waiting:
            await engine.asked.acquire()
        engines = list(transport.fleet.engines.values())
        await client.close()
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, ClientClosed), outcome
            assert "the client is closed" in str(outcome)
        assert [one.outstanding for one in engines] == [0, 0]
        assert not transport.streams
        assert not transport.fleet.timers.times


async def test_who_waits_for_the_next_round_is_told() -> None:
    async with asyncio.timeout(WITHIN_SECONDS), hung_engine() as engine:
        engine.status, engine.retry_after = 503, "50"
        client = client_of(engine)
        waiting = asyncio.ensure_future(client.complete("x"))
        await engine.asked.acquire()
        while not transport_of(client).fleet.timers.times:  # noqa: ASYNC110 - that it waits there has no event
            await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(ClientClosed):
            await waiting


async def test_who_waits_for_discovery_is_told() -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        discovery = SilentDiscovery()
        client = VLLMClient("http://nobody", "m", discovery=discovery, timeout=LONG_SECONDS)
        waiting = [asyncio.ensure_future(client.complete("x")) for _ in range(3)]
        await discovery.asked.wait()
        await client.close()
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, ClientClosed), outcome


async def test_a_stream_that_nobody_reads_just_then_is_given_back_and_its_reader_told_later() -> None:
    async with asyncio.timeout(WITHIN_SECONDS), hung_engine() as engine:
        client = client_of(engine)
        stream = client.stream("x")
        assert await anext(stream) == "one"
        engines = list(transport_of(client).fleet.engines.values())
        await client.close()
        assert [one.outstanding for one in engines] == [0]
        with pytest.raises(ClientClosed):
            await anext(stream)


async def test_closing_again_does_nothing_and_later_calls_are_told() -> None:
    async with asyncio.timeout(WITHIN_SECONDS), hung_engine() as engine:
        client = client_of(engine)
        for _ in range(2):
            await asyncio.gather(client.close(), client.close())
        for way in WAYS:
            with pytest.raises(ClientClosed, match="Make a new one"):
                await way(client)
        assert not await client.health_check()


async def test_a_closing_that_is_cancelled_half_way_is_done_all_the_same() -> None:
    async with asyncio.timeout(WITHIN_SECONDS), hung_engine() as engine:
        client = client_of(engine)
        transport = transport_of(client)
        waiting = asyncio.ensure_future(client.complete("x"))
        await engine.asked.acquire()
        closing = asyncio.ensure_future(client.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(ClientClosed):
            await waiting
        assert not transport.fleet.engines
        await client.close()


async def test_a_thread_that_waits_is_told_when_another_one_closes() -> None:
    async with asyncio.timeout(WITHIN_SECONDS), hung_engine() as engine:
        script = SyncVLLMClient(client_of(engine))
        waiting = asyncio.ensure_future(asyncio.to_thread(script.complete, "x"))
        reading = asyncio.ensure_future(asyncio.to_thread(lambda: list(script.stream("x"))))
        for _ in range(2):
            await engine.asked.acquire()
        await asyncio.to_thread(script.close)
        for outcome in await asyncio.gather(waiting, reading, return_exceptions=True):
            assert isinstance(outcome, ClientClosed), outcome
        with pytest.raises(ClientClosed):
            script.complete("x")


async def test_a_client_over_connections_of_the_callers_is_told_too() -> None:
    import httpx2  # noqa: PLC0415 - only here

    async with asyncio.timeout(WITHIN_SECONDS), hung_engine() as engine:
        client = VLLMClient(engine.url, "m", max_retries=1, http_client=httpx2.AsyncClient(timeout=LONG_SECONDS))
        waiting = asyncio.ensure_future(client.complete("x"))
        await engine.asked.acquire()
        await client.close()
        with pytest.raises(ClientClosed):
            await waiting
