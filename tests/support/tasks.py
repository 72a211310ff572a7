"""Tasks that behave oddly, for tests of what ends tasks."""

from __future__ import annotations

import asyncio
import contextlib


async def deaf_once(begun: asyncio.Event) -> None:
    """Goes on after its first cancellation."""
    begun.set()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    await asyncio.Event().wait()
