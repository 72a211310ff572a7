"""The file of a batch: what has been answered, one JSON document a line, so that a run can be resumed.

The first line says whose file it is, each further line is the result of an item, in the order of completion:

    {"format":"vllm_client.batch","version":1,"model":"tiny"}
    {"digest":"9f...","id":"7","index":7,"seconds":0.41,"text":"..."}
    {"digest":"1c...","error":"...","id":"8","index":8,"kind":"TimedOut","seconds":60.0}

A line is written with one system call as soon as its item is done, so a process that is killed loses no answer. It is
forced to the disk at most once a second and when the run ends, so a machine that loses power loses the last second or
so. Either may leave an incomplete last line; it is cut off when the file is opened.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO
from typing import TYPE_CHECKING, Any

from vllm_client.batch.items import BatchResult
from vllm_client.errors import BatchFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from vllm_client.batch.items import Request

FORMAT = "vllm_client.batch"
VERSION = 1
SYNC_SECONDS = 1.0
OTHER_PATH = "Give another path, or delete the file if it is not needed"


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        answered: Digest of each answered request -> where its line begins. About 150 bytes an answer.
        end: Where the last whole line ends.
    """

    answered: dict[bytes, int]
    end: int


class Journal:
    """An open file of a batch. Errors are recorded for people; only answers count as done.

    Raises:
        BatchFileError: The file is another run's, damaged, in use, or cannot be written.
    """

    def __init__(self, path: Path, model: str) -> None:
        self._path = path
        with ExitStack() as opening:
            self._file = opening.enter_context(opened(path))
            self._reader = opening.enter_context(path.open("rb"))
            contents = read(self._reader, path, model)
            self._answered = contents.answered
            self._end = contents.end
            self._file.truncate(self._end)
            if self._end == 0:
                self._write(header(model))
            self._files = opening.pop_all()
        self._synced_seconds = time.monotonic()

    def recall(self, request: Request) -> BatchResult | None:
        """The result of this very request, if the file holds its answer."""
        start = self._answered.get(bytes.fromhex(request.digest()))
        if start is None:
            return None
        self._reader.seek(start)
        line = json.loads(self._reader.readline())
        return BatchResult(request.index, request.id, line["text"], None, line["seconds"], resumed=True)

    async def record(self, request: Request, result: BatchResult) -> None:
        """Append what became of a request.

        Raises:
            BatchFileError: The file cannot be written.
        """
        start = self._end
        digest = request.digest()
        self._write(encoded(digest, result))
        if result.error is None:
            self._answered[bytes.fromhex(digest)] = start
        now = time.monotonic()
        if now - self._synced_seconds >= SYNC_SECONDS:
            self._synced_seconds = now
            await asyncio.to_thread(self._sync)

    def close(self) -> None:
        """Force all to the disk and close the file.

        Raises:
            BatchFileError: The disk does not take it.
        """
        with self._files:
            self._sync()

    def _sync(self) -> None:
        """Force all to the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(str(error)) from error

    def _write(self, line: bytes) -> None:
        """Append a line, or nothing of it."""
        problem = ""
        try:
            written = os.pwrite(self._file.fileno(), line, self._end)
            if written != len(line):
                problem = f"only {written} of {len(line)} bytes fit"
        except OSError as error:
            problem = str(error)
        if problem:
            self._file.truncate(self._end)
            raise self._unwritable(problem)
        self._end += len(line)

    def _unwritable(self, problem: str) -> BatchFileError:
        """The error for a disk that does not take what is written."""
        advice = "Make room and run the batch again: it goes on from here"
        return BatchFileError(f"the batch file {self._path} cannot be written: {problem}", advice=advice)


def opened(path: Path) -> FileIO:
    """The file, made if need be, for this process alone and without a buffer.

    Raises:
        BatchFileError: It cannot be opened, or another process has it.
    """
    try:
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    except OSError as error:
        advice = "Give a path that can be written"
        raise BatchFileError(f"the batch file {path} cannot be opened: {error.strerror}", advice=advice) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        advice = "Wait for that run to end, or give another path"
        raise BatchFileError(f"the batch file {path} is in use by another run", advice=advice) from error
    return file


def read(file: BinaryIO, path: Path, model: str) -> Contents:
    """What the file holds, up to its last whole line.

    Raises:
        BatchFileError: It is no file of a batch with this model, or a line within it is damaged.
    """
    answered: dict[bytes, int] = {}
    end = 0
    for number, line in enumerate(whole_lines(file, path, header(model)), start=1):
        if number == 1:
            check_header(line, path, model)
        else:
            document = parsed(line, path, number)
            if "text" in document:
                answered[bytes.fromhex(document["digest"])] = end
        end += len(line)
    return Contents(answered, end)


def whole_lines(file: BinaryIO, path: Path, expected: bytes) -> Iterator[bytes]:
    """The lines that were written to their end.

    Raises:
        BatchFileError: The first one was not, and is not the beginning of the expected header: it is someone else's.
    """
    for number, line in enumerate(file):
        if line.endswith(b"\n"):
            yield line
        elif number == 0 and not expected.startswith(line):
            raise BatchFileError(f"{path} is not the file of a batch", advice=OTHER_PATH)


def check_header(line: bytes, path: Path, model: str) -> None:
    """Refuse a file that is not this run's.

    Raises:
        BatchFileError: It is not.
    """
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BatchFileError(f"{path} is not the file of a batch", advice=OTHER_PATH)
    if found.get("version") != VERSION:
        raise BatchFileError(f"{path} has version {found.get('version')}, not {VERSION}", advice=OTHER_PATH)
    if found.get("model") != model:
        problem = f"{path} belongs to a run with model {found.get('model')!r}, this one asks {model!r}"
        raise BatchFileError(problem, advice=OTHER_PATH)


def parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """A result's line.

    Raises:
        BatchFileError: It is none.
    """
    try:
        document = json.loads(line)
        bytes.fromhex(document["digest"])
        float(document["seconds"])
    except (ValueError, KeyError, TypeError) as error:
        advice = "Delete that line: its item is then asked again"
        raise BatchFileError(f"line {number} of {path} is damaged", advice=advice) from error
    return dict(document)


def header(model: str) -> bytes:
    """The first line."""
    return line_of({"format": FORMAT, "version": VERSION, "model": model})


def encoded(digest: str, result: BatchResult) -> bytes:
    """The line of a result."""
    outcome = (
        {"text": result.text} if result.error is None else {"kind": result.error.kind, "error": result.error.message}
    )
    return line_of({"digest": digest, "id": result.id, "index": result.index, "seconds": result.seconds, **outcome})


def line_of(document: dict[str, object]) -> bytes:
    """A document as a line; JSON's escapes keep line ends and halves of characters out of it."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
