"""Tasks end for certain, also those that lose a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.tasks import deaf_once
from vllm_operator.controller import cancelling
from vllm_operator.controller.cancelling import cancel_and_wait, run_with_descendants


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "_CANCEL_AGAIN_SECONDS", 0.01)


async def test_a_task_is_cancelled_until_it_has_ended() -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(deaf_once(begun))
    await begun.wait()
    async with asyncio.timeout(60):
        await cancel_and_wait([task])
    assert task.cancelled()


async def test_what_waits_for_a_descendant_that_lost_a_cancellation_ends_and_leaves_older_tasks_alone() -> None:
    begun, older = asyncio.Event(), asyncio.create_task(asyncio.Event().wait())
    children = []

    async def cancels_once() -> None:
        children.append(asyncio.create_task(deaf_once(begun)))
        try:
            await asyncio.Event().wait()
        finally:
            children[0].cancel()
            await asyncio.wait(children)

    task = asyncio.create_task(run_with_descendants(cancels_once()))
    await begun.wait()
    task.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert children[0].cancelled()
    assert not older.done()
    older.cancel()


async def test_an_error_of_what_runs_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await run_with_descendants(fails())
