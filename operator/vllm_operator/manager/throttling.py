"""Whether the engine's container is stopped for want of CPU: a symptom of a limit that is too low."""

from __future__ import annotations

from . import cgroup
from .matching import Diagnosis

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Periods = tuple[int, int] | None

PAUSE_SECONDS = 10.0
"""Between two readings, which is what a share is of."""
LEAST_PERIODS = 30
"""Fewer are no sign: an idle engine wakes for a moment and sleeps again."""
SHARE = 0.25
"""Of the periods; below it a container hardly waits."""
ID = "CpuThrottled"


class Throttling:
    """Reads how often the container was stopped."""

    def __init__(self, read: Callable[[], Periods] = cgroup.cpu_periods) -> None:
        self._read = read
        self._read_at = float("-inf")
        self._before: Periods = None
        self._found: tuple[Diagnosis, ...] = ()

    def symptoms(self, now: float) -> tuple[Diagnosis, ...]:
        """The symptom as of the last readings; nothing where there is none, or no limit. `now` is monotonic."""
        if now - self._read_at >= PAUSE_SECONDS:
            periods = self._read()
            self._found = _told(self._before, periods)
            self._read_at, self._before = now, periods
        return self._found


def _told(before: Periods, after: Periods) -> tuple[Diagnosis, ...]:
    if before is None or after is None:
        return ()
    periods, stopped = after[0] - before[0], after[1] - before[1]
    if periods < LEAST_PERIODS or stopped < SHARE * periods:
        return ()
    return (Diagnosis(ID, {"percent": f"{100 * stopped / periods:.0f}"}),)
