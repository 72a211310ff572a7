"""Nothing that takes long keeps everything else waiting."""

from __future__ import annotations

import asyncio

from tests.support.resources import as_live, resource
from vllm_operator.api.resource import is_parsed
from vllm_operator.controller.turns import parse_in_turns


async def test_large_resources_of_a_namespace_are_read_in_turns_and_once() -> None:
    """Each may take half a second, in which nothing else is answered."""
    models = [as_live(resource(f"turn-{number}", generation=number + 1)) for number in range(5)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await parse_in_turns(models)
    assert turns >= len(models) - 1
    assert all(is_parsed(model.body) for model in models)
    before = turns
    await parse_in_turns(models)
    assert turns == before
    beside.cancel()
