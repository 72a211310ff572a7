"""Which engines get requests, judged by what came of earlier ones.

An engine that refuses a connection is ejected at once, one that fails otherwise after a few errors in a row. Ejection
ends by itself; then one request is the trial that readmits the engine or ejects it for twice as long. A slow answer
proves nothing: a busy engine is no sick one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from vllm_client.balance.policy import BalancePolicy

DOUBLINGS = 30
"""More would only overflow: the limit of the time has long been reached."""


@dataclass(frozen=True)
class Health:
    """What is known of one engine.

    Attributes:
        errors: Errors in a row since the last answer.
        ejections: Ejections in a row since the last answer.
        ejected_until: When the present ejection ends, on the clock that judges.
        on_trial: A trial request is under way.
        failed_at: When the last error was.
    """

    errors: int = 0
    ejections: int = 0
    ejected_until: float = 0.0
    on_trial: bool = False
    failed_at: float = float("-inf")


HEALTHY = Health()


class HasHealth(Protocol):
    """What is judged here."""

    health: Health


Engine = TypeVar("Engine", bound=HasHealth)


def failed(health: Health, *, proof: bool, now: float, jitter: float, policy: BalancePolicy) -> Health:
    """The health after a failure.

    Args:
        health: The health before.
        proof: Nobody is there, or a trial failed: one is enough.
        now: The time.
        jitter: From 0 to 1; spreads the trials of many clients over half the time.
        policy: The settings.
    """
    errors = health.errors + 1
    if now < health.ejected_until or not (proof or health.on_trial or errors >= policy.errors_to_eject):
        return replace(health, errors=errors, on_trial=False, failed_at=now)
    longest = policy.ejection_seconds * 2.0 ** min(health.ejections, DOUBLINGS)
    seconds = min(longest, policy.ejection_limit_seconds) * (0.75 + 0.5 * jitter)
    return Health(errors=errors, ejections=health.ejections + 1, ejected_until=now + seconds, failed_at=now)


def succeeded(health: Health, began: float) -> Health:
    """The health after an answer to a request that began then.

    Requests from before the last error prove nothing: an engine that shuts down still answers those it has.
    """
    return HEALTHY if began >= health.failed_at else health


def tried(health: Health) -> Health:
    """The health when a request is sent: it is a trial if the engine was ejected before."""
    return replace(health, on_trial=True) if health.ejections else health


def abandoned(health: Health) -> Health:
    """The health when a request ended without a result, so that another can be the trial."""
    return replace(health, on_trial=False) if health.on_trial else health


def admitted(health: Health, now: float) -> bool:
    """Whether the engine gets requests."""
    return not health.ejections or (now >= health.ejected_until and not health.on_trial)


def usable(engines: list[Engine], now: float) -> list[Engine]:
    """The engines that get requests; all, if all are ejected: then asking them is the only way to find out."""
    return [engine for engine in engines if admitted(engine.health, now)] or engines
