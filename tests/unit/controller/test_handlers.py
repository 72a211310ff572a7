"""The direct way from kopf's watches to the intake: in order, whole, and past everything that kopf does with events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import kopf
import pytest
from kopf._cogs.clients import watching
from kopf._cogs.structs.references import Resource

from tests.support.resources import child_of, live, resource
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.kinds import CONFIG_MAP, MODEL, WATCHED
from vllm_operator.cluster.queue import NamespaceKey, Queue
from vllm_operator.controller import handlers
from vllm_operator.controller.intake import Intake
from vllm_operator.errors import NoStreamedList

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

QWEN = Key("team", "qwen")
MODELS = Resource(*MODEL.api_version.rpartition("/")[::2], MODEL.plural)
LISTED = watching.Bookmark.LISTED


def event(kind: str | None, body: dict[str, Any]) -> dict[str, Any]:
    """As kopf has it: what was listed has no type."""
    return {"type": kind, "object": body}


def later(body: dict[str, Any], version: int) -> dict[str, Any]:
    """The same object in a later state."""
    return {**body, "metadata": {**body["metadata"], "resourceVersion": str(version)}}


class Ways:
    """A cache and a queue, and what kopf sees of the watches that feed them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.cache, self.queue = Cache(), Queue()
        self.streamed: list[bool] = []
        """Of each list whether it was to be part of its watch."""
        monkeypatch.setattr(watching, "continuous_watch", watching.continuous_watch)  # put back at the end

    async def watch(
        self, *events: Any, resource: Resource = MODELS, namespace: str | None = None, anew: bool = True
    ) -> list[Any]:
        """One list and watch that brings these events, of an operator that begins or of the one before.

        Returns what kopf gets of it.
        """

        def watched(*, settings: kopf.OperatorSettings, **_: Any) -> AsyncIterator[Any]:
            self.streamed.append(settings.watching.initial_streaming)
            return _stream(events)

        self._patch.setattr(handlers, "_watched", watched)
        if anew:
            handlers.take_in(Intake(self.cache, self.queue))
        found = watching.continuous_watch(
            settings=kopf.OperatorSettings(),
            resource=resource,
            namespace=cast("Any", namespace),
            operator_pause_waiter=asyncio.get_running_loop().create_future(),
        )
        return [one async for one in found]


async def _stream(events: Iterable[Any]) -> AsyncIterator[Any]:
    for one in events:
        if isinstance(one, Exception):
            raise one
        yield one


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    """A process that has just begun."""
    return Ways(monkeypatch)


async def test_events_go_into_the_cache_and_kopf_sees_none_of_them(ways: Ways) -> None:
    body = resource()
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "99"}})
    seen = await ways.watch(event(None, body), LISTED, event("MODIFIED", later(body, 50)), bookmark)
    assert seen == [LISTED, bookmark]
    found = ways.cache.get(MODEL, QWEN)
    assert found is not None
    assert found.resource_version == 50
    assert {await ways.queue.get(), await ways.queue.get()} == {QWEN, NamespaceKey("team")}


async def test_what_changes_after_a_list_goes_ahead_of_all_that_the_list_brought(ways: Ways) -> None:
    listed = [event(None, resource(name)) for name in ("llama", "mixtral", "qwen")]
    edited = event("MODIFIED", later(resource(generation=2), 50))
    await ways.watch(*listed, LISTED, edited, event("ADDED", resource("new")))
    got = [await ways.queue.get() for _ in range(len(ways.queue))]
    assert got == [NamespaceKey("team"), QWEN, Key("team", "new"), Key("team", "llama"), Key("team", "mixtral")]


async def test_what_was_edited_while_nobody_watched_goes_ahead_too(ways: Ways) -> None:
    names = ("llama", "qwen")
    await ways.watch(*(event(None, resource(name)) for name in names), LISTED)
    edited = event(None, later(resource(generation=2), 50))
    await ways.watch(event(None, resource("new")), edited, LISTED, anew=False)
    assert [await ways.queue.get(), await ways.queue.get()] == [NamespaceKey("team"), QWEN]


async def test_a_deletion_is_taken_in(ways: Ways) -> None:
    body = resource()
    await ways.watch(event(None, body), LISTED, event("DELETED", later(body, 50)))
    assert ways.cache.get(MODEL, QWEN) is None


async def test_a_kind_is_listed_from_the_end_of_its_list_to_the_beginning_of_the_next(ways: Ways) -> None:
    await ways.watch(event(None, resource()))
    assert not ways.cache.is_listed(MODEL, None)
    await ways.watch(event(None, resource()), LISTED)
    assert ways.cache.is_listed(MODEL, None)
    assert not ways.cache.is_listed(CONFIG_MAP, None)
    await ways.watch()
    assert not ways.cache.is_listed(MODEL, None), "a new list has begun"


