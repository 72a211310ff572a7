"""What a failed attempt says of the engine, and when the next one may begin."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm_client.balance.policy import BalancePolicy

BUSY_STATUSES = frozenset({408, 409, 429})
"""May pass by themselves and say nothing of the engine's health."""
FULL = 503
"""A full queue, mostly: another engine may have room, and this one is not sick."""
SERVER_ERRORS = 500
LONGEST_RETRY_AFTER_SECONDS = 60.0


class Verdict(Enum):
    """What an answer's status means."""

    ANSWER = "for the caller, whether good or bad"
    BUSY = "to be asked of another engine"
    ERROR = "the engine's own failure, to be asked of another one"


def verdict(status: int) -> Verdict:
    """What an answer's status means."""
    if status in BUSY_STATUSES or status == FULL:
        return Verdict.BUSY
    return Verdict.ERROR if status >= SERVER_ERRORS else Verdict.ANSWER


def retry_after(text: str | None) -> float:
    """Seconds that the header Retry-After asks to wait; 0 where it says none, or a date."""
    try:
        seconds = float(text or 0)
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds <= LONGEST_RETRY_AFTER_SECONDS else 0.0


def backoff(round_number: int, jitter: float, policy: BalancePolicy) -> float:
    """Seconds to wait before the engines are asked again.

    Args:
        round_number: How often all have been asked, from 1.
        jitter: From 0 to 1.
        policy: The settings.
    """
    longest = min(policy.backoff_limit_seconds, policy.backoff_seconds * 2.0 ** min(round_number - 1, 30))
    return longest * (0.5 + 0.5 * jitter)
