"""When requests have something to decide: one timer for all of them, since nearly all are over before their time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vllm_client.balance.failures import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable


class Timers:
    """Wakes those who wait, each at its time, and all of them when engines come or go.

    Args:
        clock: The time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.times: dict[Callable[[], None], float] = {}
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at = NEVER

    def wake_at(self, wake: Callable[[], None], at: float) -> None:
        """Call `wake` once at that time, and whenever engines come or go. It must not wait."""
        self.times[wake] = at
        if at < self.timer_at:
            self.stop()
            self.timer_at = at
            self.timer = asyncio.get_running_loop().call_later(max(0.0, at - self.clock()), self.wake_due)

    def forget(self, wake: Callable[[], None]) -> None:
        """Call it no more. The timer stays as it is: setting one for each request would cost more than it is worth."""
        self.times.pop(wake, None)

    def wake_all(self) -> None:
        """Engines have come or gone."""
        for wake in list(self.times):
            wake()

    def wake_due(self) -> None:
        """Wake those whose time it is, and wait for the next."""
        self.stop()
        now = self.clock()
        for wake, at in list(self.times.items()):
            if at <= now:
                self.times[wake] = NEVER
                wake()
        if self.times:
            wake, at = min(self.times.items(), key=lambda item: item[1])
            self.wake_at(wake, at)

    def stop(self) -> None:
        """Wait for nothing."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer, self.timer_at = None, NEVER
