"""Asking managers: real servers that answer, hang, lie, drip and flood."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.servers import free_port
from vllm_operator.cluster.engine_status import MOST_AT_ONCE, MOST_BYTES, engine_status_reader
from vllm_operator.diagnosis.engine_status import EngineStatus, NoAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from vllm_operator.cluster.engine_status import EngineStatusReader

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
    Speaker = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

ANSWER = {
    "pod": "qwen-1",
    "verdict": "starting",
    "cause": "Loading",
    "sentence": "nothing listens on port 8000",
    "phase": {"name": "LoadingWeights", "detail": "3 of 8 shards", "since": "2026-11-22T11:02:03.5+01:00"},
    "answered_by": "judge",
}
SHORT_SECONDS = 0.3
PATIENCE_SECONDS = 60.0
"""Far more than any answer may take, on a machine that does other things too."""

_OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
async def reader() -> AsyncIterator[EngineStatusReader]:
    """A reader that waits long for an answer, so that only an answer can come of it."""
    async with engine_status_reader(timeout_seconds=PATIENCE_SECONDS) as found:
        yield found


@pytest.fixture
async def hasty() -> AsyncIterator[EngineStatusReader]:
    """A reader with a short deadline."""
    async with engine_status_reader(timeout_seconds=SHORT_SECONDS) as found:
        yield found


@contextlib.asynccontextmanager
async def manager(handler: Handler, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """A server that answers /status so. Returns the URL."""
    application = web.Application()
    application.router.add_get("/status", handler)
    async with TestServer(application, host=host) as server:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.port}/status"


@contextlib.asynccontextmanager
async def speaker(speak: Speaker) -> AsyncIterator[str]:
    """A server that speaks so, whatever that is. Returns the URL."""
    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/status"


def says(document: object, **more: Any) -> Handler:
    """An answer of JSON."""

    async def handler(_: web.Request) -> web.StreamResponse:
        text = document if isinstance(document, str) else json.dumps(document)
        return web.Response(**{"text": text, "content_type": "application/json", **more})

    return handler


def authority(url: str) -> str:
    """Address and port of a URL."""
    return url.removeprefix("http://").removesuffix("/status")


def no_manager(url: str) -> NoAnswer:
    """What is told of an answer that is none of a manager's."""
    return NoAnswer(f"what answers at {authority(url)} is not its manager: has another process its port?")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_manager_is_asked_by_either_family_of_addresses(reader: EngineStatusReader, host: str) -> None:
    async with manager(says(ANSWER), host) as url:
        assert await reader.read(url) == EngineStatus(
            verdict="starting",
            cause="Loading",
            sentence="nothing listens on port 8000",
            phase="LoadingWeights",
            phase_detail="3 of 8 shards",
            phase_since="2026-11-22T10:02:03Z",
        )


async def test_a_proxy_of_the_environment_is_not_used_and_nothing_secret_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        response = web.json_response(ANSWER)
        response.set_cookie("remember", "me")
        return response

    async with engine_status_reader(timeout_seconds=PATIENCE_SECONDS) as reader, manager(handler) as url:
        for _ in range(2):
            assert isinstance(await reader.read(url), EngineStatus)
    assert [request.method for request in seen] == ["GET", "GET"]
    assert not any({"Authorization", "Cookie"} & set(request.headers) for request in seen)


async def test_where_nothing_listens_that_is_told_with_what_may_be_in_the_way(reader: EngineStatusReader) -> None:
    port = free_port()
    assert await reader.read(f"http://127.0.0.1:{port}/status") == NoAnswer(
        f"its manager cannot be reached at 127.0.0.1:{port} (Connection refused): a NetworkPolicy?"
    )


