"""What the OpenAI client sends through: a transport that brings each request to an engine which answers it."""

from __future__ import annotations

import time
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Protocol

import httpx2

from vllm_client.balance import choice
from vllm_client.balance.attempts import AnsweredBadly, AttemptLoop
from vllm_client.balance.balancer import Balancer
from vllm_client.balance.failures import BEGUN, INCOMPLETE
from vllm_client.balance.fleet import Engine, Fleet
from vllm_client.finish import StreamEnd, gives_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from vllm_client.balance.policy import BalancePolicy
    from vllm_client.discovery import Discovery

LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
"""Connections to each engine; as many as the OpenAI client allows in all."""
EVENTS = "text/event-stream"
COMPLETIONS = "/completions"
"""End of the paths of chats and completions, whose streams end with `[DONE]`."""


class BalancedTransport(httpx2.AsyncBaseTransport):
    """Spreads requests over engines, and asks another one where it is safe: before the first byte of an answer.

    Whole answers are read to the end before they are handed over, streams up to their first event. The read timeout of
    a request is the deadline of all its attempts together, so that the OpenAI client has nothing left to try again.

    Args:
        discovery: Where the engines are.
        base_url: What requests are addressed to, and who gets them while no engine is known.
        policy: The settings.
        max_retries: Further attempts that a request may take.
        clock: The time in seconds.
    """

    def __init__(
        self,
        discovery: Discovery,
        base_url: str,
        *,
        policy: BalancePolicy,
        max_retries: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.base_path = httpx2.URL(base_url).raw_path.rstrip(b"/")
        context = httpx2.create_ssl_context()

        def connect() -> httpx2.AsyncBaseTransport:
            return httpx2.AsyncHTTPTransport(verify=context, limits=LIMITS)

        self.fleet = Fleet(discovery, base_url, policy=policy, connect=connect, clock=clock)
        self.balancer = Balancer(self.fleet, max_retries=max_retries, clock=clock)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer of the engine that was first.

        Raises:
            httpx2.TransportError: No engine has given one.
        """
        body = await request.aread()
        given = request.extensions.get("timeout", {}).get("read")
        deadline = float("inf") if given is None else self.clock() + given
        await self.fleet.ready()
        self.balancer.earn_retries()
        key = choice.prefix_key(body, self.fleet.policy.prefix_bytes)

        def send(engine: Engine) -> Awaitable[httpx2.Response]:
            return self.send(engine, request)

        try:
            return await AttemptLoop(self.balancer, send, key=key, deadline=deadline).run()
        except AnsweredBadly as end:
            return end.response

    async def send(self, engine: Engine, request: httpx2.Request) -> httpx2.Response:
        """The engine's answer as soon as it is safe to hand over: whole, or with the first event of a stream."""
        began = self.clock()
        try:
            response = await engine.transport.handle_async_request(self.addressed(request, engine.url))
            whole = EVENTS not in response.headers.get("content-type", "")
            if whole:
                response.extensions[INCOMPLETE] = gives_up(await read_whole(response))
        except BaseException:
            await self.fleet.release(engine)
            raise
        if whole:
            await self.fleet.release(engine)
        else:
            response.extensions[BEGUN] = True
            end = StreamEnd(is_completion=request.url.path.endswith(COMPLETIONS))
            stream = CountedStream(response, end, closed=partial(self.closed, engine, began))
            await stream.fetch_first()
            response.stream = stream
        return response

    def addressed(self, request: httpx2.Request, url: str) -> httpx2.Request:
        """The request for one engine, which has a moment only to accept the connection."""
        address, host = engine_address(url, request.url.raw_path.removeprefix(self.base_path))
        timeout = dict(request.extensions.get("timeout", {}))
        connect = timeout.get("connect")
        longest = self.fleet.policy.connect_seconds
        timeout["connect"] = longest if connect is None else min(connect, longest)
        return Addressed(request, address, host, timeout)

    async def closed(self, engine: Engine, began: float, *, broken: bool) -> None:
        """A stream that began then is over, by its end or by the caller."""
        self.balancer.record_stream(engine, began, broken=broken)
        await self.fleet.release(engine)

    async def aclose(self) -> None:
        """Close every connection."""
        await self.fleet.close()


class Addressed(httpx2.Request):
    """A request as it goes to one engine: the given one with another address. Nothing of it is read once more."""

    def __init__(self, request: httpx2.Request, address: httpx2.URL, host: str, timeout: dict[str, float]) -> None:
        self.method = request.method
        self.url = address
        self.headers = httpx2.Headers(request.headers)
        self.headers["Host"] = host
        self.stream = request.stream
        self.extensions = {**request.extensions, "timeout": timeout}


class Closed(Protocol):
    """Who is told that a stream is over."""

    async def __call__(self, *, broken: bool) -> None:
        """`broken` says that it has no end."""


class CountedStream(httpx2.AsyncByteStream):
    """The body of an engine's answer; the engine owes the answer until it is closed.

    Args:
        response: The answer.
        end: Watches how it ends.
        closed: Is told once that the answer is over, and whether it was broken.
    """

    def __init__(self, response: httpx2.Response, end: StreamEnd, *, closed: Closed) -> None:
        self.source = response.stream
        self.end = end
        self.over = closed
        self.chunks = aiter(self.source)  # type: ignore[arg-type]  # of an asynchronous transport
        self.first: bytes | None = None
        self.broken = False
        self.closed = False

    async def fetch_first(self) -> None:
        """Wait for the first chunk. Where it does not come, the answer is closed."""
        try:
            self.first = await anext(self.chunks, b"")
        except BaseException:
            await self.aclose()
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body. Who reads it may stop at what says that nothing more comes."""
        if self.first is not None:
            self.end.take(self.first)
            yield self.first
        try:
            async for chunk in self.chunks:
                self.end.take(chunk)
                yield chunk
        except httpx2.TransportError:
            self.broken = True
            raise
        self.broken = not self.end.done

    async def aclose(self) -> None:
        """Close the answer, once."""
        if not self.closed:
            self.closed = True
            try:
                await self.source.aclose()  # type: ignore[union-attr]  # as above
            finally:
                await self.over(broken=self.broken or self.end.given_up)


async def read_whole(response: httpx2.Response) -> bytes:
    """Read an answer to its end, and have it at hand."""
    stream = response.stream
    try:
        content = b"".join([chunk async for chunk in stream])  # type: ignore[union-attr]  # of an asynchronous transport
    finally:
        await stream.aclose()  # type: ignore[union-attr]  # as above
    response.stream = httpx2.ByteStream(content)
    return content


@lru_cache(maxsize=1024)
def engine_address(base: str, path: bytes) -> tuple[httpx2.URL, str]:
    """A path below an engine's base URL, and its header Host.

    Kept, since taking a URL apart costs more than all the choosing.
    """
    url = httpx2.URL(base)
    url = url.copy_with(raw_path=url.raw_path.rstrip(b"/") + path)
    return url, url.netloc.decode("ascii")
