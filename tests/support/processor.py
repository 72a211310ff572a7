"""What a piece of work costs the processor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def processor_seconds(work: Callable[[], object]) -> float:
    """Seconds of this process's own time, the least of three: what else the machine does adds to some of them."""
    taken = []
    for _ in range(3):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)
