"""What is known of lists and watches, and how the answers to them are taken."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.servers import free_port
from vllm_operator.cluster import watches
from vllm_operator.cluster.kinds import MODEL, POD
from vllm_operator.cluster.remedies import Outage
from vllm_operator.cluster.watches import PatientWatch, Place, Watches, watched_place
from vllm_operator.errors import NoStreamedList

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


MODELS, PODS = Place(MODEL), Place(POD)
SECONDS = 20.0


class Clock:
    """Time that a test moves, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_one_failure_is_no_trouble_and_a_second_one_is_until_it_is_over() -> None:
    found = Watches(Clock())
    found.failed(MODELS, "429")
    assert found.troubles == {}
    found.failed(MODELS, "404")
    found.failed(PODS, "403")
    assert found.troubles == {"vllmmodels": "404"}
    found.succeeded(MODELS)
    assert found.troubles == {}


def test_only_after_a_time_without_a_watch_deletions_may_be_lost() -> None:
    found = Watches(Clock())
    found.failed(MODELS, "410")
    found.succeeded(MODELS)
    assert not found.recovered.is_set()
    for _ in range(2):
        found.failed(MODELS, "404")
    found.succeeded(MODELS)
    assert found.recovered.is_set()


def test_tries_get_rarer_and_begin_anew_only_when_all_has_been_well_for_a_while() -> None:
    clock = Clock()
    found = Watches(clock)
    delays = [found.failed(MODELS, "404") for _ in range(20)]
    assert delays[0] <= watches.FIRST_DELAY_SECONDS
    assert watches.LONGEST_DELAY_SECONDS / 2 <= delays[-1] <= watches.LONGEST_DELAY_SECONDS
    assert found.failed(MODELS, "429", retry_after=30) >= 30
    found.succeeded(MODELS)
    assert found.failed(MODELS, "404") >= watches.LONGEST_DELAY_SECONDS / 2, "a watch that ends after every list"
    assert not found.troubles
    found.succeeded(MODELS)
    clock.now += watches.CALM_SECONDS
    assert found.failed(MODELS, "404") <= watches.FIRST_DELAY_SECONDS


def test_a_list_does_not_end_the_row_of_failures_of_the_watch_that_follows_it() -> None:
    found = Watches(Clock())
    found.listed(MODELS)
    found.opened(MODELS)
    for _ in range(2):
        found.failed(MODELS, "the watch ended at once")
        found.listed(MODELS)
        found.opened(MODELS)
    assert found.troubles == {"vllmmodels": "the watch ended at once"}
    found.succeeded(MODELS)
    assert not found.troubles


def test_a_new_list_says_that_deletions_may_be_lost_and_the_first_one_does_not() -> None:
    found = Watches(Clock())
    found.listed(MODELS)
    assert not found.recovered.is_set()
    found.opened(MODELS)
    found.listed(MODELS)
    assert found.recovered.is_set()


def test_a_watch_is_silent_when_it_shows_no_sign_and_was_not_to_wait_longer() -> None:
    clock = Clock()
    found = Watches(clock)
    found.succeeded(MODELS)
    found.failed(PODS, "429", retry_after=200)
    clock.now += watches.SILENT_SECONDS + 1
    assert found.silent == {"vllmmodels": watches.SILENT_SECONDS + 1}
    found.alive(MODELS)
    assert not found.silent
    clock.now += 300
    assert list(found.silent) == ["pods"]


def test_the_age_of_a_kind_counts_from_the_last_word_of_the_api_server_and_no_try_of_ours_makes_it_younger() -> None:
    clock = Clock()
    found = Watches(clock)
    assert found.ages == {}
    found.listed(MODELS)
    found.opened(MODELS)
    found.opened(Place(MODEL, "team"))
    clock.now += 30
    found.heard(MODELS)
    clock.now += 5
    assert found.ages == {"vllmmodels": 35}, "of several namespaces the one that was not heard of for longest"
    found.failed(MODELS, "503")
    found.alive(Place(MODEL, "team"))
    clock.now += 5
    assert found.ages == {"vllmmodels": 40}


def test_an_outage_of_all_kinds_is_one_line_with_what_helps_until_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = Clock()
    found = Watches(clock)
    away = "Cannot connect to host 10.0.0.1:443 ssl:default [Connect call failed ('10.0.0.1', 443)]"
    for _ in range(5):
        for place in (MODELS, PODS):
            found.failed(place, away)
    assert caplog.messages == [f"cannot watch vllmmodels, tries again until it can: {away}: {Outage.UNREACHABLE}"]
    assert set(found.troubles) == {"vllmmodels", "pods"}
    clock.now += 61
    found.failed(PODS, away)
    assert len(caplog.messages) == 2
    for place in (MODELS, PODS):
        found.succeeded(place)
    clock.now += 5
    for _ in range(2):
        found.failed(MODELS, away)
    assert len(caplog.messages) == 3, "the next outage is news"


