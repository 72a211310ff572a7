"""The process and its watches: no answer to one request ends it, and when it ends, it ends at once."""

from __future__ import annotations

import asyncio
import contextlib
import pwd
from typing import TYPE_CHECKING, Any

import aiohttp
import kopf
import pytest
from kopf._cogs.aiokits.aiotoggles import ToggleSet

from tests.support.fake_api_server import GONE, FakeApiServer, StreamedLists, fake_api_server
from tests.support.servers import free_port
from vllm_operator.cluster import patience, stream, watches
from vllm_operator.cluster.kinds import MODEL, POD, WATCHED
from vllm_operator.controller import app
from vllm_operator.controller.follow import follow
from vllm_operator.errors import OperatorError
from vllm_operator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.fake_api_server import Failure
    from vllm_operator.controller.follow import Components

pytestmark = pytest.mark.slow

SECONDS = 20.0
END_SECONDS = 10.0
"""kopf waits 5 s for what it finds running, be it of the fake server; before the mend it waited for ever."""
MISSING = GONE
UNAUTHORIZED: Failure = (401, {}, b"Unauthorized")
THROTTLED: Failure = (429, {"Retry-After": "0"}, b"too many requests")
BROKEN: Failure = (500, {}, b"etcdserver: leader changed")


class Running:
    """An operator in this process."""

    def __init__(self, server: FakeApiServer, seconds: float = 60) -> None:
        self.server = server
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = Settings(
            workers=1,
            listen_host="127.0.0.1",
            listen_port=port,
            start_timeout_seconds=seconds,
            retry_period_seconds=0.1,
        )
        self.task = asyncio.create_task(app.run(settings, ready=self.ready, stop=self.stop))

    async def wait(self, look: Callable[[], bool]) -> None:
        """Until it is so, while the operator runs."""
        async with asyncio.timeout(SECONDS):
            while not look():
                if self.task.done():
                    await self.task
                    raise AssertionError("the operator has ended")
                await asyncio.sleep(0.01)

    async def health(self) -> str:
        """What /healthz says."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/healthz") as answer:
            return await answer.text()

    async def unready(self) -> str:
        """What /readyz says against it; empty where it is ready."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/readyz") as answer:
            return "" if answer.ok else await answer.text()

    async def leads(self) -> bool:
        """Whether it says that it is the one that writes."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as answer:
            return "\nvllm_operator_leader 1.0\n" in await answer.text()

    async def wait_leads(self) -> None:
        """Until it is the leader."""
        await self.wait(self.ready.is_set)
        async with asyncio.timeout(SECONDS):
            while not await self.leads():  # noqa: ASYNC110 # it is another process as far as this test goes
                await asyncio.sleep(0.01)


@pytest.fixture(params=[StreamedLists.SERVED, StreamedLists.REFUSED], ids=["lists in watches", "lists in pages"])
async def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApiServer]:
    """The API server that the operator finds; it is asked again without much delay."""
    for module in (watches, patience):
        monkeypatch.setattr(module, "LONGEST_DELAY_SECONDS", 0.05)
    async with fake_api_server() as fake:
        fake.streamed_lists = request.param
        monkeypatch.setattr(app, "connection", lambda _: kopf.ConnectionInfo(server=fake.address))
        yield fake


@contextlib.asynccontextmanager
async def running(server: FakeApiServer) -> AsyncIterator[Running]:
    """An operator; it ends with the block, at once and without an error."""
    made = Running(server)
    yield made
    made.stop.set()
    async with asyncio.timeout(END_SECONDS):
        await made.task


async def test_no_answer_to_a_first_list_ends_the_operator(server: FakeApiServer) -> None:
    for kind in (MODEL, POD):
        for verb in ("check", "list"):
            server.failures[kind, verb] = [MISSING, THROTTLED, BROKEN, UNAUTHORIZED]
    async with running(server) as operator:
        await operator.wait(operator.ready.is_set)
    assert not server.failures[MODEL, "list"]


@pytest.mark.parametrize("server", list(StreamedLists), ids=lambda how: how.name.lower(), indirect=True)
async def test_it_is_ready_whatever_the_api_server_makes_of_a_list_in_a_watch_and_asks_once(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SETTLED_SECONDS", 0.1)
    monkeypatch.setattr(stream, "NO_LIST_SECONDS", 0.1)
    async with running(server) as operator:
        await operator.wait(operator.ready.is_set)
        streamed = server.streamed_lists is StreamedLists.SERVED
        assert server.pages == (0 if streamed else len(WATCHED))
        assert server.asked.count((MODEL, "list")) == (1 if streamed else 2)
        await operator.wait(lambda: (MODEL, "watch") in server.asked)
        asked = len(server.asked)
        server.send(MODEL, {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}})
        await operator.wait(lambda: (MODEL, "watch") in server.asked[asked:])
        assert not await operator.unready()


async def test_a_user_without_a_name_in_the_image_may_run_it(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in distroless images, and with the numbers that OpenShift gives."""

    def no_name(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", no_name)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "POD_ID"):
        monkeypatch.delenv(name, raising=False)
    async with running(server) as operator:
        await operator.wait(operator.ready.is_set)


async def test_no_answer_to_a_watch_ends_the_operator(server: FakeApiServer) -> None:
    server.failures[MODEL, "watch"] = [MISSING, THROTTLED, BROKEN, UNAUTHORIZED] * 3
    async with running(server) as operator:
        await operator.wait(lambda: operator.ready.is_set() and not server.failures[MODEL, "watch"])
        before = server.asked.count((MODEL, "watch"))
        await operator.wait(lambda: server.asked.count((MODEL, "watch")) >= before)


async def test_a_kind_that_goes_and_comes_back_makes_it_unready_and_is_followed_again(server: FakeApiServer) -> None:
    async with running(server) as operator:
        await operator.wait(lambda: operator.ready.is_set() and (MODEL, "watch") in server.asked)
        async with asyncio.timeout(SECONDS):
            while await operator.unready():  # noqa: ASYNC110 # until it knows who leads, which it says there alone
                await asyncio.sleep(0.01)
        server.drop(MODEL)
        asked = len(server.asked)
        await operator.wait(lambda: server.asked[asked:].count((MODEL, "watch")) > 2)
        assert await operator.unready() == "cannot watch vllmmodels: 404 page not found (HTTP 404)\n"
        server.served.add(MODEL)
        asked = len(server.asked)
        await operator.wait(lambda: (MODEL, "list") in server.asked[asked:])
        assert not await operator.unready()


async def test_a_resource_that_comes_later_is_waited_for(server: FakeApiServer) -> None:
    server.drop(MODEL)
    async with running(server) as operator:
        await operator.wait(lambda: len(server.asked) > 1)
        assert "vllmmodels: 404 page not found" in await operator.unready()
        server.served.add(MODEL)
        await operator.wait(operator.ready.is_set)


async def test_an_operator_that_waits_can_be_stopped(server: FakeApiServer) -> None:
    server.drop(MODEL)
    async with running(server) as operator:
        await operator.wait(lambda: len(server.asked) > 1)


async def test_a_resource_that_never_comes_ends_it_with_what_to_do(server: FakeApiServer) -> None:
    server.drop(MODEL)
    operator = Running(server, seconds=0.5)
    with pytest.raises(ExceptionGroup) as raised:
        await operator.task
    assert raised.group_contains(OperatorError, match="install the CustomResourceDefinition")


def held_by(holder: str, version: int) -> dict[str, Any]:
    """A Lease that lasts for an hour."""
    metadata = {"name": "vllm-operator", "namespace": "vllm-system", "uid": "u", "resourceVersion": str(version)}
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 3600, "leaseTransitions": 0}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


