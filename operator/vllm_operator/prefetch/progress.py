"""How far a download is: counted by the threads that bring files, read by whoever asks."""

from __future__ import annotations

import collections
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .faults import Fault

STATES = LISTING, VERIFYING, DOWNLOADING, WAITING, COMPLETE = (
    "Listing",
    "Verifying",
    "Downloading",
    "Waiting",
    "Complete",
)
"""Asks what there is; reads what lies there already; brings the rest; waits before it tries again; all is there."""

RATE_SECONDS = 30.0
"""The rate is that of so long."""


class Progress:
    """What is known of one download."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._state = LISTING
        self._commit = ""
        self._reason, self._message, self._retry_at = "", "", 0.0
        self._files_total = self._files_done = self._total = self._done = 0
        self._samples: collections.deque[tuple[float, int]] = collections.deque()
        self._received = 0

    def begin(self, commit: str, files: int, total: int) -> None:
        """Take in what there is to bring."""
        with self._lock:
            self._commit, self._files_total, self._total = commit, files, total
            self._files_done = self._done = 0
            self._state, self._reason, self._message = VERIFYING, "", ""

    def found(self, count: int) -> None:
        """Take in bytes that lie there already; a negative count takes back what turned out to be wrong."""
        with self._lock:
            self._done += count

    def received(self, count: int) -> None:
        """Take in bytes that have come."""
        with self._lock:
            self._done += count
            self._received += count
            self._state = DOWNLOADING
            now = self._clock()
            if not self._samples or now - self._samples[-1][0] >= 1.0:
                self._samples.append((now, self._received))
                while now - self._samples[0][0] > RATE_SECONDS:
                    self._samples.popleft()

    def ended(self, size: int, told: int | None) -> None:
        """Take in that a file is whole; its size counts from now on where nobody had told it."""
        with self._lock:
            self._files_done += 1
            self._total += size if told is None else 0

    def wait(self, fault: Fault, seconds: float) -> None:
        """Take in why it does not go on, and that it tries again in so many seconds."""
        with self._lock:
            self._state, self._reason, self._message = WAITING, fault.reason, fault.message
            self._retry_at = self._clock() + seconds
            self._samples.clear()

    def complete(self, commit: str, files: int, total: int) -> None:
        """Take in that all is there."""
        with self._lock:
            self._state, self._reason, self._message, self._commit = COMPLETE, "", "", commit
            self._files_total = self._files_done = files
            self._total = self._done = total

    def document(self) -> dict[str, object]:
        """What is told; sizes in bytes."""
        with self._lock:
            now, rate = self._clock(), self._rate()
            left = max(0, self._total - self._done)
            return {
                "state": self._state,
                "reason": self._reason,
                "message": self._message,
                "commit": self._commit,
                "files_done": self._files_done,
                "files_total": self._files_total,
                "bytes_done": self._done,
                "bytes_total": self._total,
                "bytes_per_second": rate,
                "seconds_left": round(left / rate) if rate and self._state == DOWNLOADING else None,
                "retry_in_seconds": max(0, round(self._retry_at - now)) if self._state == WAITING else None,
            }

    def _rate(self) -> int:
        if self._state != DOWNLOADING or not self._samples:
            return 0
        first, before = self._samples[0]
        seconds = self._clock() - first
        if seconds > 2 * RATE_SECONDS:
            return 0  # nothing has come for long
        return round((self._received - before) / seconds) if seconds >= 1.0 else 0
