"""The same writes made bare: by the operator's own client, with its concurrency, and without any thought.

Two stages work side by side, as harness and operator do in the operated phase: one applies the resources, the other
applies the children and patches the status of those that were made, in the operator's order.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from tests.bench.bodies import Work
    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.client import Client

T = TypeVar("T")


async def apply_resources(client: Client, works: Sequence[Work], concurrency: int) -> None:
    """Apply the resources as fast as it goes."""

    async def apply(work: Work) -> None:
        await client.apply(work.resource, force=True)

    await _spread(works, concurrency, apply)


async def write_all(client: Client, works: Sequence[Work], concurrency: int) -> None:
    """Write the resources, their children and their statuses."""
    made: asyncio.Queue[tuple[Work, LiveObject]] = asyncio.Queue()

    async def apply(work: Work) -> None:
        made.put_nowait((work, await client.apply(work.resource, force=True)))

    async def follow(_: Work) -> None:
        work, model = await made.get()
        await _follow(client, work, model)

    async with asyncio.TaskGroup() as group:
        group.create_task(_spread(works, concurrency, apply))
        group.create_task(_spread(works, concurrency, follow))


async def write_one(client: Client, work: Work) -> None:
    """Write one resource, then its children and its status, one after the other."""
    await _follow(client, work, await client.apply(work.resource, force=True))


async def _follow(client: Client, work: Work, model: LiveObject) -> None:
    for child in work.children_of(model.uid):
        await client.apply(child, force=False)
    await client.patch_status(model, work.status)


async def _spread(items: Iterable[T], concurrency: int, act: Callable[[T], Awaitable[None]]) -> None:
    """Act on every item, on so many at once."""
    rest = iter(items)

    async def work() -> None:
        for item in rest:
            await act(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
