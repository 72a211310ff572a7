"""What the OpenAI client sends through: a transport that brings each request to an engine which answers it."""

from __future__ import annotations

import time
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import httpx2

from vllm_client.balance import choice
from vllm_client.balance.attempts import AnsweredBadly, AttemptLoop
from vllm_client.balance.balancer import Balancer
from vllm_client.balance.calls import CALL, Call
from vllm_client.balance.failures import BEGUN, INCOMPLETE, NEVER, ConnectionWasClosed, TransportClosed
from vllm_client.balance.fleet import Engine, Fleet
from vllm_client.finish import StreamEnd, gives_up
from vllm_client.tasks import finish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from vllm_client.balance.policy import BalancePolicy
    from vllm_client.discovery import Discovery

LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=2.5)
"""Connections to each engine; as many as the OpenAI client allows in all. vLLM closes those that are idle for 5 s
(VLLM_HTTP_TIMEOUT_KEEP_ALIVE, since 0.9; uvicorn's own default before). The client does so first, and well before: its
time begins when the answer has been read, the engine's when it was sent."""
UNREAD_SECONDS = 1.0
"""A connection that the engine had closed shows that within a round trip. What is lost later may have been read."""
LOST = (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError)
OK = 200
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
        proxy: The URL of what stands between here and the engines.
        clock: The time in seconds.
    """

    def __init__(
        self,
        discovery: Discovery,
        base_url: str,
        *,
        policy: BalancePolicy,
        max_retries: int,
        proxy: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        base = httpx2.URL(base_url)
        self.origin = (base.scheme, base.netloc)
        self.base_path = base.raw_path.rstrip(b"/")
        self.elsewhere: httpx2.AsyncBaseTransport | None = None
        context = httpx2.create_ssl_context()

        def connect() -> httpx2.AsyncBaseTransport:
            return httpx2.AsyncHTTPTransport(
                verify=context, limits=LIMITS, proxy=proxy, socket_options=ConnectionNotes()
            )

        self.connect = connect
        self.fleet = Fleet(discovery, base_url, policy=policy, connect=connect, clock=clock)
        self.balancer = Balancer(self.fleet, max_retries=max_retries, clock=clock)
        self.streams: set[CountedStream] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer of the engine that was first.

        Raises:
            httpx2.TransportError: No engine has given one.
        """
        if (request.url.scheme, request.url.netloc) != self.origin:
            return await self.redirected(request)
        body = await request.aread()
        given = request.extensions.get("timeout", {}).get("read")
        call = CALL.get() or Call()
        if call.deadline is None:
            call.deadline = NEVER if given is None else self.clock() + given
        await self.fleet.ready(call.deadline)
        self.balancer.earn_retries()
        key = choice.prefix_key(body, self.fleet.policy.prefix_bytes)

        def send(engine: Engine) -> Awaitable[httpx2.Response]:
            return self.send(engine, request)

        try:
            return await AttemptLoop(self.balancer, send, key=key, deadline=call.deadline, call=call).run()
        except AnsweredBadly as end:
            return end.response

    async def redirected(self, request: httpx2.Request) -> httpx2.Response:
        """The answer from another place, to which an engine or an ingress has sent the request."""
        if self.fleet.closed:
            raise TransportClosed("the client is closed")
        self.elsewhere = self.elsewhere or self.connect()
        return await self.elsewhere.handle_async_request(request)

    async def send(self, engine: Engine, request: httpx2.Request) -> httpx2.Response:
        """The engine's answer as soon as it is safe to hand over: whole, or with the first event of a stream.

        Raises:
            ConnectionWasClosed: The engine had closed the connection before the request came.
            httpx2.TransportError: There is none for another reason.
        """
        began = self.clock()
        addressed = self.addressed(request, engine.url)
        connecting = CONNECTS_FOR.set(addressed)
        response = None
        try:
            response = await engine.transport.handle_async_request(addressed)
            if response.status_code == OK and EVENTS in response.headers.get("content-type", ""):
                response = await self.begun(response, engine, began, request.url.path)
            else:
                response.extensions[INCOMPLETE] = gives_up(await read_whole(response))
        except LOST as error:
            await self.fleet.release(engine)
            if response is None and not addressed.has_own_connection and self.clock() - began <= UNREAD_SECONDS:
                raise ConnectionWasClosed(str(error)) from error
            raise
        except BaseException:
            await self.fleet.release(engine)
            raise
        finally:
            CONNECTS_FOR.reset(connecting)
        if BEGUN not in response.extensions:
            await self.fleet.release(engine)
        return response

    async def begun(self, response: httpx2.Response, engine: Engine, began: float, path: str) -> httpx2.Response:
        """A stream whose first event is there; the engine owes the rest until the stream is closed.

        Where that says that the engine has failed, or there is none, it is an answer like any other that is none.

        Raises:
            httpx2.TransportError: It breaks off before its first event.
        """
        end = StreamEnd(is_completion=path.endswith(COMPLETIONS))
        source: Any = response.stream
        chunks = aiter(source)
        try:
            first = await anext(chunks, b"")
            end.take(first)
            rest = b"".join([chunk async for chunk in chunks]) if end.given_up else b""
        except BaseException:
            await source.aclose()
            raise
        if end.given_up or not (first or end.done):
            await source.aclose()
            response.stream = httpx2.ByteStream(first + rest)
            response.extensions[INCOMPLETE] = True
            return response
        response.extensions[BEGUN] = True
        response.stream = stream = CountedStream(source, chunks, first, end, closed=partial(self.closed, engine, began))
        self.streams.add(stream)
        return response

    def addressed(self, request: httpx2.Request, url: str) -> Addressed:
        """The request for one engine, which has a moment only to accept the connection."""
        address, host = engine_address(url, request.url.raw_path.removeprefix(self.base_path))
        timeout = dict(request.extensions.get("timeout", {}))
        connect = timeout.get("connect")
        longest = self.fleet.policy.connect_seconds
        timeout["connect"] = longest if connect is None else min(connect, longest)
        return Addressed(request, address, host, timeout)

    async def closed(self, engine: Engine, began: float, stream: CountedStream) -> None:
        """A stream that began then is over, by its end, by the caller, or because this is closed."""
        self.streams.discard(stream)
        if not self.fleet.closed:
            self.balancer.record_stream(engine, began, broken=stream.broken)
        await self.fleet.release(engine)

    async def aclose(self) -> None:
        """End every request that waits with TransportClosed, and close every connection.

        That is done to its end also where it is cancelled: the OpenAI client closes but once.
        """
        await finish(self.close())

    async def close(self) -> None:
        """See `aclose`."""
        self.fleet.closed = True
        for stream in list(self.streams):
            await stream.cut_off()
        await self.fleet.close()
        if self.elsewhere is not None:
            await self.elsewhere.aclose()


