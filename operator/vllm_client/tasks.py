"""End what was started, also while one is being ended oneself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Coroutine

T = TypeVar("T")


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


class Interruptible(Generic[T]):
    """Awaits something in the caller's own task until that is interrupted; a task of its own would cost more.

    The interruption is told from the caller's own cancellation as asyncio.timeout does it, which itself costs more too.
    """

    __slots__ = ("_caller", "_interrupted")

    def __init__(self) -> None:
        self._caller: asyncio.Task[object] | None = None
        self._interrupted = False

    async def run(self, work: Awaitable[T]) -> T | None:
        """What comes of it; None where it was interrupted."""
        self._caller = caller = cast("asyncio.Task[object]", asyncio.current_task())
        cancellations = caller.cancelling()
        try:
            return await work
        except asyncio.CancelledError:
            if self._interrupted and caller.cancelling() == cancellations + 1:
                return None
            raise
        finally:
            self._caller = None
            if self._interrupted:
                caller.uncancel()

    def interrupt(self) -> None:
        """End it, if it is still running."""
        if self._caller is not None and not self._interrupted:
            self._interrupted = True
            self._caller.cancel()
