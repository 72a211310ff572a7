"""When requests have to look around: one timer for all of them, since nearly all are over before their time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vllm_client.balance.failures import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable


class Lookout:
    """Calls those who wait, each at its time, and all of them when engines come or go.

    Args:
        clock: The time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.times: dict[Callable[[], None], float] = {}
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at = NEVER

    def expect(self, look: Callable[[], None], at: float) -> None:
        """Call `look` once at that time, and whenever engines come or go. It must not wait."""
        self.times[look] = at
        if at < self.timer_at:
            self.stop()
            self.timer_at = at
            self.timer = asyncio.get_running_loop().call_later(max(0.0, at - self.clock()), self.due)

    def dismiss(self, look: Callable[[], None]) -> None:
        """Call it no more. The timer stays as it is: setting one for each request would cost more than it is worth."""
        self.times.pop(look, None)

    def call_all(self) -> None:
        """Engines have come or gone."""
        for look in list(self.times):
            look()

    def due(self) -> None:
        """Call those whose time it is, and wait for the next."""
        self.stop()
        now = self.clock()
        for look, at in list(self.times.items()):
            if at <= now:
                self.times[look] = NEVER
                look()
        if self.times:
            look, at = min(self.times.items(), key=lambda item: item[1])
            self.expect(look, at)

    def stop(self) -> None:
        """Wait for nothing."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer, self.timer_at = None, NEVER
