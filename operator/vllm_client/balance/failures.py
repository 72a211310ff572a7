"""What a failed attempt says of the engine, and when the next one may begin."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import httpx2

from vllm_client.balance import health

if TYPE_CHECKING:
    from vllm_client.balance.health import Health
    from vllm_client.balance.policy import BalancePolicy

BUSY_STATUSES = frozenset({408, 409, 429})
"""May pass by themselves and say nothing of the engine's health."""
FULL = 503
"""A full queue, mostly: another engine may have room, and this one is not sick."""
SERVER_ERRORS = 500
NOBODY_THERE = (httpx2.ConnectError, httpx2.ConnectTimeout)
"""What an attempt raises where no engine takes its connection."""
INCOMPLETE = "vllm_client_incomplete"
"""Extension of a response with the status 200 that is no whole answer."""
BEGUN = "vllm_client_begun"
"""Extension of a response that is the beginning of a stream."""
NEVER = float("inf")
LONGEST_RETRY_AFTER_SECONDS = 60.0


class ConnectionWasClosed(httpx2.RemoteProtocolError):
    """The engine had closed an idle connection when the request came: it has not read it, and is not to blame."""


class TransportClosed(httpx2.TransportError):
    """The client was closed while a request waited, or before it."""


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


def verdict_of(response: httpx2.Response) -> Verdict:
    """What a response means, whole or the beginning of a stream."""
    return Verdict.ERROR if response.extensions.get(INCOMPLETE) else verdict(response.status_code)


def answered(known: Health, response: httpx2.Response, began: float) -> Health:
    """The health of an engine after an answer to a request that began then; of a stream, only its end will tell."""
    return health.abandoned(known) if response.extensions.get(BEGUN) else health.succeeded(known, began)


def untouched(outcome: httpx2.Response | httpx2.TransportError) -> bool:
    """Whether the engine has surely not begun to compute the prompt: it was not there, or turned the request away."""
    if isinstance(outcome, httpx2.Response):
        return verdict_of(outcome) is Verdict.BUSY
    return isinstance(outcome, (*NOBODY_THERE, httpx2.PoolTimeout, ConnectionWasClosed))


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


def stalled_at(absent_since: float | None, began: float, policy: BalancePolicy) -> float:
    """When an engine that was asked counts as one that will not answer.

    Args:
        absent_since: Since when it is withdrawn; None if it is not: then a slow answer proves nothing.
        began: When the request began.
        policy: The settings.
    """
    return NEVER if absent_since is None else max(absent_since, began) + policy.stall_seconds


def hedge_at(began: float, policy: BalancePolicy) -> float:
    """When a request that began then asks a second engine just in case."""
    return NEVER if policy.hedge_seconds is None else began + policy.hedge_seconds
