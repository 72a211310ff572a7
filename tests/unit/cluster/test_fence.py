"""The fence: no write begins, and no byte of one leaves the process, once the lease may be another's."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.resources import child_of, resource
from vllm_operator.cluster.client import Client
from vllm_operator.cluster.fence import Fence, LeaseFence, boot_time
from vllm_operator.cluster.kinds import DEPLOYMENT
from vllm_operator.errors import ApiSilent, ApiUnavailable, NotLeading

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CHILD = child_of(resource(), "Deployment")
MIDWAY = 12.5
"""Half way between the renew deadline and the end of the lease, in seconds."""


class Clock:
    """A clock that stands still until it is set; it can also be set for the look after the next ones."""

    def __init__(self) -> None:
        self.now = 0.0
        self.jumps: list[float] = []

    def __call__(self) -> float:
        """The time of this look."""
        if self.jumps:
            self.now = self.jumps.pop(0)
        return self.now


def fence_at(clock: Clock) -> LeaseFence:
    """One of the default times."""
    return LeaseFence(lease_duration=15, renew_deadline=10, clock=clock)


def test_a_fence_is_closed_before_the_first_term() -> None:
    with pytest.raises(NotLeading):
        fence_at(Clock()).check()


@pytest.mark.parametrize(("age", "left"), [(0.0, 12.5), (2.0, 10.5), (9.99, 2.51)])
def test_a_write_may_begin_until_the_renew_deadline_and_last_until_midway(age: float, left: float) -> None:
    clock = Clock()
    fence = fence_at(clock)
    fence.renewed(0.0)
    clock.now = age
    assert fence.check() == pytest.approx(left)


@pytest.mark.parametrize("age", [10.0, 14.0, 1e6])
def test_no_write_begins_after_the_renew_deadline_whoever_holds_the_lease(age: float) -> None:
    clock = Clock()
    fence = fence_at(clock)
    fence.renewed(0.0)
    clock.now = age
    assert fence.overdue
    with pytest.raises(NotLeading):
        fence.check()


def test_a_renewal_that_succeeds_late_goes_on_with_the_same_term() -> None:
    clock = Clock()
    fence = fence_at(clock)
    assert fence.renewed(0.0)
    clock.now = 20.0
    assert not fence.renewed(19.0), "nobody else can have held it: the resource version was ours"
    assert fence.check() == pytest.approx(11.5)


def test_a_lost_lease_closes_the_fence_at_once_and_is_told_once() -> None:
    fence = fence_at(Clock())
    fence.renewed(0.0)
    assert fence.lost()
    assert not fence.lost()
    with pytest.raises(NotLeading):
        fence.check()


async def test_each_term_has_an_end_of_its_own() -> None:
    fence = fence_at(Clock())
    waiting = asyncio.create_task(fence.term())
    await asyncio.sleep(0)
    assert not waiting.done()
    fence.renewed(0.0)
    first = await waiting
    fence.lost()
    fence.renewed(0.0)
    second = await fence.term()
    assert first.is_set()
    assert not second.is_set()


async def test_without_an_election_every_write_may_be_made() -> None:
    assert Fence().check() == math.inf
    assert not (await Fence().term()).is_set()


async def test_a_stop_waits_for_what_is_under_way_and_lets_nothing_begin() -> None:
    fence = fence_at(Clock())
    fence.renewed(0.0)
    with fence.writing():
        stopping = asyncio.create_task(fence.stop(60))
        await asyncio.sleep(0)
        assert not stopping.done()
        with pytest.raises(NotLeading):
            fence.check()
    assert await stopping


async def test_a_stop_is_not_certain_while_a_write_has_no_answer() -> None:
    fence = fence_at(Clock())
    fence.renewed(0.0)
    with fence.writing():
        assert not await fence.stop(0)


@pytest.mark.parametrize("error", [ApiSilent("PATCH", "cut"), ApiUnavailable("PATCH", "504"), asyncio.CancelledError()])
async def test_a_write_without_an_answer_may_be_carried_out_until_its_time_is_over(error: BaseException) -> None:
    clock = Clock()
    fence = fence_at(clock)
    fence.renewed(0.0)
    with pytest.raises(type(error)), fence.writing():
        raise error
    clock.now = MIDWAY - 0.01
    assert not await fence.stop(0)
    clock.now = MIDWAY
    assert await fence.stop(0)


async def with_server(act: Callable[[Client, list[web.Request]], Awaitable[None]], fence: Fence) -> None:
    """A client behind the fence, and what its server was asked."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        asked.append(request)
        return web.json_response(CHILD | {"metadata": {**CHILD["metadata"], "uid": "u", "resourceVersion": "1"}})

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        await act(Client(session, str(server.make_url("/")), timeout_seconds=30, fence=fence), asked)


async def test_a_write_tells_the_api_server_how_long_it_may_take() -> None:
    fence = fence_at(Clock())
    fence.renewed(-5.0)

    async def act(client: Client, asked: list[web.Request]) -> None:
        await client.apply(CHILD, force=True)
        assert asked[0].query["timeout"] == "7500ms"

    await with_server(act, fence)


async def test_a_read_is_not_fenced() -> None:
    async def act(client: Client, asked: list[web.Request]) -> None:
        await client.get(DEPLOYMENT, "team", "qwen")
        assert asked[0].query.get("timeout") is None

    await with_server(act, fence_at(Clock()))


async def test_a_process_that_was_frozen_after_the_check_sends_no_byte_of_the_body() -> None:
    clock = Clock()
    fence = fence_at(clock)
    fence.renewed(0.0)
    clock.jumps = [1.0, 1.0, 1.0, 20.0]  # the looks before the connection is there, and the one when it is

    async def act(client: Client, asked: list[web.Request]) -> None:
        with pytest.raises(NotLeading, match="was not sent"):
            await client.apply(CHILD, force=True)
        assert clock.now == 20.0
        assert not asked

    await with_server(act, fence)


async def test_a_write_whose_answer_does_not_come_is_called_back_by_a_reset_of_its_connection() -> None:
    ended: asyncio.Future[type[BaseException] | None] = asyncio.get_running_loop().create_future()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(65536):
                pass  # and never an answer
            ended.set_result(None)
        except ConnectionError as error:
            ended.set_result(type(error))
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession() as session:
        client = Client(session, f"http://127.0.0.1:{port}", timeout_seconds=0.2)
        with pytest.raises(ApiSilent):
            await client.apply(CHILD, force=True)
        async with asyncio.timeout(10):
            assert await ended is ConnectionResetError


def test_the_clock_goes_on_while_the_machine_sleeps() -> None:
    assert boot_time() >= 0
