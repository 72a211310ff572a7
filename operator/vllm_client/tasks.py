"""End what was started, also while one is being ended oneself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have cleaned up; what they still return or raise interests nobody.

    Who is cancelled meanwhile waits all the same, and is cancelled then.
    """
    for task in tasks:
        task.cancel()
    await _done(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # or the loop would tell that nobody has asked for it


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Do something to its end, which gives back what others wait for; who is cancelled meanwhile is cancelled then.

    Raises:
        Exception: What the work raises.
    """
    task = asyncio.create_task(work)
    await _done([task])
    task.result()


async def _done(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Wait until all are done."""
    cancelled: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
