"""The workers: a mistake with one model costs that model a delay, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.resources import as_live, live, resource
from vllm_operator.api import names
from vllm_operator.api.live import LiveObject, live_object
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.kinds import MODEL, POD_MONITOR
from vllm_operator.cluster.queue import NamespaceKey, Queue, QueueKey
from vllm_operator.controller import follow
from vllm_operator.errors import ApiNotFound, ApiUnavailable, OperatorError
from vllm_operator.settings import Settings
from vllm_operator.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vllm_operator.cluster.client import Client, Identity
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.controller.follow import Reconcilers


class Nothing:
    """A client that lists nothing but PodMonitors; None stands for an API server that does not serve them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.monitors: Exception | list[dict[str, Any]] | None = None

    async def objects(self, kind: Kind) -> AsyncIterator[LiveObject]:
        """What there is of an optional kind."""
        assert kind is POD_MONITOR
        if self.monitors is None:
            raise ApiNotFound("GET", "404 page not found")
        if isinstance(self.monitors, Exception):
            raise self.monitors
        for found in self.monitors:
            yield live_object(found, kind="PodMonitor")

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
        self.keys: list[QueueKey] = []

    async def reconcile(self, key: QueueKey) -> float | None:
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
    worker = asyncio.create_task(follow._work(made, cast("Reconcilers", reconciler)))  # noqa: SLF001 # the unit under test
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
    made.cache.put(MODEL, as_live(resource()))
    ready = asyncio.Event()
    task = asyncio.create_task(follow.follow(made, ready))
    async with asyncio.timeout(60):
        await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def monitor(version: int = 20) -> dict[str, Any]:
    """A live PodMonitor of the model, as a list shows it: without its kind."""
    metadata = {"name": "qwen", "namespace": "team", "labels": names.labels("qwen", "engine")}
    found = live({"kind": "PodMonitor", "metadata": metadata})
    found["metadata"]["resourceVersion"] = str(version)
    del found["kind"]
    return found


async def queued(made: follow.Parts) -> set[QueueKey]:
    """What waits to be looked at; it is taken out."""
    found = set()
    while len(made.queue):
        found.add(await made.queue.get())
    for key in found:
        made.queue.done(key)
    return found


QWEN, SHARED = Key("team", "qwen"), NamespaceKey("team")


async def list_optional(made: follow.Parts) -> set[QueueKey]:
    """One look at the optional kinds, and which keys it put into the queue."""
    await follow._list_optional(made)  # noqa: SLF001 # the unit under test
    return await queued(made)


async def test_an_optional_kind_is_found_when_it_comes_and_missed_when_it_goes() -> None:
    client = Nothing()
    made = parts(client)
    made.cache.put(MODEL, as_live(resource()))
    assert await list_optional(made) == set()
    assert not made.cache.serves(POD_MONITOR)
    client.monitors = [monitor()]
    assert await list_optional(made) == {QWEN, SHARED}
    assert made.cache.serves(POD_MONITOR)
    (found,) = made.cache.children("team", "qwen")
    assert found.kind == "PodMonitor"
    assert await list_optional(made) == set(), "an unchanged world costs no look"
    client.monitors = None
    assert await list_optional(made) == {QWEN, SHARED}
    assert made.cache.children("team", "qwen") == ()


async def test_an_object_of_an_optional_kind_that_changed_or_went_concerns_its_model() -> None:
    client = Nothing()
    client.monitors = [monitor()]
    made = parts(client)
    made.cache.put(MODEL, as_live(resource()))
    await list_optional(made)
    client.monitors = [monitor(21)]
    assert await list_optional(made) == {QWEN}
    client.monitors = []
    assert await list_optional(made) == {QWEN}
    assert made.cache.children("team", "qwen") == ()


async def test_a_list_of_an_optional_kind_that_fails_changes_nothing() -> None:
    client = Nothing()
    client.monitors = [monitor()]
    made = parts(client)
    await list_optional(made)
    client.monitors = ApiUnavailable("GET", "down")
    assert await list_optional(made) == set()
    assert made.cache.serves(POD_MONITOR)
    assert len(made.cache.children("team", "qwen")) == 1


async def test_an_object_that_was_written_while_the_list_was_on_its_way_is_kept() -> None:
    made = parts()
    made.cache.put(POD_MONITOR, live_object(monitor(), kind="PodMonitor"))
    made.intake.listed(POD_MONITOR, [], set())
    assert len(made.cache.children("team", "qwen")) == 1


async def test_a_resource_that_the_api_server_does_not_know_ends_the_start() -> None:
    ready = asyncio.Event()
    with pytest.raises(OperatorError, match="install the CustomResourceDefinition"):
        await follow.follow(parts(Nothing(ApiNotFound("GET", "no such resource"))), ready)
    assert not ready.is_set()
