"""What the OpenAI client sends through: a transport that brings each request to an engine which answers it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import httpx2

from vllm_client.balance import choice
from vllm_client.balance.addressing import CONNECTS_FOR, Addressed, ConnectionNotes, engine_address
from vllm_client.balance.attempts import AnsweredBadly, AttemptLoop
from vllm_client.balance.balancer import Balancer
from vllm_client.balance.calls import CALL, Call
from vllm_client.balance.failures import NEVER, ConnectionWasClosed, TransportClosed
from vllm_client.balance.fleet import Engine, Fleet
from vllm_client.balance.streams import CountedStream, is_stream, read_beginning, read_whole
from vllm_client.completion import ENGINE
from vllm_client.tasks import finish
from vllm_client.tls import Authorities

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vllm_client.balance.policy import BalancePolicy
    from vllm_client.discovery import Discovery

LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=2.5)
"""Connections to each engine; as many as the OpenAI client allows in all. vLLM closes those that are idle for 5 s,
as uvicorn does (VLLM_HTTP_TIMEOUT_KEEP_ALIVE). The client does so first, and well before: its time begins when the
answer has been read, the engine's when it was sent."""
UNREAD_SECONDS = 1.0
"""A connection that the engine had closed shows that within a round trip. What is lost later may have been read."""
LOST = (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError)


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
        authorities: Whose certificates are believed.
        server_name: The host that the engines' certificates name; empty: that of each engine's URL.
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
        authorities: Authorities | None = None,
        server_name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        base = httpx2.URL(base_url)
        self.origin = (base.scheme, base.netloc)
        self.base_path = base.raw_path.rstrip(b"/")
        self.host = base.netloc.decode("ascii") if server_name else ""
        self.tls = {"sni_hostname": server_name} if server_name else {}
        self.proxied = proxy is not None
        self.elsewhere: httpx2.AsyncBaseTransport | None = None
        trusted = authorities or Authorities("")

        def connect() -> httpx2.AsyncBaseTransport:
            return httpx2.AsyncHTTPTransport(
                verify=trusted.context(), limits=LIMITS, proxy=proxy, socket_options=ConnectionNotes()
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
        response = stream = None
        try:
            self.balancer.ask_for_report(engine, addressed.headers)
            response = await engine.transport.handle_async_request(addressed)
            self.balancer.record_report(engine, response.headers)
            if is_stream(response):
                stream = await read_beginning(response, request.url.path, partial(self.closed, engine, began))
            else:
                await read_whole(response)
            response.extensions[ENGINE] = engine.url
        except LOST as error:
            await self.fleet.release(engine)
            kept = not (addressed.has_own_connection or self.proxied)
            if response is None and kept and self.clock() - began <= UNREAD_SECONDS:
                raise ConnectionWasClosed(str(error)) from error
            raise
        except BaseException:
            await self.fleet.release(engine)
            raise
        finally:
            CONNECTS_FOR.reset(connecting)
        if stream is None:
            await self.fleet.release(engine)
        else:
            self.streams.add(stream)
        return response

    def addressed(self, request: httpx2.Request, url: str) -> Addressed:
        """The request for one engine, which has a moment only to accept the connection."""
        address, host = engine_address(url, request.url.raw_path.removeprefix(self.base_path))
        timeout = dict(request.extensions.get("timeout", {}))
        connect = timeout.get("connect")
        longest = self.fleet.policy.connect_seconds
        timeout["connect"] = longest if connect is None else min(connect, longest)
        return Addressed(request, address, self.host or host, {"timeout": timeout, **self.tls})

    async def closed(self, engine: Engine, began: float, stream: CountedStream) -> None:
        """A stream that began then is over, by its end, by the caller, or because this is closed."""
        self.streams.discard(stream)
        if not self.fleet.closed:
            self.balancer.record_stream(engine, began, stream.failure)
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