def test_a_reason_is_logged_when_it_is_new_and_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    found = Watches(clock)
    for _ in range(10):
        found.failed(MODELS, "404")
    found.failed(MODELS, "503")
    clock.now += watches.TELL_AGAIN_SECONDS
    found.failed(MODELS, "503")
    found.succeeded(MODELS)
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == [
        "404",
        "503",
        "503",
        "vllmmodels can be watched again after 60 s",
    ]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/api/v1/pods", PODS),
        ("/k8s/clusters/c-1/api/v1/pods", PODS),
        ("/api/v1/namespaces/team/pods", Place(POD, "team")),
        (MODEL.path(), MODELS),
        ("/api/v1", None),
        ("/apis", None),
        ("/api/v1/namespaces/team/pods/one", None),
    ],
)
def test_lists_and_watches_are_known_by_their_path(path: str, place: Place | None) -> None:
    assert watched_place(path) == place


@pytest.fixture
async def session(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[aiohttp.ClientSession]:
    """A session as kopf has it."""
    monkeypatch.setattr(watches, "FIRST_DELAY_SECONDS", 0.001)
    async with aiohttp.ClientSession(middlewares=[PatientWatch(Watches())]) as opened:
        yield opened


def answering(status: int) -> TestServer:
    """A server that always answers so."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"message": "as the\nserver says"}, status=status)

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", answer)
    return TestServer(application)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 429, 500, 503])
async def test_an_error_about_a_list_becomes_a_broken_connection(session: aiohttp.ClientSession, status: int) -> None:
    async with answering(status) as server:
        with pytest.raises(aiohttp.ClientPayloadError, match=rf"^pods: as the server says \(HTTP {status}\)$"):
            await session.get(server.make_url("/api/v1/pods"))


@pytest.mark.parametrize(("status", "passes"), [(401, False), (404, False), (429, False), (500, False), (400, True)])
async def test_an_error_about_a_watch_does_too_where_the_same_request_may_succeed_later(
    session: aiohttp.ClientSession, status: int, *, passes: bool
) -> None:
    async with answering(status) as server:
        url = server.make_url("/api/v1/pods").with_query(watch="true")
        if passes:
            assert (await session.get(url)).status == status
            return
        with pytest.raises(aiohttp.ClientPayloadError):
            await session.get(url)


@pytest.mark.parametrize(
    ("status", "in_pages"),
    [(400, True), (422, True), (500, True), (504, True), (401, False), (403, False), (404, False), (429, False)],
)
async def test_a_list_in_a_watch_is_given_up_for_pages_where_those_might_be_answered_otherwise(
    session: aiohttp.ClientSession, status: int, *, in_pages: bool
) -> None:
    async with answering(status) as server:
        url = server.make_url("/api/v1/pods").with_query(watch="true", sendInitialEvents="true")
        with pytest.raises(NoStreamedList if in_pages else aiohttp.ClientPayloadError):
            await session.get(url)


async def test_a_list_in_a_watch_that_is_not_even_begun_is_given_up_for_pages(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "ANSWER_SECONDS", 0.05)

    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(SECONDS)
        raise AssertionError("it was not given up")

    application = web.Application()
    application.router.add_get("/api/v1/pods", silent)
    async with TestServer(application) as server:
        url = server.make_url("/api/v1/pods").with_query(watch="true", sendInitialEvents="true")
        with pytest.raises(NoStreamedList, match="no answer within"):
            await session.get(url)
    with pytest.raises(aiohttp.ClientPayloadError, match="Cannot connect"):
        await session.get(f"http://127.0.0.1:{free_port()}/api/v1/pods?watch=true&sendInitialEvents=true")


async def test_watches_are_not_to_be_compressed_and_lists_may_be(session: aiohttp.ClientSession) -> None:
    """Events come one by one: there is little to compress, and each would have to be flushed by all between."""

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers["Accept-Encoding"])
        return web.json_response({})

    asked: list[str] = []
    application = web.Application()
    application.router.add_get("/api/v1/pods", answer)
    async with TestServer(application) as server:
        for query in ({}, {"watch": "true"}):
            (await session.get(server.make_url("/api/v1/pods").with_query(query))).close()
    assert "gzip" in asked[0]
    assert asked[1] == "identity"


async def test_other_requests_are_left_as_they_are(session: aiohttp.ClientSession) -> None:
    async with answering(404) as server:
        assert (await session.get(server.make_url("/apis"))).status == 404


async def test_silence_about_a_list_is_one_more_broken_connection(session: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.ClientPayloadError, match="Cannot connect"):
        await session.get(f"http://127.0.0.1:{free_port()}/api/v1/pods")
