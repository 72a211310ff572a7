"""The judge's HTTP server: answers kubelet, the operator, peers, Prometheus and people out of the last verdict.

One thread holds all connections and waits for none of them, so that callers who send nothing, or half of a request,
keep nobody else waiting. Each connection is good for one request.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .status import Status

REQUEST_SECONDS = 5.0
"""A caller that has not sent its request by then is dropped; so is one that does not take its answer."""
STARTUP_SECONDS = 25.0
"""/startup holds its answer so long where it would be a refusal: each one is an Event that kubelet writes."""
FAREWELL_SECONDS = 1.0
"""A connection is kept so long after its answer, for the caller to close it: closed with bytes unread, the kernel would
reset it, and the answer could be lost."""
MOST_CONNECTIONS = 256
"""Of them the one that has waited longest gives way to the next."""
MOST_BYTES = 8192
"""Of a request's head."""
PAUSE_SECONDS = 0.2
"""After a failure to take a connection, for example for want of file descriptors."""

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
OK, UNAVAILABLE = 200, 503
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def answer(path: str, status: Status) -> tuple[int, str, str]:
    """The HTTP status, content type and body of a path, at once."""
    passes = {"/startup": status.started, "/ready": status.ready, "/live": status.live}
    if path in passes:
        return OK if passes[path] else UNAVAILABLE, TEXT, status.sentence + "\n"
    if path == "/status":
        return OK, JSON, json.dumps(status.document()) + "\n"
    if path == "/metrics":
        return OK, PROMETHEUS, status.metrics()
    return 404, TEXT, "there are /startup, /ready, /live, /status and /metrics\n"


def requested(head: bytes) -> tuple[str, str]:
    """Method and path of a request.

    Raises:
        ValueError: it is none.
    """
    method, target, version = head.split(b"\n", 1)[0].decode("latin-1").split()
    if not version.startswith("HTTP/1."):
        raise ValueError(version)
    return method, target.partition("?")[0].partition("#")[0]


