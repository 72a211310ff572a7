"""The LeaderWorkerSet of a model as it is now, though no watch brings it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.grouped import SET, grouped, seen, settled
from tests.support.resources import as_live, resource
from vllm_operator.cluster.cache import Cache
from vllm_operator.cluster.kinds import LEADER_WORKER_SET
from vllm_operator.controller.groups import with_groups
from vllm_operator.errors import ApiNotFound, ApiNotServed, ApiRefused

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.errors import ApiError
    from vllm_operator.planner.plan import Observation


class Answers:
    """A client that answers one question."""

    def __init__(self, answer: dict[str, Any] | ApiError) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> LiveObject:
        """What it was told to say."""
        self.asked.append(f"{kind.kind} {namespace}/{name}")
        if isinstance(self.answer, dict):
            return as_live(self.answer)
        raise self.answer


def looked(client: Answers, cache: Cache, before: Observation) -> Observation:
    """The observation after the look."""
    return asyncio.run(with_groups(cast("Client", client), cache, before))


def test_a_model_of_one_pod_costs_no_call() -> None:
    client = Answers(ApiNotFound("GET", "not found"))
    before = seen(resource())
    assert looked(client, Cache(), before) is before
    assert client.asked == []


def test_the_set_is_read_as_it_is_now_and_its_kind_is_known_to_be_there() -> None:
    newer = settled(grouped(replicas=3))[SET]
    newer["metadata"]["resourceVersion"] = "50"
    cache, client = Cache(), Answers(newer)
    found = looked(client, cache, seen(grouped(), settled(grouped()), served=False))
    assert client.asked == ["LeaderWorkerSet team/qwen"]
    assert found.children[SET].body["spec"]["replicas"] == 3
    assert found.leader_worker_sets
    assert cache.serves(LEADER_WORKER_SET)


@pytest.mark.parametrize(("error", "served"), [(ApiNotFound, True), (ApiNotServed, False)])
def test_a_set_that_is_gone_is_gone_with_its_kind_or_without(error: type[ApiError], *, served: bool) -> None:
    cache = Cache()
    found = looked(Answers(error("GET", "not found")), cache, seen(grouped(), settled(grouped())))
    assert SET not in found.children
    assert found.leader_worker_sets is served


def test_where_the_api_server_does_not_say_what_was_known_stands() -> None:
    cache = Cache()
    cache.set_served(LEADER_WORKER_SET, served=True)
    found = looked(Answers(ApiRefused("GET", "forbidden")), cache, seen(grouped(), settled(grouped())))
    assert SET in found.children
    assert found.leader_worker_sets
