"""Whether this process may write, asked right before the bytes of each write leave it.

Of several operators only the one that holds the Lease writes. It counts what is left of its lease from the moment
before it sent the last renewal that succeeded, on a clock that goes on while the machine sleeps:

    0           renew_deadline            midway           lease_duration
    |-- writes may begin --|-- writes may still be under way --|-- nobody writes --| others may take the lease

Others count from when they saw that renewal, which is later. So no write of this process is under way when another
begins, as long as the clocks of the machines run at the same speed, to within (lease_duration - renew_deadline) / 2.
A frozen process, or a request that is stuck, is why a check at the start of a write is not enough:

- `FencedBody` asks once more when the connection is there and the body is about to be handed to the kernel; without its
  body no API server carries out a request;
- what could not be delivered the kernel gives up by itself, after the other half of that time (`session.py`);
- the API server is told how long it may take (the parameter `timeout`), and so is aiohttp; a connection whose answer
  did not come is reset.

What is left is an API server that takes a request in, stands still for longer than the lease, and carries it out then.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

from aiohttp import payload

from vllm_operator.errors import ApiUnavailable, NotLeading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp.abc import AbstractStreamWriter


_RESET: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: a close drops what was not delivered, and tells the other side by a reset."""


def boot_time() -> float:
    """Seconds of a clock that never jumps, and that also counts while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Fence:
    """No fence: every write may be made, and take its time. For a process that is alone, as a tool or a test is."""

    def check(self) -> float:
        """Seconds that a write may take that begins now.

        Raises:
            NotLeading: none may begin.
        """
        return math.inf

    @contextlib.contextmanager
    def writing(self) -> Iterator[float]:
        """Around one write: the seconds that it may take.

        Raises:
            NotLeading: it may not begin.
        """
        yield self.check()

    async def term(self) -> asyncio.Event:
        """Wait until this process leads. The event is set when that is over."""
        return asyncio.Event()


class LeaseFence(Fence):
    """Open while this process holds the Lease, by its own count of the time that is left."""

    def __init__(self, *, lease_duration: float, renew_deadline: float, clock: Callable[[], float] = boot_time) -> None:
        self._renew_deadline = renew_deadline
        self._longest = (renew_deadline + lease_duration) / 2
        self.unacknowledged_seconds = (lease_duration - renew_deadline) / 2
        """How long what was sent may be on its way to the API server, of which no program on the way is a part."""
        self._clock = clock
        self._renewed_at = -math.inf
        self._over: asyncio.Event | None = None
        """That of the term under way."""
        self._won = asyncio.Event()
        self._stopped = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._doubtful_until = -math.inf

    @property
    def in_term(self) -> bool:
        """Whether this process has won the Lease, and has not been told since that it lost it."""
        return self._over is not None

    @property
    def overdue(self) -> bool:
        """Whether the last renewal is so long ago that no write may begin."""
        return self._clock() >= self._renewed_at + self._renew_deadline

    def renewed(self, sent_at: float) -> bool:
        """Take in that a request, sent at this moment of our clock, made or kept this process the holder of the Lease.

        Returns whether a new term begins with it.
        """
        self._renewed_at = sent_at
        if self._over is not None or self._stopped:
            return False
        self._over = asyncio.Event()
        self._won.set()
        return True

    def lost(self) -> bool:
        """Take in that this process holds the Lease no longer. Returns whether it did until now."""
        self._renewed_at = -math.inf
        over, self._over = self._over, None
        self._won.clear()
        if over is not None:
            over.set()
        return over is not None

    def check(self) -> float:
        """Seconds that a write may take that begins now."""
        if self._stopped or self._over is None or self.overdue:
            raise NotLeading("another replica may be the leader by now")
        return self._renewed_at + self._longest - self._clock()

    @contextlib.contextmanager
    def writing(self) -> Iterator[float]:
        """Around one write. One that ends without an answer may be carried out until its time is over."""
        seconds = self.check()
        ends_at = self._clock() + seconds
        self._under_way += 1
        self._idle.clear()
        try:
            yield seconds
        except (ApiUnavailable, asyncio.CancelledError):
            self._doubtful_until = max(self._doubtful_until, ends_at)
            raise
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def term(self) -> asyncio.Event:
        """Wait until this process leads. The event is set when that is over."""
        while self._over is None:
            await self._won.wait()
        return self._over

    async def stop(self, seconds: float) -> bool:
        """Let no write begin any more, for good, and give those under way some seconds.

        Returns whether it is certain that none of them is carried out from now on.
        """
        self._stopped = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        return not self._under_way and self._clock() >= self._doubtful_until


class FencedBody(payload.BytesPayload):
    """The body of a write, which leaves the process only while the fence is open."""

    def __init__(self, content: bytes, fence: Fence) -> None:
        super().__init__(content, content_type="application/json")
        self._fence = fence
        self._way: asyncio.Transport | None = None
        self.held_back = False
        """Whether it was not sent. aiohttp makes a connection error of what is raised here."""

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Hand the body to the connection, with the headers that wait in it.

        Raises:
            NotLeading: this process may not write any more.
        """
        try:
            self._fence.check()
        except NotLeading:
            self.held_back = True
            raise
        self._way = getattr(writer, "transport", None)
        await super().write_with_length(writer, content_length)

    def answered(self) -> None:
        """Take in that the answer is there: the connection may have another request by now."""
        self._way = None

    def hang_up(self) -> None:
        """Break the connection by which it went, if there was no answer: whatever is still on its way is lost.

        A TLS connection that is closed in good order waits half a minute for the other side, and delivers meanwhile.
        """
        way, self._way = self._way, None
        if way is None:
            return
        plug = way.get_extra_info("socket")
        if plug is not None and plug.fileno() >= 0:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        way.abort()


UNGUARDED: Final = Fence()
"""For what may always be sent, such as the Lease itself."""
