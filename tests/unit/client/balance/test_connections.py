"""Connections that engines close while they are idle, streams that break, and a discovery that does not answer."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.scripted_engine import Stream, Whole, chunk, completion, scripted_engine
from vllm_client import (
    BalancePolicy,
    IncompleteAnswer,
    NotReachable,
    TimedOut,
    VLLMClient,
)
from vllm_client.balance import transport
from vllm_client.discovery import Discovery, Found

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WITHIN_SECONDS = 20
VLLM_CLOSES_IDLE_AFTER_SECONDS = 5
"""VLLM_HTTP_TIMEOUT_KEEP_ALIVE."""
FAILED = {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}
SOUND = Stream([chunk("hi"), chunk(finish_reason="stop")])


class ClosingEngine:
    """One that answers so many requests of each connection, and closes it when another one comes."""

    def __init__(self, answers_per_connection: int) -> None:
        self.answers = answers_per_connection
        self.url = ""
        self.requests = 0
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        body = json.dumps(completion("hi")).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        for left in reversed(range(self.answers + 1)):
            try:
                request = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            [length] = [line for line in request.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(length.partition(b":")[2]))
            self.requests += 1
            if left:
                writer.write(head + body)
        writer.close()


@asynccontextmanager
async def closing_engine(answers_per_connection: int) -> AsyncIterator[ClosingEngine]:
    engine = ClosingEngine(answers_per_connection)
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    async with server:
        engine.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        yield engine


def transport_of(client: VLLMClient) -> Any:
    return client.openai._client._transport  # noqa: SLF001 - the connections are nobody else's business


def errors_of(client: VLLMClient) -> int:
    """The errors that engines are blamed for."""
    return sum(engine.health.errors for engine in transport_of(client).fleet.engines.values())


def test_the_client_ends_idle_connections_well_before_vllm_does() -> None:
    expiry = transport.LIMITS.keepalive_expiry
    assert expiry is not None
    assert expiry <= VLLM_CLOSES_IDLE_AFTER_SECONDS / 2


async def test_a_request_that_meets_a_closed_connection_is_sent_again_and_nobody_is_blamed() -> None:
    async with closing_engine(1) as engine, VLLMClient(engine.url, "m", max_retries=0) as client:
        for _ in range(3):
            assert await client.complete("x") == "hi"
        assert (engine.connections, engine.requests) == (3, 5)
        assert errors_of(client) == 0


async def test_an_engine_that_closes_new_connections_too_has_failed() -> None:
    async with closing_engine(0) as engine, VLLMClient(engine.url, "m", max_retries=0) as client:
        with pytest.raises(NotReachable):
            await client.complete("x")
        assert engine.requests == 1
        assert errors_of(client) == 1


async def test_what_a_proxy_loses_may_have_been_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with closing_engine(1) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        async with VLLMClient("http://far.example", "m", max_retries=0) as client:
            assert await client.complete("x") == "hi"
            with pytest.raises(NotReachable):
                await client.complete("x")
    assert proxy.requests == 2


async def test_what_is_lost_later_may_have_been_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "UNREAD_SECONDS", -1)
    async with closing_engine(1) as engine, VLLMClient(engine.url, "m", max_retries=0) as client:
        await client.complete("x")
        with pytest.raises(NotReachable):
            await client.complete("x")
        assert errors_of(client) == 1


@pytest.mark.parametrize(
    "failing",
    [Stream([FAILED], done=False), Stream([], done=False), Stream([], done=False, breaks=True), Stream([FAILED])],
    ids=["error", "nothing", "broken", "error and end"],
)
async def test_a_stream_that_fails_before_its_first_text_is_asked_of_another_engine(failing: Stream) -> None:
    async with scripted_engine(failing) as bad, scripted_engine(SOUND) as good:
        policy = BalancePolicy(errors_to_eject=1, ejection_seconds=60)
        async with VLLMClient(bad.url, "m", engines=[bad.url, good.url], balance=policy) as client:
            for number in range(30):
                assert "".join([piece async for piece in client.stream(str(number))]) == "hi"
            assert len(bad.bodies) == 1, "the failure has ejected it"


@pytest.mark.parametrize("failing", [Stream([], done=False, breaks=True), Stream([chunk("x")], done=False)])
async def test_engines_whose_streams_break_three_times_are_ejected(failing: Stream) -> None:
    async with scripted_engine(failing) as engine, VLLMClient(engine.url, "m", max_retries=0) as client:
        for number in range(3):
            assert errors_of(client) == number
            with pytest.raises((IncompleteAnswer, NotReachable)):
                async for _ in client.stream("x"):
                    pass
        [known] = transport_of(client).fleet.engines.values()
        assert known.health.ejections == 1


async def test_a_stream_is_computed_twice_at_most_however_it_fails() -> None:
    silent = Stream([chunk("")], done=False)
    async with scripted_engine(silent) as one, scripted_engine(silent) as other, scripted_engine(silent) as third:
        engines = [one.url, other.url, third.url]
        async with VLLMClient(one.url, "m", engines=engines, max_retries=5) as client:
            with pytest.raises(IncompleteAnswer):
                async for _ in client.stream("x"):
                    pass
        assert sum(len(engine.bodies) for engine in (one, other, third)) == 2


class SlowDiscovery(Discovery):
    """Says where the engines are when it is told to."""

    def __init__(self, *urls: str) -> None:
        self.urls = urls
        self.asked = 0
        self.awake = asyncio.Event()

    async def find(self) -> Found:
        """The engines, after a while."""
        self.asked += 1
        await self.awake.wait()
        return Found(self.urls, 60)


async def test_a_discovery_that_does_not_answer_holds_nobody_longer_than_his_timeout() -> None:
    async with asyncio.timeout(WITHIN_SECONDS), scripted_engine(Whole(completion("hi"))) as engine:
        discovery = SlowDiscovery(engine.url)
        async with VLLMClient("http://nobody", "m", discovery=discovery, timeout=600) as client:
            patient = asyncio.ensure_future(client.complete("x"))
            for _ in range(2):
                with pytest.raises(TimedOut):
                    await client.complete("x", timeout=0.05)
            discovery.awake.set()
            assert await patient == "hi"
        assert discovery.asked == 1
