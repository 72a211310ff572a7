"""A line between one client and a server that can be cut, or made slow, as a network does it.

While it is cut nothing passes, and nobody is told. When it is mended, the connections from before are broken: on a
real line the kernels have given them up by then. On a slow line each piece takes its time; what is on its way when its
sender hangs up is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

T = TypeVar("T")

_CHUNK = 1 << 16


class Relay:
    """Runs in a thread of its own, between `with` and its end."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._mended = asyncio.Event()
        self._mended.set()
        self._delay_seconds = 0.0
        self._pairs: set[asyncio.Task[None]] = set()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._connection, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Let nothing through."""
        self._loop.call_soon_threadsafe(self._mended.clear)

    def mend(self) -> None:
        """Let everything through that comes from now on."""
        self._run(self._mend())

    def slow(self, delay_seconds: float) -> None:
        """Have each piece take so long."""
        self._delay_seconds = delay_seconds

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _mend(self) -> None:
        if not self._mended.is_set():
            await self._break_all()
            self._mended.set()

    async def _close(self) -> None:
        self._server.close()
        await self._break_all()

    async def _break_all(self) -> None:
        pairs = list(self._pairs)
        for pair in pairs:
            pair.cancel()
        await asyncio.gather(*pairs, return_exceptions=True)

    async def _connection(self, outer: asyncio.StreamReader, outer_back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        inner_back: asyncio.StreamWriter | None = None
        try:
            await self._mended.wait()
            inner, inner_back = await asyncio.open_connection(*self._target)
            pumps = [self._pump(outer, inner_back), self._pump(inner, outer_back)]
            await asyncio.wait([asyncio.create_task(pump) for pump in pumps], return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # both sides see a closed connection
        finally:
            self._pairs.discard(task)
            for writer in (outer_back, inner_back):
                if writer is not None:
                    writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Carry pieces until one side hangs up. The reading goes on meanwhile, so that a hang-up is seen."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        carrying = asyncio.create_task(self._carry(pieces, target))
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(_CHUNK):
                    pieces.put_nowait((self._loop.time() + self._delay_seconds, data))
        finally:
            carrying.cancel()

    async def _carry(self, pieces: asyncio.Queue[tuple[float, bytes]], target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = await pieces.get()
                await asyncio.sleep(due - self._loop.time())
                await self._mended.wait()
                target.write(data)
                await target.drain()
