"""The settings of balancing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from vllm_client.errors import ConfigurationError

STRATEGIES = ("prefix", "least_outstanding")
OPTIONAL = ("hedge_seconds", "report_seconds")
MOST_COMPUTATIONS = 2
"""How often one prompt may be computed, for one answer. A prompt can be what makes an engine stall or end: with a third
one it would go through the whole fleet."""


@dataclass(frozen=True, kw_only=True)
class BalancePolicy:
    """How requests are spread over engines, and how failures are met.

    Attributes:
        strategy: `prefix` sends prompts that begin alike to the same engine, whose prefix cache has them, unless it is
            overloaded; `least_outstanding` sends each to the engine with the fewest unanswered requests.
        prefix_bytes: How much of the prompt counts as its beginning.
        overload: An engine takes at most (1 + overload) times its even share of the requests in flight, and none where
            its reported load is (1 + overload) times the mean; the fewer, the nearer it is to that.
        spread: How many engines share prompts that begin alike where engines report no load and there is not a request
            in flight for each: other processes may send the same. 1 keeps them together, and lets processes herd.
        report_seconds: An engine is asked for its load at most this often; None: never.
        connect_seconds: How long an engine may take to accept a connection.
        errors_to_eject: Errors in a row that eject an engine; a refused connection does so at once.
        ejection_seconds: The first time without new requests; it doubles with each further one.
        ejection_limit_seconds: The longest such time.
        stall_seconds: How long a withdrawn engine may keep an unanswered request before another is asked too.
            A withdrawn engine may still be finishing its requests, so the first answer counts. With 12 s until the
            operator withdraws a hung engine and 5 s until DNS says so, an answer comes well within 30 s where the
            budget of further attempts has room.
        hedge_seconds: After how long without an answer a second engine is asked too; None: never.
        retry_share: Further attempts per request, on average, so that they cannot multiply an outage. Moving away from
            an engine that is ejected to one that is not does not count; asking another engine beside one that is
            withdrawn does, and waits for its turn.
        retry_floor_per_second: Further attempts that are always allowed.
        retry_burst: Further attempts that can be saved up.
        backoff_seconds: The wait once every engine has been tried; it doubles with each round.
        backoff_limit_seconds: The longest such wait.
        ttl_floor_seconds: DNS is asked at most this often, whatever the records' TTL.
        ttl_ceiling_seconds: DNS is asked at least this often while requests are made: many clusters give Services a TTL
            of 30 s, and a withdrawn engine should not get requests for so long. After a failure DNS is asked at once,
            or as soon as the floor allows.

    Raises:
        ConfigurationError: A value makes no sense.
    """

    strategy: str = "prefix"
    prefix_bytes: int = 256
    overload: float = 0.25
    spread: int = 3
    report_seconds: float | None = 1.0
    connect_seconds: float = 2.0
    errors_to_eject: int = 3
    ejection_seconds: float = 1.0
    ejection_limit_seconds: float = 60.0
    stall_seconds: float = 3.0
    hedge_seconds: float | None = None
    retry_share: float = 0.2
    retry_floor_per_second: float = 0.5
    retry_burst: float = 10.0
    backoff_seconds: float = 0.25
    backoff_limit_seconds: float = 8.0
    ttl_floor_seconds: float = 1.0
    ttl_ceiling_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.strategy not in STRATEGIES:
            raise wrong("strategy", self.strategy, f"one of {', '.join(STRATEGIES)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "strategy" or (field.name in OPTIONAL and value is None):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise wrong(field.name, value, "a number that is not negative")
            if field.name == "spread" and (value < 1 or not isinstance(value, int)):
                raise wrong(field.name, value, "a whole number from 1 on")
        if self.ttl_floor_seconds > self.ttl_ceiling_seconds:
            raise wrong("ttl_floor_seconds", self.ttl_floor_seconds, "at most ttl_ceiling_seconds")


def read_policy(given: object) -> BalancePolicy:
    """The policy that a configuration's `balance` describes.

    Raises:
        ConfigurationError: A setting is unknown or makes no sense.
    """
    if isinstance(given, BalancePolicy):
        return given
    if not isinstance(given, Mapping):
        raise ConfigurationError("`balance` is not a mapping", variable="balance", advice="Make it one")
    known = {field.name for field in fields(BalancePolicy)}
    for name in given:
        if name not in known:
            advice = f"There are {', '.join(sorted(known))}"
            raise ConfigurationError(f"there is no setting balance.{name}", variable=f"balance.{name}", advice=advice)
    return BalancePolicy(**given)


def wrong(name: str, value: object, expected: str) -> ConfigurationError:
    """The error for a setting that makes no sense."""
    return ConfigurationError(
        f"balance.{name} is {value!r}", variable=f"balance.{name}", advice=f"Set balance.{name} to {expected}"
    )
