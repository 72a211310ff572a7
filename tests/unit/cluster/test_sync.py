"""Holding the cache against what the API server lists."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from tests.support.resources import as_live, resource
from vllm_operator.cluster import sync
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.client import Client, Identity
from vllm_operator.cluster.kinds import MODEL, WATCHED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from vllm_operator.cluster.kinds import Kind


class Lister:
    """Lists what it is told to, and counts how often."""

    def __init__(self, *models: str) -> None:
        self.models = list(models)
        self.listings: list[Kind] = []

    async def identities(self, kind: Kind, _: str | None = None) -> AsyncIterator[Identity]:
        """What exists."""
        self.listings.append(kind)
        for name in self.models if kind is MODEL else ():
            yield Identity("team", name, f"uid-of-{name}")


def client(lister: Lister) -> Client:
    """The lister, where a client is wanted."""
    return cast("Client", lister)


async def test_an_empty_cluster_is_known_at_once() -> None:
    lister = Lister()
    await sync.wait_until_synced(client(lister), Cache())
    assert lister.listings == list(WATCHED)


async def test_nothing_is_decided_before_the_watch_has_brought_what_exists() -> None:
    cache, lister = Cache(), Lister("qwen")
    waiting = asyncio.create_task(sync.wait_until_synced(client(lister), cache))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    cache.put(MODEL, as_live(resource()))
    async with asyncio.timeout(30):
        await waiting


async def test_what_is_deleted_while_waiting_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "_LIST_AGAIN_SECONDS", 0.1)
    lister = Lister("qwen")
    waiting = asyncio.create_task(sync.wait_until_synced(client(lister), Cache()))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    lister.models.clear()
    async with asyncio.timeout(30):
        await waiting


async def test_a_deletion_that_the_watch_brought_first_counts_as_known() -> None:
    cache = Cache()
    cache.remove(MODEL, as_live(resource()))
    await sync.wait_until_synced(client(Lister("qwen")), cache)


async def test_ghosts_are_what_is_cached_and_no_longer_listed() -> None:
    cache = Cache()
    for name in ("qwen", "llama"):
        cache.put(MODEL, as_live(resource(name)))
    found: list[Any] = await sync.stale_objects(client(Lister("llama", "new")), cache)
    assert found == [(MODEL, Key("team", "qwen"), "uid-of-qwen")]
