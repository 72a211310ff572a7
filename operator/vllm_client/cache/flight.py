"""Calls with the same key that overlap are made once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vllm_client.tasks import end

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


@dataclass
class Flight(Generic[T]):
    """A call under way, and how many wait for it."""

    task: asyncio.Task[T]
    waiting: int = 0


class SingleFlight(Generic[T]):
    """Shares calls under way.

    Who gives up leaves the others alone; the call is cancelled when nobody waits any more. A call belongs to its event
    loop: nobody waits in another one, or in a process that was forked meanwhile, for what never ends there.
    """

    def __init__(self) -> None:
        self._flights: dict[str, Flight[T]] = {}

    def has(self, key: str) -> bool:
        """Whether such a call is under way here."""
        return self._here(key) is not None

    async def run(self, key: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the call under way with this key returns or raises; a new call if there is none."""
        flight = self._here(key)
        if flight is None:
            flight = self._flights[key] = Flight(asyncio.create_task(call()))
            flight.task.add_done_callback(lambda _: self._forget(key, flight))
        flight.waiting += 1
        try:
            await asyncio.wait([flight.task])
        except asyncio.CancelledError:
            if flight.waiting == 1:
                self._forget(key, flight)
                await end(flight.task)
            raise
        finally:
            flight.waiting -= 1
        return flight.task.result()

    def _here(self, key: str) -> Flight[T] | None:
        """The call under way with this key in the running loop."""
        flight = self._flights.get(key)
        if flight is None or flight.task.get_loop() is not asyncio.get_running_loop():
            return None
        return flight

    def _forget(self, key: str, flight: Flight[T]) -> None:
        """Let the next call with this key be a new one."""
        if self._flights.get(key) is flight:
            del self._flights[key]
