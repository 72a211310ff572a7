"""Holding the cache against what the API server lists."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.resources import as_live, resource
from vllm_operator.cluster import sync
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.client import Client, Identity
from vllm_operator.cluster.kinds import MODEL, WATCHED
from vllm_operator.errors import ApiRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.errors import ApiError


class Lister:
    """Lists what it is told to, or refuses to, and counts how often it was asked."""

    def __init__(self, *models: str) -> None:
        self.models = list(models)
        self.refusal: ApiError | None = None
        self.asked: list[Kind] = []

    async def identities(self, kind: Kind, _: str | None = None) -> AsyncIterator[Identity]:
        """What exists."""
        for name in self.models if kind is MODEL else ():
            yield Identity("team", name, f"uid-of-{name}")

    async def check_listable(self, kind: Kind, namespace: str | None) -> None:
        """Whether it lists at all."""
        assert namespace in (None, "team")
        self.asked.append(kind)
        if self.refusal:
            raise self.refusal


def client(lister: Lister) -> Client:
    """The lister, where a client is wanted."""
    return cast("Client", lister)


def listed(cache: Cache, *kinds: Kind, namespace: str | None = None) -> Cache:
    """The cache, after the watches have listed these kinds."""
    for kind in kinds:
        cache.set_listed(kind, namespace, listed=True)
    return cache


async def test_what_the_watches_have_listed_is_known_without_another_request() -> None:
    lister = Lister()
    await sync.wait_until_synced(client(lister), listed(Cache(), *WATCHED))
    assert lister.asked == []


async def test_nothing_is_decided_before_the_watches_have_listed_every_kind() -> None:
    cache, lister = listed(Cache(), *WATCHED[:-1]), Lister()
    waiting = asyncio.create_task(sync.wait_until_synced(client(lister), cache))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    listed(cache, WATCHED[-1])
    async with asyncio.timeout(30):
        await waiting
    assert lister.asked == [WATCHED[-1]]


async def test_a_list_that_begins_anew_is_waited_for_again() -> None:
    cache = listed(Cache(), *WATCHED)
    cache.set_listed(MODEL, None, listed=False)
    waiting = asyncio.create_task(sync.wait_until_synced(client(Lister()), cache))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    listed(cache, MODEL)
    async with asyncio.timeout(30):
        await waiting


async def test_a_namespace_is_known_when_what_is_in_it_was_listed_and_not_when_another_was() -> None:
    cache = listed(Cache(), *WATCHED, namespace="team")
    await sync.wait_until_synced(client(Lister()), cache, "team")
    waiting = asyncio.create_task(sync.wait_until_synced(client(Lister()), cache))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    waiting.cancel()


async def test_a_kind_that_cannot_be_listed_is_an_error_and_not_a_wait_without_end() -> None:
    lister = Lister()
    lister.refusal = ApiRefused("GET", "forbidden")
    with pytest.raises(ApiRefused):
        await sync.wait_until_synced(client(lister), Cache())


async def test_ghosts_are_what_is_cached_and_no_longer_listed() -> None:
    cache = Cache()
    for name in ("qwen", "llama"):
        cache.put(MODEL, as_live(resource(name)))
    found: list[Any] = await sync.stale_objects(client(Lister("llama", "new")), cache)
    assert found == [(MODEL, Key("team", "qwen"), "uid-of-qwen")]
