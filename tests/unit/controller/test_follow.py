"""The workers: a mistake with one model costs that model a delay, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from tests.support.resources import resource
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.kinds import MODEL
from vllm_operator.cluster.queue import Queue
from vllm_operator.controller import follow
from vllm_operator.errors import ApiNotFound, ApiUnavailable, OperatorError
from vllm_operator.settings import Settings
from vllm_operator.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vllm_operator.cluster.client import Client, Identity
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.controller.reconcile import Reconciler


class Nothing:
    """A client that lists nothing."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def identities(self, kind: Kind) -> AsyncIterator[Identity]:
        """Nothing, or an error."""
        assert kind.plural
        if self.error:
            raise self.error
        empty: tuple[Identity, ...] = ()
        for nothing in empty:
            yield nothing


class Fickle:
    """A reconciler that answers what it is told to."""

    def __init__(self, *answers: Exception | float | None) -> None:
        self.answers = list(answers)
        self.keys: list[Key] = []

    async def reconcile(self, key: Key) -> float | None:
        """The next answer."""
        self.keys.append(key)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def parts(client: Nothing | None = None) -> follow.Parts:
    """The parts of a process, without a cluster."""
    telemetry = Telemetry(asyncio.Event())
    settings = Settings(workers=1)
    return follow.Parts(settings, cast("Client", client or Nothing()), Cache(), Queue(), telemetry)


async def worked(made: follow.Parts, reconciler: Fickle) -> None:
    """One worker, until all answers are given."""
    worker = asyncio.create_task(follow._work(made, cast("Reconciler", reconciler)))  # noqa: SLF001 # the unit under test
    async with asyncio.timeout(60):
        while reconciler.answers:  # noqa: ASYNC110 # the fake has no event
            await asyncio.sleep(0.005)
    await asyncio.sleep(0)
    assert not worker.done()
    worker.cancel()


@pytest.mark.parametrize(
    "error", [ApiUnavailable("PATCH", "down"), KeyError("a mistake of ours")], ids=["down", "mistake"]
)
async def test_a_failure_is_counted_and_tried_again(error: Exception) -> None:
    made = parts()
    reconciler = Fickle(error, None)
    made.queue.add(Key("team", "qwen"))
    await worked(made, reconciler)
    assert reconciler.keys == [Key("team", "qwen")] * 2
    assert made.telemetry.failures._value.get() == 1  # noqa: SLF001 # prometheus_client offers no other way


async def test_an_appointment_is_kept_and_a_success_without_one_ends_it() -> None:
    made = parts()
    reconciler = Fickle(0.01, None)
    made.queue.add(Key("team", "qwen"))
    await worked(made, reconciler)
    assert len(reconciler.keys) == 2
    assert len(made.queue) == 0


async def test_following_starts_with_everything_that_exists_and_says_so() -> None:
    made = parts()
    made.cache.put(MODEL, resource())
    ready = asyncio.Event()
    task = asyncio.create_task(follow.follow(made, ready))
    async with asyncio.timeout(60):
        await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_resource_that_the_api_server_does_not_know_ends_the_start() -> None:
    ready = asyncio.Event()
    with pytest.raises(OperatorError, match="install the CustomResourceDefinition"):
        await follow.follow(parts(Nothing(ApiNotFound("GET", "no such resource"))), ready)
    assert not ready.is_set()
