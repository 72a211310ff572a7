"""Answers as they come from an engine: read to their end, or streams of which the beginning is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2

from vllm_client.balance.failures import BEGUN, INCOMPLETE, TransportClosed
from vllm_client.finish import StreamEnd, gives_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

OK = 200
EVENTS = "text/event-stream"
DATA = b"data:"
"""What each event has; a comment is a line that begins with a colon."""
COMPLETIONS = "/completions"
"""End of the paths of chats and completions, whose streams end with `[DONE]`."""


def is_stream(response: httpx2.Response) -> bool:
    """Whether an answer comes in events. An error has its words in one piece, whatever it says of itself."""
    return response.status_code == OK and EVENTS in response.headers.get("content-type", "")


async def read_whole(response: httpx2.Response) -> None:
    """Read an answer to its end, and have it at hand."""
    source: Any = response.stream
    try:
        content = b"".join([chunk async for chunk in source])
    finally:
        await source.aclose()
    response.stream = httpx2.ByteStream(content)
    response.extensions[INCOMPLETE] = gives_up(content)


async def read_beginning(
    response: httpx2.Response, path: str, closed: Callable[[CountedStream], Awaitable[None]]
) -> CountedStream | None:
    """Wait for the first event of a stream, which makes the response one that has begun.

    Where that says that the engine has failed, or there is none, it is a whole answer that is none, and read as such.
    Comments, by which gateways keep a connection open, are no event. What somebody compresses who was not asked to is
    handed over as it comes: its bytes do not say how it ends.

    Args:
        response: The answer.
        path: What was asked for.
        closed: See CountedStream.

    Raises:
        httpx2.TransportError: It breaks off before its first event.
    """
    readable = "content-encoding" not in response.headers
    end = StreamEnd(is_completion=readable and path.endswith(COMPLETIONS))
    source: Any = response.stream
    chunks = aiter(source)
    try:
        first = await anext(chunks, b"")
        while readable and DATA not in first and (more := await anext(chunks, b"")):
            first += more
        end.take(first)
        rest = b"".join([chunk async for chunk in chunks]) if end.given_up else b""
    except BaseException:
        await source.aclose()
        raise
    if end.given_up or not (first or end.done):
        await source.aclose()
        response.stream = httpx2.ByteStream(first + rest)
        response.extensions[INCOMPLETE] = True
        return None
    response.stream = stream = CountedStream(source, chunks, first, end, closed=closed)
    response.extensions[BEGUN] = True
    return stream


class CountedStream(httpx2.AsyncByteStream):
    """The body of an engine's answer; the engine owes the answer until it is closed.

    Args:
        source: What comes from the engine.
        chunks: What has not been read of it.
        first: What has.
        end: Watches how it ends.
        closed: Is told once that the answer is over.

    Attributes:
        failure: Why it has no end; None where it has one, or nobody has waited for it.
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
        self.failure: httpx2.TransportError | None = None
        self.cut = False
        self.closed = False

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
            self.failure = error
            raise
        if self.cut:
            raise TransportClosed("the client was closed in the middle of an answer")
        if not self.end.done:
            self.failure = httpx2.RemoteProtocolError("the stream has no end")

    async def cut_off(self) -> None:
        """Close it though somebody may read on, who is told so."""
        self.cut = not self.closed
        await self.aclose()

    async def aclose(self) -> None:
        """Close the answer, once."""
        if not self.closed:
            self.closed = True
            if self.end.given_up:
                self.failure = httpx2.RemoteProtocolError("the engine has given the stream up")
            try:
                await self.source.aclose()
            finally:
                await self.over(self)