async def test_a_manager_that_hangs_or_drips_costs_the_deadline_and_no_more(hasty: EngineStatusReader) -> None:
    async def hangs(_: web.Request) -> web.Response:
        await asyncio.sleep(PATIENCE_SECONDS * 2)
        return web.json_response(ANSWER)

    async def drips(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for byte in json.dumps(ANSWER).encode():
            await response.write(bytes([byte]))
            await asyncio.sleep(0.05)
        return response

    for handler in (hangs, drips):
        async with manager(handler) as url:
            begun = time.monotonic()
            told = await hasty.read(url)
            assert time.monotonic() - begun < PATIENCE_SECONDS
            assert told == NoAnswer(
                f"its manager cannot be reached at {authority(url)} (no answer within 0.3 s): a NetworkPolicy?"
            )


async def test_a_connection_that_nobody_takes_costs_the_deadline(hasty: EngineStatusReader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        told = await hasty.read(f"http://127.0.0.1:{listening.getsockname()[1]}/status")
    assert isinstance(told, NoAnswer)
    assert "no answer within" in told.sentence


async def test_a_connection_that_is_closed_without_a_word_is_told_as_that(reader: EngineStatusReader) -> None:
    async def close(stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stream.readuntil(b"\r\n\r\n")
        writer.close()

    async with speaker(close) as url:
        told = await reader.read(url)
    assert told == NoAnswer(
        f"its manager cannot be reached at {authority(url)} (the connection was closed): a NetworkPolicy?"
    )


async def test_what_somebody_else_answers_is_not_repeated(reader: EngineStatusReader) -> None:
    private = "only-for-whoever-may-ask-this-port"
    bomb = gzip.compress(b"0" * 10**7)
    answers = [
        says({"token": private}),
        says(private),
        says(""),
        says([private]),
        says({"verdict": {"a": private}}),
        says("[" * 50_000),
        says(ANSWER, status=503),
        says(ANSWER, status=404),
        says({**ANSWER, "sentence": private, "excerpt": "x" * (MOST_BYTES + 1)}),
        says(ANSWER, text=None, body=bomb, headers={"Content-Encoding": "gzip"}),
    ]
    for handler in answers:
        async with manager(handler) as url:
            assert await reader.read(url) == no_manager(url)


async def test_a_redirect_is_not_followed(reader: EngineStatusReader) -> None:
    followed = []

    async def elsewhere(request: web.Request) -> web.Response:
        followed.append(request)
        return web.json_response(ANSWER)

    async with manager(elsewhere) as target:

        async def redirects(_: web.Request) -> web.Response:
            raise web.HTTPFound(target)

        async with manager(redirects) as url:
            assert await reader.read(url) == no_manager(url)
    assert followed == []


@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH_9.2p1\r\n", _OK + b"Content-Length: 100\r\n\r\n{}", _OK + b"A" * 10**6],
    ids=["no HTTP", "cut off", "a header without end"],
)
async def test_what_speaks_no_http_is_told_as_no_manager(reader: EngineStatusReader, said: bytes) -> None:
    async def speak(stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stream.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            writer.write(said)
            await writer.drain()
        writer.close()

    async with speaker(speak) as url:
        assert await reader.read(url) == no_manager(url)


@pytest.mark.parametrize(
    ("start", "repeated"),
    [
        (b"Connection: close\r\n\r\n", b"x" * 2**16),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 2**16 + b"\r\n"),
        (b"", b"A: b\r\n" * 2**12),
    ],
    ids=["body", "chunks", "headers"],
)
async def test_an_answer_without_end_is_given_up_soon(
    reader: EngineStatusReader, start: bytes, repeated: bytes
) -> None:
    sent = asyncio.get_running_loop().create_future()

    async def flood(stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stream.readuntil(b"\r\n\r\n")
        count = 0
        with contextlib.suppress(ConnectionError):
            writer.write(_OK + start)
            while count < 2**28:
                writer.write(repeated)
                await writer.drain()
                count += len(repeated)
        sent.set_result(count)
        writer.close()

    async with speaker(flood) as url:
        assert await reader.read(url) == no_manager(url)
        assert await sent < 2**25


async def test_a_thousand_managers_that_hang_are_asked_few_at_a_time() -> None:
    now = most = 0

    async def hangs(_: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await asyncio.sleep(PATIENCE_SECONDS)
        finally:
            now -= 1
        return web.json_response(ANSWER)

    async with engine_status_reader(timeout_seconds=0.1) as brisk, manager(hangs) as url:
        told = await asyncio.gather(*(brisk.read(url) for _ in range(1000)))
    assert len(told) == 1000
    assert all(isinstance(one, NoAnswer) for one in told)
    assert 0 < most <= 2 * MOST_AT_ONCE, "a server sees the end of a connection a moment after its beginning"
