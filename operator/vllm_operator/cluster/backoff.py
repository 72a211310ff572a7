"""How long to wait before a failed request to the API server is tried again."""

from __future__ import annotations

import random
from typing import Final

_MOST_DOUBLINGS: Final = 30
"""Beyond every longest delay already; a float would overflow after three days of failures."""

LONGEST_RETRY_AFTER_SECONDS: Final = 300.0
"""A server's wish to be left alone is heeded up to here: whatever stands before it may answer nonsense."""


def delay_seconds(failures: int, *, first: float, longest: float, at_least: float = 0.0) -> float:
    """Seconds until the next try after so many failures before this one, spread so that not all come back at once.

    It doubles from `first` to `longest` seconds; `at_least` is what the API server asked for (Retry-After), in seconds.
    """
    backoff = min(first * 2.0 ** min(failures, _MOST_DOUBLINGS), longest) * _between(0.5, 1.0)
    asked = min(at_least, LONGEST_RETRY_AFTER_SECONDS) * _between(1.0, 1.25)
    return max(backoff, asked)


def retry_after_seconds(header: str | None) -> float:
    """Seconds that a Retry-After header asks for; 0 where there is none, and for a date, which no API server sends."""
    return float(header) if header and header.strip().isdecimal() else 0.0


def _between(low: float, high: float) -> float:
    return random.uniform(low, high)  # noqa: S311 # spreads tries, guards nothing
