"""Holding the cache against what the API server lists."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from tests.support.resources import as_live, resource
from vllm_operator.cluster import sync
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.client import Client, Identities, Identity
from vllm_operator.cluster.kinds import MODEL, WATCHED
from vllm_operator.cluster.sync import Drift
from vllm_operator.errors import ApiNotFound, ApiRefused, StoreWentBack

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.errors import ApiError


class Lister:
    """Lists what it is told to, or refuses to, and counts how often it was asked."""

    def __init__(self, *models: LiveObject, moment: int = 0) -> None:
        self.models = list(models)
        self.shown: list[Identity] = []
        """What its lists show and it does not hold."""
        self.moment = moment
        """The version of its lists."""
        self.read: list[str] = []
        self.refusal: ApiError | None = None
        self.asked: list[Kind] = []

    async def identities(self, kind: Kind, _: str | None = None) -> Identities:
        """What exists."""
        models = (live for live in self.models if kind is MODEL)
        found = (Identity(live.namespace, live.name, live.uid, live.resource_version) for live in models)
        return Identities(self.moment if kind is MODEL else 0, (*found, *(self.shown if kind is MODEL else ())))

    async def get(self, kind: Kind, namespace: str, name: str) -> LiveObject:
        """One of them."""
        assert (kind, namespace) == (MODEL, "team")
        self.read.append(name)
        for live in self.models:
            if live.name == name:
                return live
        raise ApiNotFound("GET", "not found")

    async def check_listable(self, kind: Kind, namespace: str | None) -> None:
        """Whether it lists at all."""
        assert namespace in (None, "team")
        self.asked.append(kind)
        if self.refusal:
            raise self.refusal


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is on its way for long."""
    monkeypatch.setattr(sync, "ON_ITS_WAY_SECONDS", 0.0)


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


def seen(name: str, version: int) -> LiveObject:
    """A model in a version."""
    raw = resource(name)
    raw["metadata"]["resourceVersion"] = str(version)
    return as_live(raw)


def cache_of(*known: LiveObject) -> Cache:
    """A cache that holds these models."""
    cache = Cache()
    for live in known:
        cache.put(MODEL, live)
    return cache


async def models_drift(lister: Lister, cache: Cache) -> Drift | None:
    """What the cache has wrong of models; None where their list says nothing."""
    found = await sync.drift(client(lister), cache)
    return next((one for one in found if one.kind is MODEL), None)


async def read(lister: Lister, cache: Cache) -> tuple[list[LiveObject], bool]:
    """What is read of what was missed."""
    return await sync.read_missed(client(lister), cache, await sync.drift(client(lister), cache))


async def test_what_is_cached_and_no_longer_listed_is_gone() -> None:
    cache = cache_of(seen("qwen", 10), seen("llama", 11))
    found = await models_drift(Lister(seen("llama", 11)), cache)
    assert found == Drift(MODEL, ((Key("team", "qwen"), "uid-of-qwen"),), ())


async def test_an_unchanged_world_is_read_by_its_lists_alone() -> None:
    lister = Lister(seen("qwen", 10), moment=10)
    assert await read(lister, cache_of(seen("qwen", 10))) == ([], True)
    assert lister.read == []


async def test_what_is_listed_and_not_cached_or_listed_in_a_newer_version_is_read() -> None:
    lister = Lister(seen("qwen", 12), seen("llama", 10), seen("new", 11), moment=12)
    assert await read(lister, cache_of(seen("qwen", 9), seen("llama", 10))) == (
        [seen("qwen", 12), seen("new", 11)],
        True,
    )
    assert lister.read == ["qwen", "new"]


async def test_what_a_watch_brings_a_moment_later_is_not_read() -> None:
    lister, cache = Lister(seen("qwen", 12), moment=12), cache_of(seen("qwen", 9))
    found = await sync.drift(client(lister), cache)
    cache.put(MODEL, seen("qwen", 13))
    assert await sync.read_missed(client(lister), cache, found) == ([], True)
    cache.remove(MODEL, seen("qwen", 14))
    assert await sync.read_missed(client(lister), cache, found) == ([], True)
    assert lister.read == []


async def test_what_is_gone_by_the_time_it_is_read_is_no_news() -> None:
    lister = Lister()
    lister.shown = [Identity("team", "qwen", "uid-of-qwen", 10)]
    assert await read(lister, Cache()) == ([], True)


async def test_more_than_one_look_reads_is_left_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "MOST_READ", 2)
    lister = Lister(*(seen(name, 10) for name in "abc"))
    found, complete = await read(lister, Cache())
    assert [live.name for live in found] == ["a", "b"]
    assert not complete


async def test_an_object_that_was_taken_for_deleted_by_mistake_is_read() -> None:
    cache = cache_of(seen("qwen", 10))
    cache.remove(MODEL, seen("qwen", 10))
    assert (await read(Lister(seen("qwen", 10), moment=12), cache))[0] == [seen("qwen", 10)]


@pytest.mark.parametrize("moment", [0, 9, 20], ids=["unsaid", "older", "newer"])
async def test_a_list_of_older_versions_than_those_of_the_store_says_nothing(moment: int) -> None:
    lister = Lister(seen("llama", 12), moment=moment)
    lister.shown = [Identity("team", "llama", "uid-of-llama", 8)]
    cache = cache_of(seen("qwen", 9), seen("llama", 12))
    assert await models_drift(lister, cache) is None
    assert lister.read == ["llama"], "the store is asked itself"
    assert cache.get(MODEL, Key("team", "qwen")), "nobody said that it is gone"


async def test_a_list_of_an_older_moment_than_the_newest_object_says_nothing() -> None:
    lister = Lister(seen("new", 12), moment=9)
    lister.models.append(seen("qwen", 8))
    assert await models_drift(lister, cache_of(seen("qwen", 8), seen("new", 12))) is None
    assert lister.read == ["new"]


async def test_a_list_of_an_older_moment_says_nothing_of_an_object_that_was_deleted_since() -> None:
    lister = Lister(seen("new", 12))
    lister.shown = [Identity("team", "qwen", "uid-of-qwen", 8)]
    cache = cache_of(seen("qwen", 9), seen("new", 12))
    cache.remove(MODEL, seen("qwen", 11))
    assert await models_drift(lister, cache) is None


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ((seen("qwen", 5),), "VLLMModel team/qwen has version 5 and had version 10 before: .* went back in time"),
        ((seen("qwen", 5), seen("new", 11)), "has version 5 and had version 10"),
        ((), "VLLMModel team/qwen is not there and had version 10"),
    ],
    ids=["older", "older-beside-newer", "made-since"],
)
async def test_a_store_that_holds_less_than_it_did_went_back_in_time(
    held: tuple[LiveObject, ...], message: str
) -> None:
    with pytest.raises(StoreWentBack, match=message):
        await sync.drift(client(Lister(*held, moment=5)), cache_of(seen("qwen", 10)))


async def test_a_store_that_holds_again_what_was_deleted_went_back_in_time() -> None:
    cache = cache_of(seen("qwen", 10))
    cache.remove(MODEL, seen("qwen", 12))
    with pytest.raises(StoreWentBack, match="has version 10 and had version 12 before"):
        await sync.drift(client(Lister(seen("qwen", 10))), cache)


async def test_a_successor_of_the_same_name_is_no_older_state_of_the_object() -> None:
    other = seen("qwen", 12)
    lister = Lister(replace(other, uid="another"), moment=12)
    found = await models_drift(lister, cache_of(seen("qwen", 10)))
    assert found is not None
    assert [key.name for key, _ in found.gone] == [one.name for one in found.missed] == ["qwen"]
