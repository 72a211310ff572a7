"""Waiting for what another process does: as short as it takes, and never for ever."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 0.5
PAUSE_SHARE = 0.05


def until(look: Callable[[], T], *, seconds: float = PATIENCE_SECONDS, what: str = "it", closely: bool = False) -> T:
    """Look again and again until there is something true to see.

    Some looks start a program, kubectl for one, which takes half a core where they follow each other closely: as much
    as the engine that is waited for misses then. So the pauses grow with the wait, of which they are a twentieth.

    Args:
        look: What is asked.
        seconds: How long.
        what: What is waited for, for the error.
        closely: The pauses stay short, since each look also asserts what has to be true all the time.

    Raises:
        AssertionError: it did not come; the message holds what was seen last.
    """
    began = time.monotonic()
    while True:
        seen = look()
        if seen:
            return seen
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(f"{what} did not come within {seconds:.0f} s; seen last: {seen!r}")
        pause = 0.0 if closely else min(LONGEST_PAUSE_SECONDS, waited * PAUSE_SHARE)
        time.sleep(max(SHORTEST_PAUSE_SECONDS, pause))
