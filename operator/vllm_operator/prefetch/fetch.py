"""Bringing one file: what lies there is read and goes on from its end, and nothing counts before its hash is right."""

from __future__ import annotations

import hashlib
import os
import re
import time

from . import faults
from .faults import Fault, of_disk
from .transport import CUT_OFF, PARTIAL, RANGE_NOT_SATISFIABLE, Refused, host_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from http.client import HTTPMessage, HTTPResponse
    from typing import BinaryIO

    from .listing import Digest, RemoteFile
    from .progress import Progress
    from .transport import Transport

CHUNK_BYTES = 1024 * 1024
MOST_CUTS = 5
"""Connections in a row that break before they have brought a byte; who brings some may break as often as it likes."""

CUT_PAUSE_SECONDS = 1.0

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Stopped(Exception):  # noqa: N818 # no error: another file has failed, and this one waits for it
    """It is not the time to go on."""


class Fetch:
    """One file on its way into the claim."""

    def __init__(
        self,
        file: RemoteFile,
        place: str,
        part: str,
        *,
        transport: Transport,
        headers: Callable[[str], dict[str, str]],
        explain: Callable[[Refused], Fault],
        progress: Progress,
        stop: threading.Event,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._file = file
        self._place = place
        self._part = part
        self._transport = transport
        self._headers = headers
        self._explain = explain
        self._progress = progress
        self._stop = stop
        self._sleep = sleep
        self._broken = ""
        """Why the last connection was none."""

    def run(self) -> None:
        """Bring the file, or what is missing of it.

        Raises:
            Fault: it does not come, or not as it has to be.
            Stopped: another one has failed.
        """
        try:
            if self._is_there():
                return
            os.makedirs(os.path.dirname(self._part), exist_ok=True)
            with open(self._part, "r+b" if os.path.exists(self._part) else "w+b") as out:
                size = self._fill(out, _Hash(self._file.digest, self._file.size))
                out.flush()
                os.fsync(out.fileno())
            os.replace(self._part, self._place)
        except OSError as error:
            raise of_disk(error, os.path.dirname(self._part)) from error
        self._progress.ended(size, self._file.size)

    def _is_there(self) -> bool:
        """Whether the whole file lies there, read and found right: an engine may have brought it before."""
        try:
            size = os.stat(self._place).st_size
        except FileNotFoundError:
            return False
        if self._file.size not in (None, size):
            return False
        digest = _Hash(self._file.digest, size)
        with open(self._place, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                self._check_stop()
                digest.update(chunk)
        if not digest.is_right():
            return False
        self._progress.found(size)
        self._progress.ended(size, self._file.size)
        return True

    def _fill(self, out: BinaryIO, digest: _Hash) -> int:
        """Bring what is missing at the end of what lies there; returns the size."""
        at = self._read_part(out, digest)
        cuts = 0
        while True:
            if self._file.size is not None and at == self._file.size:
                break
            before = at
            try:
                at, ended = self._stream(out, digest, at)
            except _Again:
                digest.reset()
                self._progress.found(-at)
                at, ended = 0, False
                out.seek(0)
                out.truncate()
            if ended:
                break
            cuts = 0 if at > before else cuts + 1
            if cuts >= MOST_CUTS:
                why = self._broken or f"{host_of(self._file.url)} breaks off"
                raise Fault(faults.UNREACHABLE, f"{why}, {cuts} times in a row")
            self._check_stop()
            self._sleep(CUT_PAUSE_SECONDS * max(cuts, 1))
        if digest.is_right():
            return at
        self._progress.found(-at)
        out.seek(0)
        out.truncate()
        raise Fault(faults.CORRUPT, f"{self._file.path} came with another content than its hash: it is brought anew")

    def _read_part(self, out: BinaryIO, digest: _Hash) -> int:
        """What lies there of an earlier try, read for its hash."""
        size = 0
        out.seek(0)
        while chunk := out.read(CHUNK_BYTES):
            self._check_stop()
            digest.update(chunk)
            size += len(chunk)
        if self._file.size is not None and size > self._file.size:
            digest.reset()
            out.seek(0)
            out.truncate()
            size = 0
        self._progress.found(size)
        return size

    def _stream(self, out: BinaryIO, digest: _Hash, at: int) -> tuple[int, bool]:
        """One connection: where it ended, and whether that is the end of the file.

        Raises:
            _Again: what lies there is no beginning of the file.
        """
        headers = self._headers(self._file.url)
        if at:
            headers["Range"] = f"bytes={at}-"
        if at and self._file.version:
            headers["If-Match"] = self._file.version
        try:
            with self._transport.open(self._file.url, headers) as response:
                announced = self._announced(response, at)
                if announced is None:
                    raise _Again
                digest.take_in(response.headers)
                return self._copy(response, out, digest, at, announced)
        except Refused as refusal:
            if refusal.status == RANGE_NOT_SATISFIABLE and at:
                raise _Again from refusal
            raise self._explain(refusal) from refusal
        except Fault as fault:
            if fault.reason != faults.UNREACHABLE:
                raise
            self._broken = fault.message
            return at, False

    def _announced(self, response: HTTPResponse, at: int) -> int | None:
        """The size of the whole file as the answer has it, or -1; None where it is not what was asked for.

        Raises:
            Fault: it is another size than the one that was listed.
        """
        length = response.headers.get("Content-Length", "")
        size = int(length) if length.isdigit() else -1
        if at:
            found = _RANGE.match(response.headers.get("Content-Range", "")) if response.status == PARTIAL else None
            if found is None or int(found[1]) != at:
                return None
            size = int(found[2]) if found[2].isdigit() else size + at if size >= 0 else -1
        if self._file.size is not None and size not in (-1, self._file.size):
            told_sizes = f"{size} bytes, and was listed with {self._file.size}"
            raise Fault(faults.CORRUPT, f"{self._file.path} has {told_sizes}: whoever serves it contradicts itself")
        return size

    def _copy(self, response: HTTPResponse, out: BinaryIO, digest: _Hash, at: int, size: int) -> tuple[int, bool]:
        out.seek(at)
        while True:
            self._check_stop()
            try:
                chunk = response.read1(CHUNK_BYTES)
            except CUT_OFF:
                return at, False
            if not chunk:
                return at, size in (-1, at)
            if self._file.size is not None and at + len(chunk) > self._file.size:
                raise Fault(
                    faults.CORRUPT, f"{self._file.path} is longer than the {self._file.size} bytes it was listed with"
                )
            out.write(chunk)
            digest.update(chunk)
            at += len(chunk)
            self._progress.received(len(chunk))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped


class _Again(Exception):  # noqa: N818 # a way to go on
    """The file has to be brought from its beginning."""


class _Hash:
    """What the bytes of a file come to."""

    def __init__(self, wanted: Digest | None, size: int | None) -> None:
        self._wanted = wanted
        self._size = size
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._hash = None
        if self._wanted is None:
            return
        name = self._wanted.algorithm
        self._hash = hashlib.new("sha1" if name == "git-sha1" else name, usedforsecurity=False)
        if name == "git-sha1":
            self._hash.update(f"blob {self._size or 0}\0".encode())

    def take_in(self, headers: HTTPMessage) -> None:
        """An ETag is no hash where the store encrypts with keys of a service or of its caller."""
        encryption = headers.get("x-amz-server-side-encryption", "")
        secret = headers.get("x-amz-server-side-encryption-customer-algorithm")
        if self._wanted and self._wanted.algorithm == "md5" and (encryption.startswith("aws:kms") or secret):
            self._wanted = self._hash = None

    def update(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        if self._hash is not None:
            self._hash.update(chunk)

    def is_right(self) -> bool:
        """Whether they are what they have to be, as far as anybody said."""
        return self._wanted is None or self._hash is None or self._hash.hexdigest() == self._wanted.text
