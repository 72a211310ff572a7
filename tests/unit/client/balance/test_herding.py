"""Many processes that know little do not all choose the same engine, and prompts still meet the cache that has them.

The figures come from a simulation with chance that repeats (tests/support/fleet_model.py); `python -m
tests.bench.herding` measures the same on engines that are asked by real processes.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import pytest

from tests.support.client_processes import run_processes
from tests.support.fleet_model import ByPolicy, InTurns, Outcome, Prompt, simulate
from tests.support.loaded_engine import loaded_engine
from vllm_client import BalancePolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fleet_model import Chooser

pytestmark = pytest.mark.slow

ENGINES = 4
EVEN = 1.5
"""The most at one engine, to the mean."""
SEEDS = 2
BY_PREFIX = partial(ByPolicy, policy=BalancePolicy())
BY_LOAD = partial(ByPolicy, policy=BalancePolicy(strategy="least_outstanding"))
MANY = ("32 beginnings", "500 beginnings", "half have one beginning", "long and short of 32 beginnings")


def prompt_of(mix: str, chance: random.Random, numbers: itertools.count[int]) -> Prompt:
    """A prompt of a mix."""
    answer = max(8, int(chance.expovariate(1 / 80)))
    if mix == "one beginning":
        return Prompt(0, 1500, 100, answer)
    if mix == "half have one beginning":
        return Prompt(chance.choice((0, chance.randrange(1, 33))), 1500, 100, answer)
    if mix == "each its own, long and short":
        return Prompt(next(numbers), chance.choice((50, 200, 6000)), 20, answer)
    if mix == "long and short of 32 beginnings":
        beginning = chance.randrange(32)
        return Prompt(beginning, 300 if beginning % 4 else 6000, 100, answer)
    return Prompt(chance.randrange(int(mix.split(maxsplit=1)[0])), 1500, 100, answer)


@lru_cache(maxsize=64)
def outcomes(
    chooser: Callable[..., Chooser],
    mix: str,
    *,
    processes: int = 100,
    each: int = 40,
    lanes: int = 1,
    reports: bool = True,
) -> tuple[Outcome, ...]:
    """What comes of it, for some seeds."""

    def outcome(seed: int) -> Outcome:
        chance, numbers = random.Random(seed), itertools.count()  # noqa: S311 - a workload that can be repeated
        prompts = [[prompt_of(mix, chance, numbers) for _ in range(each)] for _ in range(processes)]
        return simulate(prompts, chooser, engines=ENGINES, lanes=lanes, reports=reports, seed=seed)

    return tuple(outcome(seed) for seed in range(SEEDS))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def most(outcome: Outcome) -> float:
    """Requests at the engine that had most, to the mean."""
    return outcome.requests[0] * ENGINES / sum(outcome.requests)


@pytest.mark.parametrize(("processes", "each", "lanes"), [(100, 40, 1), (400, 10, 1), (25, 80, 4), (20, 40, 1)])
def test_processes_with_one_common_beginning_load_the_engines_evenly(processes: int, each: int, lanes: int) -> None:
    for found in outcomes(BY_PREFIX, "one beginning", processes=processes, each=each, lanes=lanes):
        assert most(found) <= EVEN
        assert found.unevenness <= EVEN


def test_so_do_processes_that_ask_only_once() -> None:
    for found in outcomes(BY_PREFIX, "one beginning", each=1):
        assert most(found) <= EVEN


def test_so_do_processes_whose_engines_report_nothing() -> None:
    for found in outcomes(BY_PREFIX, "one beginning", reports=False):
        assert most(found) <= EVEN


def test_so_do_processes_that_ignore_the_prompt() -> None:
    for found in outcomes(BY_LOAD, "one beginning"):
        assert most(found) <= EVEN


@pytest.mark.parametrize("mix", MANY[:2])
def test_prompts_meet_the_engine_of_their_beginning_twice_as_often_as_by_chance(mix: str) -> None:
    for found in outcomes(BY_PREFIX, mix):
        assert found.at_nearest >= 2 / ENGINES


def test_the_more_often_the_fewer_processes_there_are() -> None:
    few, many = (outcomes(BY_PREFIX, MANY[0], processes=processes)[0] for processes in (20, 100))
    assert few.at_nearest > many.at_nearest
    assert few.hits > 1.4 * outcomes(InTurns, MANY[0], processes=20)[0].hits


@pytest.mark.parametrize("mix", ["one beginning", *MANY, "each its own, long and short"])
def test_the_first_token_comes_no_later_than_in_turns(mix: str) -> None:
    ours, turns = (mean([found.slow_seconds for found in outcomes(chooser, mix)]) for chooser in (BY_PREFIX, InTurns))
    assert ours <= 1.05 * turns  # which is less than seeds differ by


async def test_a_hundred_processes_with_one_beginning_share_four_engines() -> None:
    """Real processes, each with a client of its own; the model of the engine is one, too, and reports its load."""
    async with contextlib.AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(loaded_engine()) for _ in range(ENGINES)]
        await run_processes([engine.url for engine in engines], [["common\n"] * 4] * 100)
        requests = [engine.requests for engine in engines]
    assert sum(requests) == 400
    assert max(requests) * ENGINES / sum(requests) <= EVEN, requests
