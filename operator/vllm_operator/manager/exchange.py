"""One HTTP exchange with the server in this pod, over a plain socket, within a deadline for the whole of it.

`http.client` would do as well and costs twice as much; it also has no deadline but one for each read, and a server
that sends a byte now and then would hold the judge for ever. Proxies of the environment are never asked.
"""

from __future__ import annotations

import errno
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from .listeners import Places

LARGEST_ANSWER = 4 << 20
"""Bytes of a body that are read at most. The metrics have 50 KB, and 1 MB with very many ranks."""

LARGEST_HEAD = 64 << 10
LONGEST_CHUNK_LINE = 1024
"""Bytes of the line before a chunk: its size, and extensions that nobody uses."""

HEAD_END = b"\r\n\r\n"
HTTP_OK = 200
_READ = 1 << 17

OUR_OWN_TROUBLE = (
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS),  # no file descriptor, no memory
    *(errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL),  # a firewall; no port of our own is left
)
"""What stands in our own way when a connection is made; it says nothing of the server."""


class EngineError(Exception):
    """The engine's answer, or its absence: a word for programs and a sentence for people.

    Causes: Loading (nothing listens), Silent (no answer in time), Unauthorized, WrongModel, NoEndpoint, Busy (a full
    queue turns requests away), Scaling (elastic expert parallelism adds or removes ranks), Refused (another status
    4xx), Failing (status 5xx, or a connection that breaks), Empty, NoMetrics, LoopbackOnly (no client can reach the
    server), PortTaken (what answers is another container's), Unasked (the trouble is our own: nothing is known of the
    engine).
    """

    def __init__(self, cause: str, sentence: str) -> None:
        super().__init__(sentence)
        self.cause = cause
        self.sentence = sentence


class Answer:
    """Status and body of an answer."""

    __slots__ = ("content", "status")

    def __init__(self, status: int, content: bytes) -> None:
        self.status = status
        self.content = content


class ClosedError(Exception):
    """The server has closed the connection before a byte of its answer: as it does with one that was idle for long."""


def shown(seconds: float) -> str:
    """A deadline as sentences have it: in whole seconds, so that the same trouble is told by the same sentence."""
    return f"{max(1.0, seconds):.0f} s"


