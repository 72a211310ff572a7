"""What the client costs a request.

    python -m tests.bench.client

All ask the same engines in the same run, in an order that is drawn by lot; figures are medians. What a
request costs depends on what the processor did before: two engines that answer at once show the work alone, and two
stub engines what it comes to where both sides sleep meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openai import AsyncOpenAI

from tests.support.servers import stub_server
from vllm_client import VLLMClient
from vllm_client.sampling import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

ROUNDS = 2000
WARM_UP = 40
WAYS = ("openai", "openai over our connections", "vllm_client")
"""The raw OpenAI client, one for each engine; the same over the connections that balance; and all of ours."""
ANSWER = (
    b'{"id":"1","object":"chat.completion","created":1,"model":"tiny","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)


async def overhead(urls: Sequence[str]) -> dict[str, float]:
    """Median seconds of a request, by who makes it: WAYS."""
    lot = random.Random(7)  # noqa: S311 # guards nothing
    raw = [AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) for url in urls]
    arguments: dict[str, Any] = {**DEFAULTS, "max_tokens": 1}
    async with VLLMClient(urls[0], "tiny", engines=urls) as ours:

        async def ask_raw(prompt: str) -> None:
            messages: Any = [{"role": "user", "content": prompt}]
            await lot.choice(raw).chat.completions.create(model="tiny", messages=messages, **arguments)

        async def ask_balanced(prompt: str) -> None:
            messages: Any = [{"role": "user", "content": prompt}]
            await ours.openai.chat.completions.create(model="tiny", messages=messages, **arguments)

        async def ask_ours(prompt: str) -> None:
            await ours.complete(prompt, **arguments)

        ways: dict[str, Callable[[str], Awaitable[None]]] = dict(
            zip(WAYS, (ask_raw, ask_balanced, ask_ours), strict=True)
        )
        taken: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(ROUNDS + WARM_UP):
            for way in lot.sample(WAYS, len(WAYS)):
                start = time.perf_counter()
                await ways[way](f"{number:06}")
                if number >= WARM_UP:
                    taken[way].append(time.perf_counter() - start)
    for client in raw:
        await client.close()
    return {way: statistics.median(seconds) for way, seconds in taken.items()}


async def answer_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Give every request on a connection the same answer."""
    with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(HEAD + ANSWER)


@contextlib.asynccontextmanager
async def instant_server() -> AsyncIterator[str]:
    """An engine that answers at once, in this process: its work adds the same to both clients."""
    server = await asyncio.start_server(answer_at_once, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def told(engines: str, taken: Mapping[str, float]) -> str:
    """One line of the result."""
    raw = taken[WAYS[0]]
    more = [
        f"{way} {seconds * 1e6:.0f} us ({(seconds - raw) * 1e6:+.0f} us, {(seconds / raw - 1) * 100:+.1f} %)"
        for way, seconds in taken.items()
        if way != WAYS[0]
    ]
    return f"{engines}: {WAYS[0]} {raw * 1e6:.0f} us, {', '.join(more)}"


async def main() -> None:
    """Measure and print."""
    async with instant_server() as one, instant_server() as other:
        print(told("engines that answer at once", await overhead([one, other])))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        flags = ("--served-model-name", "tiny")
        urls = [stack.enter_context(stub_server(*flags, folder=Path(folder))).url for _ in range(2)]
        print(told("stub engines", await overhead(urls)))


if __name__ == "__main__":
    asyncio.run(main())
