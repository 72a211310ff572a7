"""Ending tasks for certain, though a cancellation can get lost.

Who is cancelled may swallow it: a request that times out just then, or a watch of kopf that is about to begin anew (its
`streaming_block` suppresses the cancellation of its own waiter, and with it one that is meant for the watch).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

_CANCEL_AGAIN_SECONDS: Final = 1.0


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_SECONDS)


async def run_with_descendants(main: Coroutine[Any, Any, None]) -> None:
    """Run what cancels, as it is cancelled itself, each of the tasks that were begun meanwhile, and waits for them.

    kopf does so once for each and waits without a limit. Here they are cancelled until they have ended.
    """
    before = asyncio.all_tasks()
    running = asyncio.create_task(main)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        running.cancel()
        while not running.done():
            await asyncio.wait({running}, timeout=_CANCEL_AGAIN_SECONDS)
            for task in asyncio.all_tasks() - before - {running}:
                task.cancel()
        raise
