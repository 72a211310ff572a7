"""Many processes that each ask engines one request after the other: `python -m tests.support.client_processes < JOB`.

They are forked from one that has imported the client and keeps nothing of it, and begin together.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

from vllm_client import BalancePolicy, VLLMClient, VLLMError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECONDS = 300.0
"""For all that one process asks; then it ends, whatever it waits for."""
IN_TURNS = "in turns"
"""A way of choosing: each process goes round the engines, in an order of its own. The others are strategies."""


async def run_processes(urls: Sequence[str], prompts: Sequence[Sequence[str]], way: str = "prefix") -> None:
    """Let a process for each of these lists ask its prompts, and wait until all are answered."""
    job = json.dumps({"urls": list(urls), "prompts": prompts, "way": way})
    program = (sys.executable, "-m", "tests.support.client_processes")
    running = await asyncio.create_subprocess_exec(*program, stdin=asyncio.subprocess.PIPE)
    try:
        await running.communicate(job.encode())
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    assert running.returncode == 0, f"{running.returncode} of {len(prompts)} processes failed"


async def ask(urls: Sequence[str], prompts: Sequence[str], way: str) -> None:
    """Ask one prompt after the other."""
    if way == IN_TURNS:
        clients = [VLLMClient(url, "m", timeout=SECONDS) for url in random.sample(urls, len(urls))]
    else:
        policy = BalancePolicy(strategy=way)
        clients = [VLLMClient(urls[0], "m", engines=urls, balance=policy, timeout=SECONDS)]
    for client, prompt in zip(itertools.cycle(clients), prompts, strict=False):
        await client.complete(prompt, max_tokens=1)
    for client in clients:
        await client.close()


async def import_all() -> None:
    """Import what the first request imports: it takes most of a second."""
    async with VLLMClient("http://127.0.0.1:9", "m", engines=["http://127.0.0.1:9"], max_retries=0) as client:
        with contextlib.suppress(VLLMError):
            await client.complete("")


def forked(work: Callable[[], None]) -> int:
    """The number of a process that does the work."""
    number = os.fork()
    if number:
        return number
    signal.alarm(int(SECONDS))
    try:
        work()
    except Exception:  # noqa: BLE001 - the end of the process, which must not go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main(job: dict[str, Any]) -> int:
    """How many processes failed. Each begins once the pipe is closed by all others: when all are there."""
    asyncio.run(import_all())
    start, starter = os.pipe()

    def child(prompts: Sequence[str]) -> int:
        def work() -> None:
            os.close(starter)
            os.read(start, 1)
            asyncio.run(ask(job["urls"], prompts, job["way"]))

        return forked(work)

    numbers = [child(prompts) for prompts in job["prompts"]]
    os.close(starter)
    return sum(os.waitpid(number, 0)[1] != 0 for number in numbers)


if __name__ == "__main__":
    sys.exit(main(json.load(sys.stdin)))
