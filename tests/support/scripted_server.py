"""A server that does to each connection what a test wants: answers, stalls, breaks off, or talks nonsense.

with scripted_server(answers=lambda path, body: response("")) as server:
    assert server.connections == 0
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class ScriptedServer:
    """Where it listens, and what came in."""

    port: int
    ended: threading.Event = field(default_factory=threading.Event)
    """Set with the end of the block: scripts that wait wait for it."""
    connections: int = 0
    heads: list[str] = field(default_factory=list)
    """Heads of the requests that `read_request` has read."""

    def wait_for_end(self, connection: socket.socket) -> None:
        """Keep a connection open and say nothing."""
        del connection
        self.ended.wait()

    def read_request(self, connection: socket.socket) -> tuple[str, bytes] | None:
        """Path and body of the next request; None at the end of the connection."""
        received = bytearray()
        while b"\r\n\r\n" not in received:
            more = connection.recv(65536)
            if not more:
                return None
            received += more
        head, _, body = bytes(received).partition(b"\r\n\r\n")
        self.heads.append(head.decode())
        _, found, length = head.lower().partition(b"\r\ncontent-length: ")
        wanted = int(length.partition(b"\r\n")[0]) if found else 0
        while len(body) < wanted:
            body += connection.recv(65536)
        return head.split()[1].decode(), body


def response(content: bytes | str | object, status: int = 200, *headers: str) -> bytes:
    """An answer with a body of known length; what is neither bytes nor text becomes JSON."""
    if not isinstance(content, (bytes, str)):
        content = json.dumps(content)
    body = content.encode() if isinstance(content, str) else content
    return "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


@contextlib.contextmanager
def scripted_server(
    script: Callable[[ScriptedServer, socket.socket], None] | None = None,
    *,
    answers: Callable[[str, bytes], bytes | None] | None = None,
    address: str = "127.0.0.1",
) -> Iterator[ScriptedServer]:
    """A server on a port of its own; every connection has a thread.

    Args:
        script: What is done with a connection, which is closed then. An end of the client's ends it.
        answers: Instead of a script: the whole answer to a path and a body; None: none at all.
        address: On which it listens.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, backlog=64) as listener:
        server = ScriptedServer(listener.getsockname()[1])
        opened: list[socket.socket] = []

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(60)
                if script is not None:
                    script(server, connection)
                    return
                while (request := server.read_request(connection)) is not None and answers is not None:
                    answer = answers(*request)
                    if answer is None:
                        server.ended.wait()
                        return
                    connection.sendall(answer)

        def accept() -> None:
            while not server.ended.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                server.connections += 1
                opened.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield server
        finally:
            server.ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(timeout=10)
            for connection in opened:
                with contextlib.suppress(OSError):  # it has ended before
                    connection.shutdown(socket.SHUT_RDWR)