def encoded(code: int, kind: str, body: str, *, with_body: bool = True) -> bytes:
    """The bytes of an answer."""
    content = body.encode("utf-8", "replace")
    head = (
        f"HTTP/1.1 {code} {REASONS[code]}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (content if with_body else b"")


class Connection:
    """A caller."""

    __slots__ = ("deadline", "head", "held", "rest", "socket")

    def __init__(self, caller: socket.socket, now: float) -> None:
        self.socket = caller
        self.deadline = now + REQUEST_SECONDS
        self.head: bytes | None = b""
        """What has come of the request; None once it is answered, or held."""
        self.held = False
        """Whether it waits for admission."""
        self.rest = b""
        """What has not been sent of the answer."""


class Answers:
    """The server on a listening socket, which the stem may use as well: it takes what this one does not."""

    def __init__(self, listener: socket.socket, status: Callable[[], Status]) -> None:
        listener.settimeout(0)  # its accept never waits: the stem may have taken who has called
        self._listener = listener
        self._status = status
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._connections: dict[int, Connection] = {}
        """By file descriptor; the one that came first stands first."""
        self._accepts_at = 0.0
        self._stopping = False
        self._waking, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waking, False)
        self._selector.register(self._waking, selectors.EVENT_READ)
        self.trouble = ""
        """The last failure in an answer; empty: there was none."""

    def wake(self) -> None:
        """Have those be answered that wait for admission, if it has come."""
        with contextlib.suppress(BlockingIOError):  # full: it wakes up anyway
            os.write(self._wake, b".")

    def stop(self) -> None:
        """Take no more connections, and end `serve` once those that there are have their answers."""
        self._stopping = True
        self.wake()

    def close(self) -> None:
        """Drop all connections; `serve` has ended. The listening socket belongs to others."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._selector.close()
        os.close(self._waking)
        os.close(self._wake)

    def serve(self) -> None:
        """Answer until it is stopped.

        Raises:
            OSError: the listening socket is gone.
        """
        while not (self._stopping and self._stopped()):
            now = time.monotonic()
            for key, _ in self._selector.select(self._patience(now)):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fd == self._waking:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._waking, 4096)
                else:
                    self._guarded(self._connections.get(key.fd), self._go_on)
            self._settle(time.monotonic())

    def _stopped(self) -> bool:
        """Whether all have their answers. Who waits for admission has to ask again; who has just connected may ask."""
        if self._listener in self._selector.get_map():
            self._selector.unregister(self._listener)
            latest = time.monotonic() + FAREWELL_SECONDS
            for connection in list(self._connections.values()):
                connection.deadline = min(connection.deadline, latest)
                if connection.held:
                    self._guarded(connection, self._release)
        return not any(connection.rest or connection.head is not None for connection in self._connections.values())

    def _patience(self, now: float) -> float | None:
        """Seconds until something is due without anybody's doing."""
        moments = [connection.deadline for connection in self._connections.values()]
        if self._accepts_at:
            moments.append(self._accepts_at)
        return max(0.0, min(moments) - now) if moments else None

    def _accept(self) -> None:
        now = time.monotonic()
        try:
            caller, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # the stem has taken it, or the caller has gone
        except OSError as error:
            self.trouble = f"cannot take a connection: {error.strerror}"
            self._make_room()
            self._selector.unregister(self._listener)
            self._accepts_at = now + PAUSE_SECONDS
            return
        caller.settimeout(0)
        if len(self._connections) >= MOST_CONNECTIONS:
            self._make_room()
        self._connections[caller.fileno()] = Connection(caller, now)
        self._selector.register(caller, selectors.EVENT_READ)

    def _make_room(self) -> None:
        """Drop the one that has waited longest, of those that are not being answered if there is one."""
        idle = [connection for connection in self._connections.values() if connection.head is not None]
        for connection in (idle or list(self._connections.values()))[:1]:
            self._drop(connection)

    def _guarded(self, connection: Connection | None, work: Callable[[Connection], None]) -> None:
        """Do something for a caller. What goes wrong costs that caller its answer, and nobody else."""
        if connection is None:
            return
        try:
            work(connection)
        except OSError:
            self._drop(connection)  # it has gone
        except Exception as error:  # noqa: BLE001 # a mistake of ours in one answer must not end the others
            self.trouble = f"an answer failed: {error!r}"
            self._drop(connection)

    def _go_on(self, connection: Connection) -> None:
        if connection.rest:
            self._send(connection)
            return
        received = connection.socket.recv(MOST_BYTES)
        if not received:
            self._drop(connection)
        elif connection.head is not None:
            connection.head += received
            if b"\n\r\n" in connection.head or b"\n\n" in connection.head:
                self._reply(connection, connection.head)
            elif len(connection.head) > MOST_BYTES:
                self._respond(connection, encoded(431, TEXT, "the head is too long\n"))

    def _reply(self, connection: Connection, head: bytes) -> None:
        try:
            method, path = requested(head)
        except ValueError:
            self._respond(connection, encoded(400, TEXT, "not understood\n"))
            return
        if method not in ("GET", "HEAD"):
            self._respond(connection, encoded(405, TEXT, "GET and HEAD alone\n"))
            return
        code, kind, body = answer(path, self._status())
        if path == "/startup" and code == UNAVAILABLE and self._waits_for_admission():
            connection.head, connection.held = None, True
            connection.deadline = time.monotonic() + STARTUP_SECONDS
            return
        self._respond(connection, encoded(code, kind, body, with_body=method == "GET"))

    def _waits_for_admission(self) -> bool:
        status = self._status()
        return not (self._stopping or status.started or status.verdict in ("leaving", "restart"))

    def _release(self, connection: Connection) -> None:
        connection.held = False
        self._respond(connection, encoded(*answer("/startup", self._status())))

    def _respond(self, connection: Connection, content: bytes) -> None:
        connection.head, connection.rest = None, content
        connection.deadline = time.monotonic() + REQUEST_SECONDS
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        with contextlib.suppress(BlockingIOError):
            connection.rest = connection.rest[connection.socket.send(connection.rest) :]
        if connection.rest:
            self._selector.modify(connection.socket, selectors.EVENT_WRITE)
            return
        self._selector.modify(connection.socket, selectors.EVENT_READ)
        connection.deadline = time.monotonic() + FAREWELL_SECONDS
        connection.socket.shutdown(socket.SHUT_WR)

    def _settle(self, now: float) -> None:
        """Do what is due by time, and answer those whose admission has come."""
        if self._accepts_at and now >= self._accepts_at:
            self._accepts_at = 0.0
            if not self._stopping:
                self._selector.register(self._listener, selectors.EVENT_READ)
        admitted = not self._waits_for_admission()
        for connection in list(self._connections.values()):
            if connection.held and (admitted or now >= connection.deadline):
                self._guarded(connection, self._release)
            elif now >= connection.deadline:
                self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if self._connections.pop(connection.socket.fileno(), None) is not None:
            self._selector.unregister(connection.socket)
            connection.socket.close()
