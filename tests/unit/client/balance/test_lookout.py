"""One timer for all who wait."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from vllm_client.balance.failures import NEVER
from vllm_client.balance.lookout import Lookout


class Waiter:
    """Waits to be called."""

    def __init__(self, lookout: Lookout, seconds: float) -> None:
        self.lookout = lookout
        self.called = asyncio.Event()
        self.at = lookout.clock() + seconds
        lookout.expect(self.look, self.at)

    def look(self) -> None:
        """It is time, and not earlier."""
        assert self.lookout.clock() >= self.at
        self.called.set()
        self.lookout.dismiss(self.look)


async def soon(*waiters: Waiter) -> None:
    async with asyncio.timeout(10):
        for waiter in waiters:
            await waiter.called.wait()


def timers() -> list[Any]:
    loop: Any = asyncio.get_running_loop()
    return [handle for handle in loop._scheduled if not handle.cancelled()]  # noqa: SLF001 - nothing else knows


async def test_each_is_called_at_its_time_whatever_the_order() -> None:
    lookout = Lookout(time.monotonic)
    await soon(*[Waiter(lookout, seconds) for seconds in (0.03, 0.01, 0.02, 0.0, -1.0)])
    assert not lookout.times
    assert lookout.timer is None


async def test_many_who_wait_have_one_timer_and_those_who_left_set_none() -> None:
    lookout = Lookout(time.monotonic)
    before = len(timers())
    for _ in range(1000):
        waiter = Waiter(lookout, 60)
        lookout.dismiss(waiter.look)
    Waiter(lookout, NEVER)
    assert len(timers()) == before + 1
    lookout.stop()
    assert len(timers()) == before


async def test_one_who_has_left_is_not_called_and_holds_nobody_up() -> None:
    lookout = Lookout(time.monotonic)
    left, stays = Waiter(lookout, 0.0), Waiter(lookout, 0.02)
    lookout.dismiss(left.look)
    await soon(stays)
    assert not left.called.is_set()


async def test_all_are_called_when_engines_come_or_go() -> None:
    lookout, called = Lookout(time.monotonic), list[str]()
    lookout.expect(lambda: called.append("one"), NEVER)
    lookout.expect(lambda: called.append("other"), lookout.clock() + 60)
    lookout.call_all()
    assert called == ["one", "other"]
    lookout.stop()


async def test_one_who_is_called_and_waits_on_without_a_new_time_is_not_called_again_and_again() -> None:
    lookout, called = Lookout(time.monotonic), list[float]()
    lookout.expect(lambda: called.append(0), lookout.clock())
    waiter = Waiter(lookout, 0.02)
    await soon(waiter)
    assert len(called) == 1
