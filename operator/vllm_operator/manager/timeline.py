"""The time line of a pod's engine: what its judge has said and when, over the lives of the container.

It is kept in memory, and best effort in a file of the pod's memory volume, which outlives the container: what follows
a restart can then tell of it. A volume that is full or read-only, and rubbish in the file, are no fault of anybody's.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

FILE = "timeline.jsonl"
MOST_ENTRIES = 50
"""In memory, and in a file that is written anew."""
MOST_LINES = 200
"""In the file before it is written anew."""
MOST_BYTES = 65536
"""Of the file's end, read at the start."""
SENTENCE_LENGTH = 500
"""Of an entry: one sentence. So 50 entries stay far below what a reader of /status takes."""
ENDED_FOR_A_FAULT = ("restart", "leaving")
"""Last verdicts of a life that another one follows in the same pod only where it was ended for a fault: by its own
judge, or by kubelet, whose SIGTERM is followed by a new container only after a failed probe."""


@dataclass(frozen=True)
class Entry:
    """A moment at which something became different."""

    time: str
    """RFC 3339, UTC."""
    verdict: str
    cause: str
    sentence: str
    life: str
    """Names the life of the container: the engine's birth."""

    def as_dict(self) -> dict[str, str]:
        """The entry as /status shows it."""
        return {name: text for name, text in asdict(self).items() if name != "life"}


class TimeLine:
    """The last entries, of this life and of those before it."""

    def __init__(self, folder: str, life: str) -> None:
        self._path = os.path.join(folder, FILE)
        self.life = life
        self._entries = tuple(_read(self._path))[-MOST_ENTRIES:]
        self._lines = MOST_LINES  # the first entry writes the file anew, and rubbish out of it
        self.trouble = ""
        """Why the file could not be written the last time; empty: it could."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The oldest first."""
        return self._entries

    def add(self, time: str, verdict: str, cause: str, sentence: str) -> Entry:
        """Note an entry of this life."""
        entry = Entry(time, verdict, cause, sentence[:SENTENCE_LENGTH], self.life)
        self._entries = (*self._entries, entry)[-MOST_ENTRIES:]
        try:
            self._write(entry)
            self.trouble = ""
        except OSError as error:
            self.trouble = f"the time line is kept in memory alone: {error.strerror}"
        return entry

    @property
    def last(self) -> Entry | None:
        """The last entry of this life, which an earlier judge may have made."""
        return next((entry for entry in reversed(self._entries) if entry.life == self.life), None)

    @property
    def before(self) -> Entry | None:
        """The last entry of the life before this one."""
        return next((entry for entry in reversed(self._entries) if entry.life != self.life), None)

    def ended_for_a_fault(self) -> bool:
        """Whether the life before this one was ended by its judge or by kubelet."""
        return self.before is not None and self.before.verdict in ENDED_FOR_A_FAULT

    def _write(self, entry: Entry) -> None:
        if self._lines >= MOST_LINES:
            _replace(self._path, self._entries)
            self._lines = len(self._entries)
            return
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(_line(entry))
        self._lines += 1


def _line(entry: Entry) -> str:
    return json.dumps(asdict(entry)) + "\n"


def _replace(path: str, entries: Iterable[Entry]) -> None:
    """Write the file anew, whole or not at all."""
    new = f"{path}.new"
    try:
        with open(new, "w", encoding="utf-8") as file:
            file.writelines(map(_line, entries))
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)  # half a file on a full volume would keep it full
        raise


def _read(path: str) -> list[Entry]:
    """What can be understood of the file's end."""
    try:
        text = _tail(path)
    except OSError:
        return []
    found = (_entry(line) for line in text.split(b"\n"))
    return [entry for entry in found if entry is not None]


def _tail(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name would wait for a writer
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            return b""
        os.lseek(descriptor, max(0, about.st_size - MOST_BYTES), os.SEEK_SET)
        return os.read(descriptor, MOST_BYTES)
    finally:
        os.close(descriptor)


def _entry(line: bytes) -> Entry | None:
    try:
        stored: Any = json.loads(line)
        words = [stored[name] for name in Entry.__dataclass_fields__]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Entry(*words) if all(isinstance(word, str) for word in words) else None
