"""Waiting for what another process does: as short as it takes, and never for ever."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
PATIENCE_SECONDS = 60.0


def until(look: Callable[[], T], *, seconds: float = PATIENCE_SECONDS, what: str = "it") -> T:
    """Look again and again until there is something true to see.

    Raises:
        AssertionError: it did not come; the message holds what was seen last.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {seconds:.0f} s; seen last: {seen!r}")
        time.sleep(0.05)
