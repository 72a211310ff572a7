"""What the judge has to wait for, done on threads beside its looks: canaries, and questions that take long."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from .engine import EngineError, outcome_of
from .evidence import COMPLETED, Canary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .engine import Engine

MOST_CANARIES = 64
"""On their way at once: more ranks than that are not asked at the same time."""


class Canaries:
    """Prompts of our own that are on their way, each on a thread of its own, and those that have ended."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._sent: dict[int, Canary] = {}
        self._number = 0
        self.trouble = ""
        """The last canary that failed for a mistake of ours: it says nothing of the engine."""

    def send(self, rank: str | None, timeout: float) -> None:
        """Send one; it ends within `timeout` seconds."""
        with self._lock:
            if len(self._sent) >= MOST_CANARIES:
                return
            self._number += 1
            number, canary = self._number, Canary(sent_at=time.monotonic(), rank=rank)
            self._sent[number] = canary
        threading.Thread(target=self._complete, args=(number, canary, timeout), name="canary", daemon=True).start()

    def seen(self) -> tuple[Canary, ...]:
        """Those whose answer is waited for, and those that have ended and were not noted, by the time of sending."""
        with self._lock:
            return tuple(sorted(self._sent.values(), key=lambda canary: canary.sent_at))

    def noted(self, canaries: tuple[Canary, ...]) -> None:
        """Forget those that have ended: a judge has seen them."""
        with self._lock:
            for number, canary in list(self._sent.items()):
                if canary.outcome is not None and canary in canaries:
                    del self._sent[number]

    def _complete(self, number: int, canary: Canary, timeout: float) -> None:
        outcome, sentence, cause = COMPLETED, "", ""
        try:
            self._engine.complete(timeout, canary.rank)
        except EngineError as error:
            outcome, sentence, cause = outcome_of(error), error.sentence, error.cause
        except Exception as error:  # noqa: BLE001 # a mistake of ours proves nothing against the engine
            self.trouble = f"a canary failed: {error!r}"
            with self._lock:
                del self._sent[number]
            return
        ended = replace(canary, ended_at=time.monotonic(), outcome=outcome, sentence=sentence, cause=cause)
        with self._lock:
            self._sent[number] = ended


class Errand:
    """A question that may take long, put beside the looks, at most once at a time."""

    def __init__(self, name: str, work: Callable[[], Any]) -> None:
        self._name = name
        self._work = work
        self._thread: threading.Thread | None = None
        self._began_at = float("-inf")
        self._found: Any = None
        self._ended_at = float("-inf")
        self.trouble = ""
        """Why the last one failed for a mistake of ours; empty: it did not."""

    def run(self, now: float, pause: float) -> None:
        """Begin, unless it still runs or has begun less than `pause` seconds ago."""
        if (self._thread is not None and self._thread.is_alive()) or now - self._began_at < pause:
            return
        self._began_at = now
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def found(self, now: float, *, youth: float, wait: float = 0.0) -> Any:
        """What it has found, unless that is older than `youth` seconds; None where there is nothing.

        Args:
            now: The monotonic clock.
            youth: Seconds since it was found.
            wait: Seconds to wait for one that is on its way.
        """
        if wait and self._thread is not None:
            self._thread.join(wait)
        return self._found if now - self._ended_at <= youth else None

    def _run(self) -> None:
        try:
            self._found, self.trouble = self._work(), ""
        except Exception as error:  # noqa: BLE001 # a mistake of ours proves nothing against the engine
            self._found, self.trouble = None, f"{self._name}: {error!r}"
        self._ended_at = time.monotonic()
