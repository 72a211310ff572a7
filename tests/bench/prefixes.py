"""Prompts that begin alike, on four real engines with prefix caching: how often they meet a cache that has them.

    python -m tests.bench.prefixes

Each way of choosing an engine gets prompts of its own, so that it finds caches full of others' prompts. An engine's
cache holds a share of the beginnings only, as one in production does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.servers import real_server
from vllm_client import VLLMClient
from vllm_client.balance.policy import BalancePolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from tests.support.servers import EngineServer
    from vllm_client import LLMClient

ENGINES, BEGINNINGS, REQUESTS, IN_FLIGHT = 4, 32, 640, 4
BEGINNING_TOKENS, END_TOKENS = 1536, 64
"""The model's tokens are bytes."""
BLOCK_TOKENS = 128
REMEMBERED = 10
"""Beginnings that fit into the cache of one engine, what is in flight included."""
BLOCKS = REMEMBERED * BEGINNING_TOKENS // BLOCK_TOKENS
FLAGS = ("--served-model-name", "tiny", "--max-model-len", "2048", "--num-gpu-blocks-override", str(BLOCKS))


class Turns:
    """A plain client for each engine, which are chosen in turns or by chance."""

    def __init__(self, urls: Sequence[str], chance: random.Random | None) -> None:
        self.clients = [VLLMClient(url, "tiny") for url in urls]
        self.order: Iterator[VLLMClient] = (
            itertools.cycle(self.clients)
            if chance is None
            else (chance.choice(self.clients) for _ in itertools.count())
        )

    async def complete(self, prompt: str, **kwargs: Any) -> str:
        """The answer of the next one."""
        return await next(self.order).complete(prompt, **kwargs)

    async def close(self) -> None:
        """Close the connections."""
        for client in self.clients:
            await client.close()


@dataclass(frozen=True)
class Figures:
    """What came of one way of choosing.

    Attributes:
        hits: Share of the prompts' tokens that were in a cache.
        median_seconds: Until the first token.
        slow_seconds: The same, of the slowest of 20.
    """

    hits: float
    median_seconds: float
    slow_seconds: float

    def __str__(self) -> str:
        median, slow = self.median_seconds * 1e3, self.slow_seconds * 1e3
        return f"{self.hits:4.0%} hits, first token after {median:.0f} ms, p95 {slow:.0f} ms"


def prompts(name: str) -> list[str]:
    """Prompts in an order of chance, with beginnings that no other name has."""
    chance = random.Random(name)  # noqa: S311 - a workload that can be repeated
    beginnings = ["".join(chance.choices("abcdefgh ", k=BEGINNING_TOKENS)) for _ in range(BEGINNINGS)]
    return [chance.choice(beginnings) + "".join(chance.choices("abcdefgh ", k=END_TOKENS)) for _ in range(REQUESTS)]


async def seconds_to_first_token(llm: LLMClient, todo: Sequence[str]) -> list[float]:
    """Ask for one token of each prompt, IN_FLIGHT at a time."""
    waiting, found = iter(todo), []

    async def work() -> None:
        for prompt in waiting:
            start = time.perf_counter()
            await llm.complete(prompt, max_tokens=1)
            found.append(time.perf_counter() - start)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return found


def counted(engines: Sequence[EngineServer]) -> tuple[float, float]:
    """Tokens that were looked for in the caches, and those that were there."""
    names = ("prefix_cache_queries_total", "prefix_cache_hits_total")
    queries, hits = (sum(engine.metric(name) for engine in engines) for name in names)
    return queries, hits


@contextlib.asynccontextmanager
async def ways(urls: Sequence[str]) -> AsyncIterator[dict[str, LLMClient]]:
    """The ways of choosing an engine."""
    turns, chance = Turns(urls, None), Turns(urls, random.Random(3))  # noqa: S311 - as above
    policy = BalancePolicy(strategy="least_outstanding")
    try:
        async with (
            VLLMClient(urls[0], "tiny", engines=urls) as ours,
            VLLMClient(urls[0], "tiny", engines=urls, balance=policy) as least,
        ):
            yield {"by prefix": ours, "by load": least, "in turns": turns, "by chance": chance}
    finally:
        await turns.close()
        await chance.close()


async def measure(engines: Sequence[EngineServer]) -> dict[str, Figures]:
    """Each way of choosing on the same engines."""
    found = {}
    async with ways([engine.url for engine in engines]) as known:
        for name, llm in known.items():
            before = counted(engines)
            seconds = sorted(await seconds_to_first_token(llm, prompts(name)))
            after = counted(engines)
            hits = (after[1] - before[1]) / (after[0] - before[0])
            found[name] = Figures(hits, statistics.median(seconds), seconds[int(len(seconds) * 0.95)])
    return found


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        engines = [stack.enter_context(real_server(*FLAGS, folder=Path(folder))) for _ in range(ENGINES)]
        found = asyncio.run(measure(engines))
    for name, figures in found.items():
        print(f"{name:10} {figures}")


if __name__ == "__main__":
    main()
