"""Beginning a test only while the machine has processors for it, as make's --max-load does for its jobs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_SECONDS = 2.0
PATIENCE_SECONDS = 600.0


def _load() -> float:
    return os.getloadavg()[0]


class Patience:
    """Waits until fewer than `limit` threads want a processor at once, on average of a minute.

    What begins beside a hundred others makes all of them late, and those that ask whether something is ready ask the
    more. Whoever waits here adds nothing to the load. All waits of a run together last ten minutes at most: a machine
    that is crowded for good would have it never end.

    Attributes:
        seconds: How much is left of them.
    """

    def __init__(
        self, limit: float, *, load: Callable[[], float] = _load, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.seconds = PATIENCE_SECONDS
        self._limit, self._load, self._sleep = limit, load, sleep

    def wait(self) -> None:
        """Wait, if the machine is crowded and there is patience left."""
        while self.seconds > 0 and self._load() >= self._limit:
            self._sleep(PAUSE_SECONDS)
            self.seconds -= PAUSE_SECONDS