async def test_one_that_stands_by_is_ready_and_leads_when_the_lease_is_released_and_releases_it_when_it_ends(
    server: FakeApiServer,
) -> None:
    server.lease = held_by("another", 1)
    async with running(server) as operator:
        await operator.wait(operator.ready.is_set)
        async with asyncio.timeout(SECONDS):
            while await operator.unready():  # noqa: ASYNC110 # it has to read the Lease once
                await asyncio.sleep(0.01)
        assert not await operator.leads()
        server.lease = held_by("", 2)
        await operator.wait_leads()
        assert server.lease["spec"]["holderIdentity"]
    assert server.lease["spec"]["holderIdentity"] == ""


async def test_an_operator_that_may_not_read_the_lease_says_so_and_leads_once_it_may(server: FakeApiServer) -> None:
    server.lease_failures = [(403, {}, b'{"message": "leases is forbidden"}')] * 10
    async with running(server) as operator:
        await operator.wait(lambda: operator.ready.is_set() and len(server.lease_failures) < 10)
        assert "cannot be elected: GET" in await operator.unready()
        await operator.wait_leads()
        assert not await operator.unready()


async def test_a_leader_that_loses_the_lease_stands_by_and_leads_again_in_the_same_process(
    server: FakeApiServer,
) -> None:
    async with running(server) as operator:
        await operator.wait_leads()
        assert server.lease is not None
        server.lease = held_by("somebody", int(server.lease["metadata"]["resourceVersion"]) + 1)
        async with asyncio.timeout(SECONDS):
            while await operator.leads():  # noqa: ASYNC110 # it is another process as far as this test goes
                await asyncio.sleep(0.01)
        assert not await operator.unready()
        server.lease = held_by("", int(server.lease["metadata"]["resourceVersion"]) + 1)
        await operator.wait_leads()


