"""A hundred processes on four engines: how even the load is, and how often prompts meet a cache that has their start.

    python -m tests.bench.herding

Each process has a client of its own and asks one request after the other. The engines are models
(tests/support/loaded_engine.py), since four real ones under that load are more than the machine can do; `prefixes`
measures the hits on real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.client_processes import IN_TURNS, run_processes
from tests.support.loaded_engine import BEGINNINGS, loaded_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.loaded_engine import LoadedEngine

ENGINES, PROCESSES, REQUESTS = 4, 100, 24
WAYS = {"in turns": IN_TURNS, "by prefix": "prefix", "by load": "least_outstanding"}
MIXES = ("one beginning", f"{BEGINNINGS} beginnings", "half have one beginning", "each its own")
HEADINGS = ("beginnings", "engine chosen", "most requests to mean", "load to mean", "hits", "first token", "p95")


@dataclass(frozen=True)
class Figures:
    """What came of one way of choosing.

    Attributes:
        requests: At the engine with most, to the mean.
        load: Requests times seconds at the engine with most, to the mean.
        hits: Share of the prompts whose beginning was in the engine's cache.
        median_seconds: Until the first token.
        slow_seconds: The same, of the slowest of 20.
    """

    requests: float
    load: float
    hits: float
    median_seconds: float
    slow_seconds: float

    def cells(self) -> tuple[str, ...]:
        """As they stand in the table."""
        seconds = (f"{self.median_seconds * 1e3:.0f} ms", f"{self.slow_seconds * 1e3:.0f} ms")
        return (f"{self.requests:.2f}", f"{self.load:.2f}", f"{self.hits:.0%}", *seconds)


def prompts(mix: str) -> list[list[str]]:
    """The prompts of each process, in an order of chance that repeats."""
    chance = random.Random(mix)  # noqa: S311 - a workload that can be repeated

    def beginning(number: int) -> str:
        one = "x" * 300
        some = f"{chance.randrange(BEGINNINGS):<300}"
        own = f"own {number:<300}"
        return {MIXES[0]: one, MIXES[1]: some, MIXES[2]: chance.choice((one, some)), MIXES[3]: own}[mix]

    return [[f"{beginning(process * REQUESTS + n)}\n{n}" for n in range(REQUESTS)] for process in range(PROCESSES)]


def ratio(values: Sequence[float]) -> float:
    """The most to the mean."""
    return max(values) / statistics.fmean(values)


def figures(engines: Sequence[LoadedEngine]) -> Figures:
    """What was seen."""
    seconds = sorted(second for engine in engines for second in engine.first_token_seconds)
    return Figures(
        requests=ratio([engine.requests for engine in engines]),
        load=ratio([engine.outstanding_seconds for engine in engines]),
        hits=sum(engine.hits for engine in engines) / len(seconds),
        median_seconds=statistics.median(seconds),
        slow_seconds=seconds[int(len(seconds) * 0.95)],
    )


async def measure(mix: str, way: str, *, reports: bool = True) -> Figures:
    """One way of choosing on engines of its own."""
    async with contextlib.AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(loaded_engine(report=reports)) for _ in range(ENGINES)]
        await run_processes([engine.url for engine in engines], prompts(mix), way)
        return figures(engines)


async def main() -> None:
    """Measure and print."""
    print(f"{PROCESSES} processes with one request each at a time, {ENGINES} engines")
    print(row(HEADINGS))
    for mix in MIXES:
        for name, way in WAYS.items():
            print(row((mix, name, *(await measure(mix, way)).cells())), flush=True)
        told = (mix, "by prefix, no reports", *(await measure(mix, "prefix", reports=False)).cells())
        print(row(told), flush=True)


def row(cells: Sequence[str]) -> str:
    """A row of the table."""
    widths = (24, 22, 22, 13, 5, 12, 8)
    return "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)) + " |"


if __name__ == "__main__":
    asyncio.run(main())
