"""What the client costs a request.

    python -m tests.bench.client

Both clients ask stub engines of the same run, in turns; the ratio is of the medians.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openai import AsyncOpenAI

from tests.support.servers import stub_server
from vllm_client import VLLMClient
from vllm_client.client import SAMPLING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.servers import EngineServer

ROUNDS = 2000
WARM_UP = 40


async def overhead(engines: list[EngineServer]) -> tuple[float, float]:
    """Median seconds of a request of a raw OpenAI client for each engine, and of ours, balanced over the engines."""
    urls = [engine.url for engine in engines]
    raw = [AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) for url in urls]
    arguments: dict[str, Any] = {**SAMPLING, "max_tokens": 1}
    async with VLLMClient(urls[0], "tiny", engines=urls) as ours:

        async def ask_raw(number: int) -> None:
            messages: Any = [{"role": "user", "content": f"{number:06}"}]
            await raw[number // 2 % len(raw)].chat.completions.create(model="tiny", messages=messages, **arguments)

        async def ask_ours(number: int) -> None:
            await ours.complete(f"{number:06}", **arguments)

        taken: dict[Callable[[int], Awaitable[None]], list[float]] = {ask_raw: [], ask_ours: []}
        for number in range(ROUNDS + WARM_UP):
            for ask in (ask_raw, ask_ours) if number % 2 else (ask_ours, ask_raw):
                start = time.perf_counter()
                await ask(number)
                if number >= WARM_UP:
                    taken[ask].append(time.perf_counter() - start)
    for client in raw:
        await client.close()
    return statistics.median(taken[ask_raw]), statistics.median(taken[ask_ours])


async def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        flags = ("--served-model-name", "tiny")
        engines = [stack.enter_context(stub_server(*flags, folder=Path(folder))) for _ in range(2)]
        raw, ours = await overhead(engines)
    print(f"request: openai {raw * 1e6:.0f} us, vllm_client {ours * 1e6:.0f} us ({(ours / raw - 1) * 100:+.1f} %)")


if __name__ == "__main__":
    asyncio.run(main())