class Addressed(httpx2.Request):
    """A request as it goes to one engine: the given one with another address. Nothing of it is read once more."""

    def __init__(self, request: httpx2.Request, address: httpx2.URL, host: str, timeout: dict[str, float]) -> None:
        self.method = request.method
        self.url = address
        self.headers = httpx2.Headers(request.headers)
        self.headers["Host"] = host
        self.stream = request.stream
        self.extensions = {**request.extensions, "timeout": timeout}
        self.has_own_connection = False


CONNECTS_FOR: ContextVar[Addressed | None] = ContextVar("vllm_client_connects_for", default=None)
"""The request that a task sends."""


class ConnectionNotes:
    """No socket options, which are asked for whenever a connection has been made, by the task that needs it.

    So a request knows whether its connection is its own, or one that the engine may have closed meanwhile. httpx2's
    tracing says so too, but costs each request 7 us.
    """

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """None; the request is told."""
        request = CONNECTS_FOR.get()
        if request is not None:
            request.has_own_connection = True
        return iter(())


class CountedStream(httpx2.AsyncByteStream):
    """The body of an engine's answer; the engine owes the answer until it is closed.

    Args:
        source: What comes from the engine.
        chunks: What has not been read of it.
        first: What has.
        end: Watches how it ends.
        closed: Is told once that the answer is over.

    Attributes:
        broken: Whether it has no end, or says that the engine has given up.
    """

    def __init__(
        self,
        source: httpx2.AsyncByteStream,
        chunks: AsyncIterator[bytes],
        first: bytes,
        end: StreamEnd,
        *,
        closed: Callable[[CountedStream], Awaitable[None]],
    ) -> None:
        self.source = source
        self.chunks = chunks
        self.first = first
        self.end = end
        self.over = closed
        self.lost = False
        self.cut = False
        self.closed = False

    @property
    def broken(self) -> bool:
        """See above."""
        return self.lost or self.end.given_up

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body. Who reads it may stop at what says that nothing more comes."""
        yield self.first
        try:
            async for chunk in self.chunks:
                self.end.take(chunk)
                yield chunk
        except httpx2.TransportError as error:
            if self.cut:
                raise TransportClosed("the client was closed in the middle of an answer") from error
            self.lost = True
            raise
        if self.cut:
            raise TransportClosed("the client was closed in the middle of an answer")
        self.lost = not self.end.done

    async def cut_off(self) -> None:
        """Close it though somebody may read on, who is told so."""
        self.cut = not self.closed
        await self.aclose()

    async def aclose(self) -> None:
        """Close the answer, once."""
        if not self.closed:
            self.closed = True
            try:
                await self.source.aclose()
            finally:
                await self.over(self)


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
