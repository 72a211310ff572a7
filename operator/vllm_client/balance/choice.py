"""Which engine a request goes to.

Rendezvous hashing orders the engines for each prompt's beginning: the order of those that stay is the same when others
come and go, so their prefix caches keep what they have. The first whose load is below the bound takes the request
(consistent hashing with bounded loads, Mirrokni, Thorup and Zadimoghaddam, 2016).

A process knows its own requests, and what the engines said of their load with its own answers. A hundred processes with
one request each and one common beginning would all choose the same engine by the first alone. So the second bounds the
load, too, and chance decides where nothing is known. What the figures below come to is simulated in
tests/unit/client/balance/test_herding.py.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from vllm_client.balance.load_report import NOTHING_KNOWN, Reported, worth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_client.balance.policy import BalancePolicy

MASK = 2**64 - 1
PROMPTS = (b'"messages":', b'"prompt":', b'"input":')
MODEL = b'"model":'
MODEL_BYTES = 128
FIRST_SPREAD = 4
"""How many of the nearest engines share the requests of those who know nothing: processes that start together."""
BUSY_PRESSURE = 0.5
"""From which mean pressure on engines of which nothing is known share the requests. In an idle fleet the nearest takes
them: its cache is worth more than an even load."""
UNKNOWN_SHARE = 0.5
"""The pressure that is assumed at an engine that has reported nothing, as a share of the mean of the others."""
SLACK = 0.05
"""Differences of pressure that are as good as none: at an idle engine one request more is twice the load."""


def prefix_key(body: bytes, prefix_bytes: int) -> int:
    """A number for the beginning of the prompt and the model's name in a JSON request.

    The body is searched, not parsed: that takes the same microsecond for long prompts. A quote within a text is
    escaped there, so that no prompt can be taken for a field.
    """
    found = (body.find(field) for field in PROMPTS)
    start = next((at for at in found if at >= 0), 0)
    model = body.find(MODEL)
    name = body[model : body.find(b",", model, model + MODEL_BYTES)] if model >= 0 else b""
    return digest(name + b"\0" + body[start : start + prefix_bytes])


def digest(data: bytes) -> int:
    """A number that is the same in every process; `mixed` makes a hash of it."""
    return zlib.crc32(data)


@lru_cache(maxsize=4096)
def engine_hash(engine: str) -> int:
    """The engine's own number."""
    return digest(engine.encode())


def mixed(key: int, engine: str) -> int:
    """How near an engine is to a key, the highest being the nearest: the finaliser of splitmix64 over both numbers."""
    value = key ^ engine_hash(engine)
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def bound(total: int, engines: int, overload: float) -> int:
    """The most requests that one engine may have once another is added to `total` in flight."""
    return math.ceil((1 + overload) * (total + 1) / engines)


class Load(Protocol):
    """What a process knows of an engine's load: an engine of the fleet, or what stands for one."""

    @property
    def outstanding(self) -> int:
        """Unanswered requests of its own."""

    @property
    def reported(self) -> Reported:
        """What the engine has said."""


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """A `Load` by itself."""

    outstanding: int = 0
    reported: Reported = NOTHING_KNOWN


def by_prefix(key: int, loads: Mapping[str, Load], policy: BalancePolicy, *, now: float, draw: float) -> str:
    """The nearest engine that is below the bounds: that of the own requests, and that of the engines' reports.

    Args:
        key: What `prefix_key` makes of the request.
        loads: What is known of each engine; not empty.
        policy: The settings.
        now: The time in seconds.
        draw: A number of chance, at least 0 and below 1. Others who know the same must not all choose the same.

    With a request of its own for each engine, the next one included, a process knows enough to keep a beginning at one.
    """
    total, answered, reported = 0, False, False
    for load in loads.values():  # one loop: each of its own would cost a request more than the rest of the choice
        total += load.outstanding
        answered = answered or load.reported.answered
        reported = reported or load.reported.pressure is not None
    limit = bound(total, len(loads), policy.overload)
    free = [(mixed(key, engine), engine) for engine, load in loads.items() if load.outstanding < limit]
    nearest = [engine for _, engine in sorted(free, reverse=True)]
    many_own = total + 1 >= len(loads)
    if reported:
        return by_reports(nearest, loads, policy, many_own=many_own, now=now, draw=draw)
    width = 1 if many_own else policy.spread if answered else first_spread(policy)
    return nearest[int(draw * min(len(nearest), width))]


