"""Carries connections from a listening socket of the host's network to the API server in the cluster's.

A socket stays in the network namespace that it was made in: the guard makes the listener outside, this process runs
inside, and whatever it connects to lies inside.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from functools import partial

CHUNK = 1 << 16


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK):
        target.write(data)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()


async def _connection(host: str, port: int, outer: asyncio.StreamReader, outer_back: asyncio.StreamWriter) -> None:
    try:
        inner, inner_back = await asyncio.open_connection(host, port)
    except OSError:  # the API server is down: the caller sees a closed connection, as it would without a relay
        outer_back.transport.abort()
        return
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(outer, inner_back))
            group.create_task(_pump(inner, outer_back))
    except* (ConnectionError, TimeoutError):
        outer_back.transport.abort()
    finally:
        inner_back.close()
        outer_back.close()


async def main(listener: int, host: str, port: int) -> None:
    """Relay until killed."""
    server = await asyncio.start_server(partial(_connection, host, port), sock=socket.socket(fileno=listener))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