async def test_what_a_new_list_no_longer_holds_was_deleted_while_nobody_watched(ways: Ways) -> None:
    await ways.watch(event(None, resource()), event(None, _other("llama")), LISTED)
    await ways.watch(event(None, _other("llama")), event(None, _other("new")), LISTED)
    assert {key.name for key, _ in ways.cache.items(MODEL)} == {"llama", "new"}


async def test_a_list_that_breaks_off_says_nothing_of_what_did_not_come(ways: Ways) -> None:
    await ways.watch(event(None, resource()), event(None, _other("llama")), LISTED)
    await ways.watch(event(None, resource()))
    assert ways.cache.get(MODEL, Key("team", "llama")) is not None


@pytest.mark.parametrize("end", [(), (NoStreamedList("pods: no"),), (event(None, resource()),)])
async def test_what_was_not_listed_in_a_watch_is_listed_in_pages_from_then_on(ways: Ways, end: tuple[Any, ...]) -> None:
    await ways.watch(*end)
    for _ in range(2):
        await ways.watch(event(None, resource()), LISTED, anew=False)
    await ways.watch(LISTED, namespace="other", anew=False)
    assert ways.streamed == [True, False, False, True]
    assert ways.cache.get(MODEL, QWEN) is not None


async def test_a_watch_that_ends_after_its_list_begins_with_one_again(ways: Ways) -> None:
    await ways.watch(event(None, resource()), LISTED)
    await ways.watch(event(None, resource()), LISTED, event("DELETED", later(resource(), 50)), anew=False)
    await ways.watch(LISTED, anew=False)
    assert ways.streamed == [True, True, True]


async def test_kopfs_own_watches_are_left_as_they_are(ways: Ways) -> None:
    await ways.watch(LISTED, resource=Resource("", "v1", "namespaces"))
    assert ways.streamed == [False]


async def test_what_was_written_after_a_list_had_begun_is_not_missed_in_it(ways: Ways) -> None:
    intake = Intake(ways.cache, ways.queue)
    listing = intake.listing(MODEL, None)
    await ways.watch(event(None, resource()))  # as an answer to a write brings it
    listing.end()
    assert ways.cache.get(MODEL, QWEN) is not None


async def test_an_object_that_was_made_anew_under_its_name_stays(ways: Ways) -> None:
    await ways.watch(event(None, resource()), LISTED)
    again = later(resource(), 60)
    again["metadata"] = {**again["metadata"], "uid": "another"}
    await ways.watch(event(None, again), LISTED)
    found = ways.cache.get(MODEL, QWEN)
    assert found is not None
    assert found.uid == "another"


async def test_the_list_of_one_namespace_says_nothing_of_another(ways: Ways) -> None:
    await ways.watch(event(None, resource()), LISTED)
    await ways.watch(LISTED, namespace="other")
    assert ways.cache.get(MODEL, QWEN) is not None
    assert ways.cache.is_listed(MODEL, "other")
    await ways.watch(LISTED, namespace="team")
    assert ways.cache.get(MODEL, QWEN) is None


async def test_an_object_that_cannot_be_read_does_not_end_the_watch_of_all_others(
    ways: Ways, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {"metadata": {"name": "odd"}}
    await ways.watch(event(None, broken), event(None, resource()), LISTED)
    assert ways.cache.get(MODEL, QWEN) is not None
    assert "unexpected, in an event of vllmmodels" in caplog.text


async def test_everything_else_has_its_turn_during_a_long_list(ways: Ways) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await ways.watch(*(event(None, later(resource(), number + 1)) for number in range(500)), LISTED)
    assert turns >= 500 // handlers._BREATH  # noqa: SLF001 # how often is the point
    beside.cancel()


async def test_kopf_gets_the_events_of_all_that_is_not_ours(ways: Ways) -> None:
    namespaces = Resource("", "v1", "namespaces")
    one = event(None, {"metadata": {"name": "team", "uid": "u"}})
    assert await ways.watch(one, LISTED, resource=namespaces) == [one, LISTED]


async def test_a_child_is_known_by_its_kind_where_its_list_does_not_say_it(ways: Ways) -> None:
    child = live(child_of(resource(), "ConfigMap", suffix="-client"))
    config_maps = Resource("", "v1", "configmaps")
    await ways.watch(
        event(None, {name: part for name, part in child.items() if name != "kind"}), LISTED, resource=config_maps
    )
    assert [found.kind for _, found in ways.cache.items(CONFIG_MAP)] == ["ConfigMap"]


def test_every_watched_kind_has_a_handler_without_which_kopf_would_not_watch_it() -> None:
    registry = kopf.OperatorRegistry()
    handlers.register(registry)
    for kind in WATCHED:
        group, _, version = kind.api_version.rpartition("/")
        assert registry._watching.has_handlers(Resource(group, version, kind.plural))  # noqa: SLF001 # as kopf asks


def _other(name: str) -> dict[str, Any]:
    """Another model."""
    body = resource(name)
    return {**body, "metadata": {**body["metadata"], "uid": f"uid-of-{name}"}}
