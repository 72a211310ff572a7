"""Beginning a test only while the machine has processors for it, as make's --max-load does for its jobs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_SECONDS = 2.0
PATIENCE_SECONDS = 300.0


def _load() -> float:
    return os.getloadavg()[0]


def wait_below(
    limit: float, *, load: Callable[[], float] = _load, sleep: Callable[[float], None] = time.sleep
) -> float:
    """Wait until fewer than `limit` threads want a processor at once, on average of a minute, but five minutes at most.

    What begins beside a hundred others makes all of them late, and those that ask whether something is ready ask the
    more. Whoever waits here adds nothing to the load.

    Returns:
        For how many seconds it waited.
    """
    waited = 0.0
    while load() >= limit and waited < PATIENCE_SECONDS:
        sleep(PAUSE_SECONDS)
        waited += PAUSE_SECONDS
    return waited
