"""A histogram of durations in constant memory. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate

GROWTH = 2**0.25
"""Each bound is that many times the one before: a percentile is off by less than a fifth."""
SHORTEST_SECONDS = 0.001
LONGEST_SECONDS = 3600.0
BOUNDS = tuple(
    SHORTEST_SECONDS * GROWTH**power
    for power in range(math.ceil(math.log(LONGEST_SECONDS / SHORTEST_SECONDS, GROWTH)) + 1)
)


class Histogram:
    """Counts durations by buckets whose bounds grow by a fixed factor, from a millisecond to an hour."""

    def __init__(self) -> None:
        self.count = 0
        self.total_seconds = 0.0
        self.longest_seconds = 0.0
        self._counts = [0] * (len(BOUNDS) + 1)

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.count += 1
        self.total_seconds += seconds
        self.longest_seconds = max(self.longest_seconds, seconds)
        self._counts[bisect_left(BOUNDS, seconds)] += 1

    def percentile(self, percent: float) -> float:
        """A duration in seconds that at least so many of a hundred did not exceed; 0 if there are none.

        It is the upper bound of their bucket, but not more than the longest duration.
        """
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(self.count * percent / 100))
        bucket = bisect_left(list(accumulate(self._counts)), rank)
        return min(BOUNDS[bucket], self.longest_seconds) if bucket < len(BOUNDS) else self.longest_seconds
