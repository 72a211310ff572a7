"""Plain HTTP on this machine to a server that speaks https behind a port that kubectl forwards.

The server's certificate names its Service, and a forwarded port is on the loopback. So the certificate is looked at
here, under the name of the Service, and what is wrong with it is told. kubectl's own tunnel has led to the right pod in
any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOPBACK: Final = "127.0.0.1"
_CHUNK: Final = 65536
_HANDSHAKE_SECONDS: Final = 10.0
_TURNS: Final = 10
"""Of the loop, in which transports that were broken off close their sockets: that of TLS needs some."""


def certificate_fault(port: int, host: str, ca_file: str) -> str:
    """Why a client would not believe the server behind a port of this machine; empty: it would, or it does not answer.

    Args:
        port: Of this machine.
        host: The name that clients call the server by.
        ca_file: The certificates of the authorities to believe, as PEM; empty: those that this machine believes.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        with (
            socket.create_connection((_LOOPBACK, port), _HANDSHAKE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except OSError as error:
        return f"{ca_file}: {error}" if ca_file and not isinstance(error, ssl.SSLError | TimeoutError) else ""


@contextlib.contextmanager
def plain(port: int) -> Iterator[int]:
    """A port of this machine that leads, within the block, to a server with TLS behind another one.

    Raises:
        OSError: no port is free.
    """
    with socket.create_server((_LOOPBACK, 0)) as listener:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        relay = _Relay(port)
        asyncio.run_coroutine_threadsafe(relay.start(listener), loop).result()
        try:
            yield listener.getsockname()[1]
        finally:
            asyncio.run_coroutine_threadsafe(relay.end(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


class _Relay:
    """The connections that are open, and what accepts new ones."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Accept connections from now on."""
        self._server = await asyncio.start_server(self._lead, sock=listener)

    async def end(self) -> None:
        """Break off what is open, and accept nothing more."""
        if self._server:
            self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def _lead(self, from_caller: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
        """Carry one connection; one that cannot be made, or breaks, ends for the caller as a broken connection does."""
        self._writers.append(to_caller)
        # `end` cancels this; the streams of Python 3.11 print a traceback of a connection whose task ends as cancelled
        with contextlib.suppress(OSError, asyncio.CancelledError):
            from_server, to_server = await asyncio.open_connection(_LOOPBACK, self._port, ssl=self._context)
            self._writers.append(to_server)
            there = asyncio.create_task(_carry(from_caller, to_server))
            await _carry(from_server, to_caller)
            there.cancel()
            to_server.close()
        to_caller.close()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Carry what comes until the end of it, which ends the other side too."""
    with contextlib.suppress(OSError):
        while chunk := await source.read(_CHUNK):
            target.write(chunk)
            await target.drain()
    target.close()
