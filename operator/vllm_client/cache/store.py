"""Where answers are kept: the protocol, and the store in memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ENTRIES = 1024
TTL_SECONDS = 3600.0


class AnswerStore(Protocol):
    """Keeps answers by key. A store bounds itself; one that has a `close()` is closed with the client that uses it.

    Both methods raise `StoreFailed` where the store does not work: the request is then answered without it.
    """

    async def get(self, key: str) -> str | None:
        """The answer, or None if there is none (any more)."""

    async def put(self, key: str, answer: str) -> None:
        """Keep the answer, in place of an earlier one."""


class BoundedAnswers:
    """The answers used last, each for a limited time from when it was put. Pure: the time is an argument.

    Raises:
        ValueError: A bound is not positive.
    """

    def __init__(self, max_entries: int, ttl_seconds: float) -> None:
        check_bounds(max_entries, ttl_seconds)
        self._max_entries = max_entries
        self._ttl_seconds = ttl_seconds
        self._entries: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str, now_seconds: float) -> str | None:
        """The answer, which counts as a use of it."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires_seconds, answer = entry
        if now_seconds >= expires_seconds:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return answer

    def put(self, key: str, answer: str, now_seconds: float) -> None:
        """Keep the answer; the one whose last use is longest ago makes room."""
        self._entries[key] = (now_seconds + self._ttl_seconds, answer)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


class MemoryStore:
    """Keeps answers in this process.

    Args:
        max_entries: How many at most; the one whose last use is longest ago makes room.
        ttl_seconds: How long an answer is kept.
        clock: Seconds that only grow.

    Raises:
        ValueError: A bound is not positive.
    """

    def __init__(
        self,
        *,
        max_entries: int = MAX_ENTRIES,
        ttl_seconds: float = TTL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answers = BoundedAnswers(max_entries, ttl_seconds)
        self._clock = clock

    async def get(self, key: str) -> str | None:
        """The answer, or None if there is none (any more)."""
        return self._answers.get(key, self._clock())

    async def put(self, key: str, answer: str) -> None:
        """Keep the answer, in place of an earlier one."""
        self._answers.put(key, answer, self._clock())


def check_bounds(max_entries: int, ttl_seconds: float) -> None:
    """Refuse bounds that keep nothing.

    Raises:
        ValueError: One is not positive.
    """
    if max_entries < 1:
        raise ValueError(f"max_entries is {max_entries}: a store keeps at least one answer")
    if not ttl_seconds > 0:
        raise ValueError(f"ttl_seconds is {ttl_seconds}: an answer is kept for a positive time")
