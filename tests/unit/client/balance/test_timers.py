"""One timer for all who wait."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from vllm_client.balance.failures import NEVER
from vllm_client.balance.timers import Timers


class Waiter:
    """Waits to be called."""

    def __init__(self, timers: Timers, seconds: float) -> None:
        self.timers = timers
        self.called = asyncio.Event()
        self.at = timers.clock() + seconds
        timers.wake_at(self.wake, self.at)

    def wake(self) -> None:
        """It is time, and not earlier."""
        assert self.timers.clock() >= self.at
        self.called.set()
        self.timers.forget(self.wake)


async def soon(*waiters: Waiter) -> None:
    async with asyncio.timeout(10):
        for waiter in waiters:
            await waiter.called.wait()


def timer_handles() -> list[Any]:
    loop: Any = asyncio.get_running_loop()
    return [handle for handle in loop._scheduled if not handle.cancelled()]  # noqa: SLF001 - nothing else knows


async def test_each_is_called_at_its_time_whatever_the_order() -> None:
    timers = Timers(time.monotonic)
    await soon(*[Waiter(timers, seconds) for seconds in (0.03, 0.01, 0.02, 0.0, -1.0)])
    assert not timers.times
    assert timers.timer is None


async def test_many_who_wait_have_one_timer_and_those_who_left_set_none() -> None:
    timers = Timers(time.monotonic)
    before = len(timer_handles())
    for _ in range(1000):
        waiter = Waiter(timers, 60)
        timers.forget(waiter.wake)
    Waiter(timers, NEVER)
    assert len(timer_handles()) == before + 1
    timers.stop()
    assert len(timer_handles()) == before


async def test_one_who_has_left_is_not_called_and_holds_nobody_up() -> None:
    timers = Timers(time.monotonic)
    left, stays = Waiter(timers, 0.0), Waiter(timers, 0.02)
    timers.forget(left.wake)
    await soon(stays)
    assert not left.called.is_set()


async def test_all_are_called_when_engines_come_or_go() -> None:
    timers, called = Timers(time.monotonic), list[str]()
    timers.wake_at(lambda: called.append("one"), NEVER)
    timers.wake_at(lambda: called.append("other"), timers.clock() + 60)
    timers.wake_all()
    assert called == ["one", "other"]
    timers.stop()


async def test_one_who_is_called_and_waits_on_without_a_new_time_is_not_called_again_and_again() -> None:
    timers, called = Timers(time.monotonic), list[float]()
    timers.wake_at(lambda: called.append(0), timers.clock())
    waiter = Waiter(timers, 0.02)
    await soon(waiter)
    assert len(called) == 1