@pytest.mark.parametrize("code", [410, 500, 504])
async def test_an_error_inside_a_watch_ends_nothing_and_has_the_kind_listed_anew(
    server: FakeApiServer, code: int
) -> None:
    async with running(server) as operator:
        await operator.wait(lambda: operator.ready.is_set() and (MODEL, "watch") in server.asked)
        asked = len(server.asked)
        server.send(MODEL, {"type": "ERROR", "object": {"code": code, "message": "etcdserver: corrupt"}})
        await operator.wait(lambda: (MODEL, "watch") in server.asked[asked:])
        assert (MODEL, "list") in server.asked[asked:]


async def test_what_is_no_event_ends_nothing(server: FakeApiServer) -> None:
    async with running(server) as operator:
        await operator.wait(lambda: operator.ready.is_set() and (MODEL, "watch") in server.asked)
        asked = len(server.asked)
        server.send(MODEL, {"error": "upstream timed out"})
        await operator.wait(lambda: (MODEL, "watch") in server.asked[asked:])


async def test_a_watch_that_ends_at_once_is_asked_for_again_after_a_pause(server: FakeApiServer) -> None:
    """Left alone, kopf asks some hundred times a second."""
    server.failures[MODEL, "watch"] = [(200, {"Content-Type": "application/json"}, b"")] * 6
    async with running(server) as operator:
        await operator.wait(lambda: operator.ready.is_set() and not server.failures[MODEL, "watch"])
        await operator.wait(lambda: not server.failures[MODEL, "watch"])
        assert await operator.unready() == "cannot watch vllmmodels: the watch ended at once\n"


async def test_a_watch_that_kopf_has_lost_without_a_word_is_told_by_its_health(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SETTLED_SECONDS", 0.1)
    monkeypatch.setattr(stream, "QUIET_SECONDS", 0.2)
    monkeypatch.setattr(watches, "QUIET_SECONDS", 0.2)
    monkeypatch.setattr(watches, "SILENT_SECONDS", 0.5)
    async with running(server) as operator:
        await operator.wait(lambda: operator.ready.is_set() and (MODEL, "watch") in server.asked)
        await asyncio.sleep(1)
        assert await operator.health() == "ok\n"
        watching = [task for task in asyncio.all_tasks() if task.get_name().startswith("watcher for vllmmodels")]
        watching[0].cancel()
        await asyncio.sleep(1)
        assert "no sign of the watch of vllmmodels for" in await operator.health()


async def test_an_error_ends_it_also_while_a_watch_begins_anew_and_loses_its_cancellation(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kopf suppresses a cancellation that comes while it ends the task that waits for a pause of the operator."""
    begins_anew, broken = asyncio.Event(), asyncio.Event()
    wait_for = ToggleSet.wait_for

    async def wait_and_end_slowly(self: ToggleSet, state: bool) -> None:  # noqa: FBT001 # kopf's signature
        try:
            await wait_for(self, state)
        except asyncio.CancelledError:
            begins_anew.set()
            await asyncio.sleep(0.5)
            raise

    async def follow_until_broken(components: Components, ready: asyncio.Event) -> None:
        following = asyncio.create_task(follow(components, ready))
        await broken.wait()
        following.cancel()
        raise OperatorError("the store went back")

    monkeypatch.setattr(ToggleSet, "wait_for", wait_and_end_slowly)
    monkeypatch.setattr(app, "follow", follow_until_broken)
    operator = Running(server)
    await operator.wait(lambda: operator.ready.is_set() and (MODEL, "watch") in server.asked)
    begins_anew.clear()
    server.send(MODEL, {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}})
    await operator.wait(begins_anew.is_set)
    broken.set()
    done, _ = await asyncio.wait({operator.task}, timeout=END_SECONDS)
    assert done, "it ends without another cancellation"
    with pytest.raises(ExceptionGroup) as raised:
        await operator.task
    assert raised.group_contains(OperatorError, match="the store went back")


def test_each_error_is_told_however_deep_it_is_in_groups(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        inner = ExceptionGroup("resync", [OperatorError("the store went back")])
        raise ExceptionGroup("all", [inner, OperatorError("and another")])

    monkeypatch.setattr(app, "run", lambda _: None)
    monkeypatch.setattr("vllm_operator.controller.app.asyncio.run", fail)
    monkeypatch.setattr(app, "from_environment", Settings)
    monkeypatch.setattr(app, "leave_imports_to_the_end", lambda: None)  # this process goes on
    with pytest.raises(SystemExit):
        app.main()
    assert capsys.readouterr().err == "vllm-operator: the store went back\nvllm-operator: and another\n"
