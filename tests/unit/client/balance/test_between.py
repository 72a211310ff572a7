"""What stands between the client and an engine: gateways that compress, that keep connections open, that redirect.

After public reports: encode/httpx#1450 (bytes that come without an end), letta-ai/letta#3189 and
openai/openai-python#3516 (what a redirect takes away or leaks), notatallshaw/nab#467 (a compressed body cut off).
"""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.support.scripted_engine import Stream, chunk, completion, scripted_engine, server
from tests.unit.client.conftest import KEY
from vllm_client import EngineFailed, FixedEngines, TimedOut, Unauthorized, VLLMClient
from vllm_client.balance.transport import BalancedTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

SOUND = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in (chunk("who"), chunk("le", "stop")))
END = b"data: [DONE]\n\n"
PING = b": still there\n\n"
EVENTS = {"Content-Type": "text/event-stream"}


async def written(
    request: web.Request, headers: Mapping[str, str], *parts: bytes, pings: bool = False
) -> web.StreamResponse:
    """A response of these parts; with comments for ever behind them, or until the client goes."""
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    for part in parts:
        await response.write(part)
    while pings:
        await response.write(PING)
        await asyncio.sleep(0.02)
    return response


def always(
    headers: Mapping[str, str], *parts: bytes, pings: bool = False
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """What answers so."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return await written(request, headers, *parts, pings=pings)

    return answer


async def text_of(client: VLLMClient) -> str:
    return "".join([piece async for piece in client.stream("x")])


def errors_of(client: VLLMClient) -> list[int]:
    """How many errors in a row each engine is known for."""
    transport = client.openai._client._transport  # noqa: SLF001 - the connections are nobody else's business
    assert isinstance(transport, BalancedTransport)
    return [engine.health.errors for engine in transport.fleet.engines.values()]


@pytest.mark.parametrize("asked_to", [True, False], ids=["where it may", "always"])
async def test_a_gateway_that_compresses_streams_does_not_make_their_engine_fail(*, asked_to: bool) -> None:
    encodings = []

    async def answer(request: web.Request) -> web.StreamResponse:
        encodings.append(request.headers["Accept-Encoding"])
        if asked_to and "gzip" not in encodings[-1]:
            return await written(request, EVENTS, SOUND, END)
        return await written(request, {**EVENTS, "Content-Encoding": "gzip"}, gzip.compress(SOUND + END))

    async with server(answer) as url, VLLMClient(url, "m", discovery=FixedEngines((url,)), max_retries=0) as client:
        assert [await text_of(client) for _ in range(4)] == ["whole"] * 4
        assert errors_of(client) == [0]
    assert encodings == ["identity"] * 4, "what an engine that fails says in a stream has to be seen"


@pytest.mark.parametrize(
    "body", [b"no gzip", gzip.compress(json.dumps(completion("whole")).encode())[:-30]], ids=["none", "cut off"]
)
async def test_an_answer_that_is_not_compressed_as_it_says_is_somebody_elses(body: bytes) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with (
        server(always(headers, body)) as url,
        VLLMClient(url, "m", max_retries=0) as client,
    ):
        with pytest.raises(EngineFailed, match="check VLLM_BASE_URL"):
            await client.complete("x")


@pytest.mark.parametrize("begins", [True, False], ids=["after its beginning", "from its beginning"])
async def test_a_stream_of_comments_alone_is_one_that_pauses(*, begins: bool) -> None:
    parts = [SOUND.partition(b"\n\n")[0] + b"\n\n"] if begins else []
    async with (
        server(always(EVENTS, *parts, pings=True)) as url,
        VLLMClient(url, "m", timeout=0.4, max_retries=3) as client,
    ):
        async with asyncio.timeout(10):
            with pytest.raises(TimedOut, match="nothing more came" if begins else r"no answer within 0\.4 s"):
                await text_of(client)


async def test_a_slow_stream_whose_parts_come_in_time_is_left_alone() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=EVENTS)
        await response.prepare(request)
        for part in (chunk("a"), chunk("b"), chunk("c"), chunk("d", "stop")):
            await asyncio.sleep(0.25)
            await response.write(PING + b"data: %b\n\n" % json.dumps(part).encode())
        await response.write(END)
        return response

    async with server(slow) as url, VLLMClient(url, "m", timeout=0.7, max_retries=0) as client:
        assert await text_of(client) == "abcd"


async def test_a_stream_that_breaks_off_behind_a_comment_is_asked_of_another_engine() -> None:
    asked = []

    async def breaks(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        response = await written(request, EVENTS, PING)
        assert request.transport is not None
        request.transport.abort()
        return response

    async with AsyncExitStack() as stack:
        broken = await stack.enter_async_context(server(breaks))
        sound = await stack.enter_async_context(scripted_engine(Stream([chunk("who"), chunk("le", "stop")])))
        client = await stack.enter_async_context(VLLMClient(broken, "m", engines=[broken, sound.url], max_retries=3))
        assert [await text_of(client) for _ in range(8)] == ["whole"] * 8
    assert asked


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_what_a_redirect_takes_away_is_told_as_that(status: int) -> None:
    async def engine(request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return web.json_response({"detail": "Method Not Allowed"}, status=405)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        return web.json_response(completion("whole"))

    async with server(engine) as url:
        elsewhere = url.replace("127.0.0.1", "localhost")

        async def gateway(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, headers={"Location": f"{elsewhere}/chat/completions"})

        kind: type[Any] = EngineFailed if status < 307 else Unauthorized
        async with server(gateway) as front, VLLMClient(front, "m", KEY, max_retries=0) as client:
            with pytest.raises(
                kind, match=r"redirected to http://localhost:\d+/.* Set VLLM_BASE_URL to where it leads"
            ):
                await client.complete("x")