def first_spread(policy: BalancePolicy) -> int:
    """How many of the nearest engines share the requests of those who know nothing; one where all is kept together."""
    return FIRST_SPREAD if policy.spread > 1 else 1


def by_reports(
    nearest: Sequence[str],
    loads: Mapping[str, Load],
    policy: BalancePolicy,
    *,
    many_own: bool,
    now: float,
    draw: float,
) -> str:
    """The nearest engine that takes the request, each by its own chance; the least loaded one where none does.

    Args:
        nearest: The engines that may take it, in their order.
        loads: What is known of each.
        policy: The settings.
        many_own: Whether the process has so many requests that it need not try engines by chance.
        now: The time in seconds.
        draw: See `by_prefix`.
    """
    reported = [load.reported.pressure for load in loads.values() if load.reported.pressure is not None]
    usual = sum(reported) / len(reported)
    busy = 0.0 if many_own else min(1.0, usual / BUSY_PRESSURE)
    pressures = {engine: estimated(load.reported, usual, now) for engine, load in loads.items()}
    mean = sum(pressures.values()) / len(pressures)
    width = min(FIRST_SPREAD, len(nearest))
    for place, engine in enumerate(nearest):
        certain = worth(loads[engine].reported, now)
        blind = 1 - busy * (1 - 1 / max(1, width - place))
        chance = certain * taken_share(pressures[engine], mean, policy.overload) + (1 - certain) * blind
        if chance >= 1 or draw < chance:
            return engine
        draw = (draw - chance) / (1 - chance)
    return min(nearest, key=lambda engine: pressures[engine])


def estimated(known: Reported, usual: float, now: float) -> float:
    """The pressure at an engine now: what it reported, and the more of what is usual the older that is.

    At an engine that has reported nothing less than usual is assumed, so that somebody looks.
    """
    if known.pressure is None:
        return UNKNOWN_SHARE * usual
    return usual + worth(known, now) * (known.pressure - usual)


def taken_share(pressure: float, mean: float, overload: float) -> float:
    """What share of the requests for which it is the nearest an engine takes: all up to the mean, none at the bound.

    A step from all to none would send everybody elsewhere at once, and back (Mitzenmacher, How Useful Is Old
    Information?, 2000; Dahlin, Interpreting Stale Load Information, 2000).
    """
    above = (pressure + SLACK) / (mean + SLACK) - 1
    if above <= 0:
        return 1.0
    return max(0.0, 1 - above / overload) if overload else 0.0


def by_load(loads: Mapping[str, Load], draw: float) -> str:
    """The engine with the fewest unanswered requests; of several, two by chance and of these the less loaded one."""
    fewest = min(load.outstanding for load in loads.values())
    equal = [engine for engine, load in loads.items() if load.outstanding == fewest]
    if len(equal) == 1:
        return equal[0]
    first, other = divmod(int(draw * len(equal) * (len(equal) - 1)), len(equal) - 1)
    pair = equal[first], equal[other + (other >= first)]
    return min(pair, key=lambda engine: loads[engine].reported.pressure or 0.0)


def chosen(key: int, loads: Mapping[str, Load], policy: BalancePolicy, *, now: float, draw: float) -> str:
    """The engine for a request, by the policy's strategy. See `by_prefix`."""
    if len(loads) == 1:
        return next(iter(loads))
    if policy.strategy == "prefix":
        return by_prefix(key, loads, policy, now=now, draw=draw)
    return by_load(loads, draw)
