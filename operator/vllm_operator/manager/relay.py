"""The engine's output on its way to the container runtime: byte for byte, with a copy for the judge.

A relay waits as long as the runtime makes it wait, as the engine itself would: so it has a thread of its own. The copy
never waits: what the judge does not read in time is dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import threading

KEPT_BYTES = 65536
"""What is kept of the output: for the next judge, and for a termination message that no judge writes."""

COPY_BYTES = 262144
"""Room in the judge's pipe, where the kernel grants it (F_SETPIPE_SZ)."""

CHUNK_BYTES = 65536
"""Room in a pipe by default: so much comes at once at most."""

ANSWERED = re.compile(r'"[A-Z]+ \S+ HTTP/1\.[01]" 2\d\d')
"""What the server's access log (uvicorn's) says of a request that it has answered well."""

SET_PIPE_SIZE = 1031
"""F_SETPIPE_SZ; the fcntl module knows it since Python 3.10."""


class Log:
    """The end of the engine's output, and the pipe on which the judge reads a copy of all of it.

    Both relays feed it from threads of their own. Nothing in here waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept = bytearray()
        self._pipe: int | None = None
        self._dropped = False

    def feed(self, data: bytes) -> None:
        """Keep what the engine has written, and offer it to the judge."""
        with self._lock:
            self._kept += data
            if len(self._kept) > 2 * KEPT_BYTES:
                del self._kept[:-KEPT_BYTES]
            if self._pipe is not None:
                self._offer(self._pipe, data)

    def _offer(self, pipe: int, data: bytes) -> None:
        # a line whose end was dropped must not run into the next one
        offered = b"\n" + data if self._dropped else data
        try:
            written = os.write(pipe, offered)
        except BlockingIOError:
            written = 0
        except BrokenPipeError:  # the judge has ended, which is told by its exit code
            return
        self._dropped = written < len(offered)

    def reopen(self) -> int:
        """Begin a copy for a new judge with what is kept; its end to read from."""
        self.close()
        reading, writing = os.pipe()
        with contextlib.suppress(OSError):  # beyond the user's share of memory for pipes: the default has to do
            fcntl.fcntl(writing, SET_PIPE_SIZE, COPY_BYTES)
        os.set_blocking(writing, False)
        with self._lock:
            self._pipe, self._dropped = writing, False
            if self._kept:
                self._offer(writing, bytes(self._kept[-KEPT_BYTES:]))
        return reading

    def close(self) -> None:
        """Say that nothing more comes."""
        with self._lock:
            if self._pipe is not None:
                os.close(self._pipe)
            self._pipe = None

    def tail(self) -> str:
        """The end of the output, for people, without the requests that were answered: they say nothing of an end."""
        with self._lock:
            kept = self._kept.decode("utf-8", "replace").strip()
        return "\n".join(line for line in kept.split("\n") if not ANSWERED.search(line))


class Relay:
    """Copies one stream until its end, or until it is told to stop and the stream holds nothing more."""

    def __init__(self, source: int, target: int, stop: int | None, log: Log | None) -> None:
        self._source, self._target, self._log = source, target, log
        self._stop = stop
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.relayed_bytes = 0
        self.trouble = ""
        """Why the target could not be written, for people."""

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        if self._stop is not None:
            poll.register(self._stop, select.POLLIN)
        while True:
            if self._source not in dict(poll.poll()):
                return
            data = os.read(self._source, CHUNK_BYTES)
            if not data:
                return
            if self._log is not None:
                self._log.feed(data)
            self._write(data)
            self.relayed_bytes += len(data)

    def _write(self, data: bytes) -> None:
        """Write all of it. If that fails for good the engine goes on: it would rather not end for its log."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._target, rest) :]
            except BlockingIOError:  # somebody else has made the container's output non-blocking
                writable = select.poll()
                writable.register(self._target, select.POLLOUT)
                writable.poll()
            except OSError as error:
                self.trouble = f"the engine's output is lost, since it cannot be written: {error.strerror}"
                return
