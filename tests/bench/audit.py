"""Who wrote what and when, read from the API server's audit log.

The log is the one witness that disturbs nothing: every write stands in it with its user, its object and the time of
its answer, so that neither watches nor polls of the harness compete with what is measured. The operator and the
harness log in as users of their own, which tells their writes from each other's and from the controllers'.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import orjson

from tests.bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

POLL_SECONDS: Final = 0.1
_LEASES: Final = "leases"
_FIRST_FAILURE: Final = 300


class Target(NamedTuple):
    """What a write is about."""

    resource: str
    """Plural, with the subresource: `vllmmodels/status`."""
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Write:
    """One write request, answered."""

    user: str
    verb: str
    target: Target
    received: float
    """When the API server got it, in seconds since the epoch."""
    answered: float
    succeeded: bool


class AuditLog:
    """Reads the log as it grows. Leases are told apart: they are heartbeats, the operator's as the API server's."""

    def __init__(self, path: Path) -> None:
        self.writes: list[Write] = []
        """Everything since the last `forget`, but for leases."""
        self.renewals: Counter[str] = Counter()
        """Writes of leases since then, by user."""
        self._path = path
        self._file: BinaryIO = path.open("rb")
        self._rest = b""
        self._last_news = time.monotonic()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def forget(self) -> None:
        """Begin a new phase."""
        self.read()
        self.writes = []
        self.renewals.clear()

    def read(self) -> None:
        """Take in what was written since the last time, also across a rotation."""
        self._take(self._file.read())
        if self._path.stat().st_ino != _inode(self._file):
            self._take(self._file.read())
            self._file.close()
            self._file = self._path.open("rb")
            self._take(self._file.read())

    async def until(self, done: Callable[[], bool], *, what: str, seconds: float) -> None:
        """Read until `done` says so.

        Raises:
            BenchError: it did not in that time.
        """
        deadline = time.monotonic() + seconds
        self.read()
        while not done():
            if time.monotonic() > deadline:
                raise BenchError(f"waited {seconds:.0f} s in vain: {what}")
            await asyncio.sleep(POLL_SECONDS)
            self.read()

    async def until_quiet(self, quiet_seconds: float, *, limit_seconds: float) -> None:
        """Wait until nobody has written anything for a while, events included.

        Raises:
            BenchError: somebody writes without end.
        """
        self._last_news = time.monotonic()
        what = "a quiet API server: somebody keeps on writing"
        await self.until(lambda: time.monotonic() - self._last_news >= quiet_seconds, what=what, seconds=limit_seconds)

    def _take(self, news: bytes) -> None:
        *lines, self._rest = (self._rest + news).split(b"\n")
        found = [write for line in lines if (write := parse(orjson.loads(line))) is not None]
        writes = [write for write in found if write.target.resource != _LEASES]
        self.renewals.update(write.user for write in found if write.target.resource == _LEASES)
        if writes:
            self.writes += writes
            self._last_news = time.monotonic()


def parse(event: dict[str, Any]) -> Write | None:
    """One entry of the log; None for one that is not the end of a request."""
    reference = event.get("objectRef", {})
    if event["stage"] != "ResponseComplete":
        return None
    resource = "/".join(part for part in (reference.get("resource", ""), reference.get("subresource", "")) if part)
    return Write(
        user=event["user"]["username"],
        verb=event["verb"],
        target=Target(resource, reference.get("namespace", ""), reference.get("name", "")),
        received=_seconds(event["requestReceivedTimestamp"]),
        answered=_seconds(event["stageTimestamp"]),
        succeeded=event.get("responseStatus", {}).get("code", _FIRST_FAILURE) < _FIRST_FAILURE,
    )


def stands_at(writes: Iterable[Write], owed: frozenset[Target]) -> float | None:
    """When the last of these objects had been written for the first time; None while one is missing."""
    first: dict[Target, float] = {}
    for write in writes:
        if write.succeeded and write.target in owed:
            first.setdefault(write.target, write.answered)
    return max(first.values()) if len(first) == len(owed) else None


def lag_seconds(writes: Iterable[Write], first: Target, then: Target) -> float | None:
    """From the answer to the first successful write of one object to that of another; None while one is missing."""
    writes = list(writes)
    began, stood = (stands_at(writes, frozenset({target})) for target in (first, then))
    return None if began is None or stood is None else stood - began


def counted(writes: Iterable[Write], user: str) -> list[Write]:
    """The writes that count for a user. Events are told apart: they are messages, not state."""
    return [write for write in writes if write.user == user and write.target.resource != "events"]


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _inode(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_ino