class Connection:
    """A connection to the server, kept for the next exchange where the server keeps it. For one thread."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._tls = places.tls
        self._socket: socket.socket | None = None
        self._own_port = 0

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def ask(self, path: str, request: bytes, deadline: float) -> Answer:
        """Send a request and read its answer; a connection that the server has closed meanwhile is made anew.

        Args:
            path: The request's, for sentences.
            request: Head and body.
            deadline: On the monotonic clock, for connecting, sending and reading together.

        Raises:
            EngineError: Loading, Silent, Failing or Unasked.
        """
        began = time.monotonic()
        try:
            if self._socket is not None and not self._closed_by_server():
                try:
                    return self._exchange(path, request, deadline)
                except ClosedError:
                    self.close()
            self.open(deadline)
            return self._exchange(path, request, deadline)
        except ClosedError:
            raise self._failure("Failing", f"{path}: the connection ended without an answer") from None
        except socket.timeout:  # noqa: UP041 # only since 3.10 the same as TimeoutError
            raise self._failure("Silent", f"{path} does not answer within {shown(deadline - began)}") from None
        except OSError as error:
            ours = error.errno in OUR_OWN_TROUBLE and not self._is_of_tls(error)
            raise self._failure("Unasked" if ours else "Failing", f"{path}: {error.strerror or error}") from None

    def open(self, deadline: float) -> socket.socket:
        """Connect anew.

        Raises:
            EngineError: Loading: nothing listens.
            OSError: no connection, or none in time (socket.timeout).
        """
        self.close()
        try:
            self._socket = self._places.connect(deadline)
        except ConnectionRefusedError:
            raise EngineError("Loading", f"nothing listens on port {self._places.port}") from None
        self._own_port = self._socket.getsockname()[1]
        self._places.own_ports.add(self._own_port)
        return self._socket

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._places.own_ports.discard(self._own_port)

    def _failure(self, cause: str, sentence: str) -> EngineError:
        self.close()
        return EngineError(cause, sentence)

    def _closed_by_server(self) -> bool:
        """Whether the end of the kept connection has come; bytes that nobody asked for make it useless as well."""
        assert self._socket is not None  # noqa: S101 # for the type checker
        self._socket.setblocking(False)  # noqa: FBT003 # the socket's own signature
        try:
            self._socket.recv(1)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            return not (self._tls and isinstance(error, self._tls.QUIET))
        return True

    def _is_of_tls(self, error: OSError) -> bool:
        return self._tls is not None and isinstance(error, self._tls.ERROR)

    def _exchange(self, path: str, request: bytes, deadline: float) -> Answer:
        assert self._socket is not None  # noqa: S101 # for the type checker
        reader = Reader(self._socket, path, deadline)
        self._socket.settimeout(reader.remaining())
        try:
            self._socket.sendall(request)
            answer, kept = reader.answer()
        except OSError as error:
            closed = (ConnectionResetError, BrokenPipeError, *(self._tls.CLOSED if self._tls else ()))
            if reader.began or not isinstance(error, closed):
                raise
            raise ClosedError from None
        except EngineError:
            self.close()
            raise
        if not kept:
            self.close()
        return answer


class Reader:
    """Reads one answer from a socket, bounded in time and size."""

    def __init__(self, connection: socket.socket, path: str, deadline: float) -> None:
        self._socket = connection
        self._path = path
        self._deadline = deadline
        self._buffer = bytearray()
        self.began = False
        """Whether a byte of the answer has come."""

    def remaining(self) -> float:
        """Seconds until the deadline.

        Raises:
            socket.timeout: it has passed.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout  # noqa: UP041 # see above
        return left

    def answer(self) -> tuple[Answer, bool]:
        """The answer, and whether the connection can be used again.

        Raises:
            ClosedError: the server closed the connection instead.
            EngineError: Failing: what came is no answer, or too long.
            OSError: the connection broke, or time is over (socket.timeout).
        """
        status, head = self.head()
        while 100 <= status < HTTP_OK and status != 101:  # noqa: PLR2004 # interim answers, but for another protocol's
            status, head = self.head()
        kept = head.startswith(b"http/1.1") and b"\r\nconnection: close" not in head
        if b"\r\ntransfer-encoding: chunked" in head:
            return Answer(status, self._chunks()), kept
        _, found, length = head.partition(b"\r\ncontent-length:")
        if found:
            return Answer(status, self.take(self._number(length.partition(b"\r\n")[0], 10))), kept
        if status in (204, 304):
            return Answer(status, b""), kept
        while self.more():
            self._check_size(len(self._buffer))
        return Answer(status, bytes(self._buffer)), False

    def head(self) -> tuple[int, bytes]:
        """Status and head of an answer, in lower case.

        Raises:
            As `answer`.
        """
        while True:
            end = self._buffer.find(HEAD_END)
            if end >= 0:
                break
            if len(self._buffer) > LARGEST_HEAD:
                raise EngineError("Failing", f"{self._path}: the head of the answer does not end")
            if not self.more():
                if not self.began:
                    raise ClosedError
                raise EngineError("Failing", f"{self._path}: the connection ended within the answer")
        head = bytes(self._buffer[:end]).lower()
        del self._buffer[: end + len(HEAD_END)]
        words = head.split(None, 2)
        if not head.startswith(b"http/1.") or len(words) < 2 or not words[1].isdigit():  # noqa: PLR2004 # and status
            raise EngineError("Failing", f"{self._path}: what listens there does not speak HTTP")
        return int(words[1]), head

    def more(self) -> bool:
        """Read what has come; False at the end of the stream.

        Raises:
            OSError: the connection broke, or time is over (socket.timeout).
        """
        self._socket.settimeout(self.remaining())
        received = self._socket.recv(_READ)
        if received:
            self.began = True
            self._buffer += received
        return bool(received)

    def take(self, count: int) -> bytes:
        """The next so many bytes.

        Raises:
            EngineError: Failing: they do not come, or are too many.
            OSError: see `more`.
        """
        self._check_size(count)
        self._fill(lambda: len(self._buffer) >= count)
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _chunks(self) -> bytes:
        """A body in chunks, until the last, which is empty, and its trailer."""
        parts: list[bytes] = []
        size = 0
        while True:
            count = self._number(self._line().partition(b";")[0], 16)
            if count == 0:
                while self._line():
                    continue
                return b"".join(parts)
            size += count
            self._check_size(size)
            parts.append(self.take(count))
            self._line()

    def _line(self) -> bytes:
        self._fill(lambda: b"\r\n" in self._buffer or len(self._buffer) > LONGEST_CHUNK_LINE)
        line, found, _ = self._buffer.partition(b"\r\n")
        if not found:
            raise EngineError("Failing", f"{self._path}: the answer is not understood")
        del self._buffer[: len(line) + 2]
        return bytes(line)

    def _fill(self, enough: Callable[[], bool]) -> None:
        while not enough():
            if not self.more():
                raise EngineError("Failing", f"{self._path}: the connection ended within the answer")

    def _number(self, text: bytes, base: int) -> int:
        try:
            number = int(text.strip(), base)
        except ValueError:
            number = -1
        if number < 0:
            raise EngineError("Failing", f"{self._path}: the answer is not understood")
        return number

    def _check_size(self, size: int) -> None:
        if size > LARGEST_ANSWER:
            raise EngineError("Failing", f"{self._path}: the answer is larger than {LARGEST_ANSWER >> 20} MB")
