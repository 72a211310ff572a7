"""How many further attempts may be made: a share of the requests, so that an outage is not multiplied by retries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm_client.balance.policy import BalancePolicy

SHORTEST_WAIT_SECONDS = 0.01
"""Rounding must not make waiting for the budget a busy loop."""


@dataclass(frozen=True)
class RetryBudget:
    """A bucket of attempts.

    Attributes:
        attempts: How many may be made now.
        at: When that was.
    """

    attempts: float
    at: float


def full(now: float, policy: BalancePolicy) -> RetryBudget:
    """The budget at the start."""
    return RetryBudget(policy.retry_burst, now)


def earned(budget: RetryBudget, now: float, policy: BalancePolicy) -> RetryBudget:
    """The budget after a request. A full one stays as it is, also in time: nothing can be added."""
    if budget.attempts >= policy.retry_burst:
        return budget
    grown = refilled(budget, now, policy)
    return RetryBudget(min(policy.retry_burst, grown.attempts + policy.retry_share), now)


def spent(budget: RetryBudget, now: float, policy: BalancePolicy) -> RetryBudget | None:
    """The budget after a further attempt; None if there may be none."""
    grown = refilled(budget, now, policy)
    return replace(grown, attempts=grown.attempts - 1) if grown.attempts >= 1 else None


def affordable_at(budget: RetryBudget, now: float, policy: BalancePolicy) -> float:
    """When time alone has made room for a further attempt; requests may do so before."""
    missing = 1 - refilled(budget, now, policy).attempts
    if missing <= 0:
        return now
    rate = policy.retry_floor_per_second
    return now + max(SHORTEST_WAIT_SECONDS, missing / rate) if rate else float("inf")


def refilled(budget: RetryBudget, now: float, policy: BalancePolicy) -> RetryBudget:
    """What time adds."""
    gain = max(0.0, now - budget.at) * policy.retry_floor_per_second
    return RetryBudget(min(policy.retry_burst, budget.attempts + gain), now)
