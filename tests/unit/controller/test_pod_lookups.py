"""How many lookups are made, however many pods are not ready, and that nobody waits for them. Time is virtual."""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.resources import NOW, as_live, pod
from vllm_operator.api.capacity import Capacity
from vllm_operator.cluster.cache import Key
from vllm_operator.controller.pod_lookups import PodLookups
from vllm_operator.diagnosis.engine_status import EngineStatus, NoAnswer
from vllm_operator.diagnosis.events import KubeletMessage
from vllm_operator.diagnosis.lookups import next_lookup, planned
from vllm_operator.errors import ApiRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.engine_status import EngineStatusReader
    from vllm_operator.diagnosis.facts import Finding

SCHEDULED = ({"type": "PodScheduled", "status": "True"},)
QWEN = Key("team", "qwen")
LOADS = EngineStatus("starting", "Loading", phase="Downloading")


class Cluster:
    """An API server and managers that answer what they are told to, and remember who was asked about when."""

    def __init__(self) -> None:
        self.now = NOW
        self.asked: list[tuple[datetime, str]] = []
        self.news: list[object] = []
        self.answer: Finding | Exception = LOADS
        self.events: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.hangs = asyncio.Event()
        self.hangs.set()
        managers, client = cast("EngineStatusReader", self), cast("Client", self)
        self.lookups = PodLookups(client, managers, self.news.append, lambda: self.now)

    async def warnings_about(self, found: LiveObject) -> list[dict[str, Any]]:
        """The Events about a pod."""
        self.asked.append((self.now, found.name))
        if self.error:
            raise self.error
        return self.events

    async def read(self, url: str) -> Finding:
        """What a manager says; its port is the number of its pod."""
        self.asked.append((self.now, url))
        await self.hangs.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def look(self, *pods: dict[str, Any]) -> list[Finding | None]:
        """One look at a model; returns what is known of its pods."""
        found = self.lookups.known(QWEN, [as_live(one) for one in pods], self.now)
        return [found.by_uid[one["metadata"]["uid"]].finding for one in pods if one["metadata"]["uid"] in found.by_uid]


@pytest.fixture
async def cluster() -> Cluster:
    """One of them."""
    return Cluster()


_NUMBERS: Iterator[int] = iter(range(1, 10**6))


def unready(name: str, *, started: bool = False, creating: bool = False) -> dict[str, Any]:
    """A pod that loads, that has lost its traffic, or whose containers are not there."""
    state = (
        {"waiting": {"reason": "ContainerCreating"}} if creating else {"running": {"startedAt": "2026-11-22T10:00:00Z"}}
    )
    found = pod(name, container={"started": started, "state": state}, conditions=SCHEDULED, podIP="10.0.0.5")
    ports = [{"name": "gate", "containerPort": next(_NUMBERS)}]
    return {**found, "spec": {"containers": [{"name": "vllm", "ports": ports}]}}


def port(found: dict[str, Any]) -> int:
    """By which a pod's manager is known."""
    return int(found["spec"]["containers"][0]["ports"][0]["containerPort"])


async def watched(
    cluster: Cluster, models: Mapping[str, list[dict[str, Any]]], minutes: float
) -> list[tuple[float, str]]:
    """Look at each model when it asks for it. Returns who was asked when, in seconds."""
    agenda = [(NOW, name) for name in models]
    while agenda and agenda[0][0] < NOW + timedelta(minutes=minutes):
        cluster.now, name = heapq.heappop(agenda)
        found = cluster.lookups.known(Key("team", name), [as_live(one) for one in models[name]], cluster.now)
        await cluster.lookups.settled()
        again = next_lookup(planned(models[name], found.by_uid), cluster.now, found.turns)
        if again is not None:
            heapq.heappush(agenda, (again, name))
    return [((when - NOW).total_seconds(), name) for when, name in cluster.asked]


def by_minute(asked: list[tuple[float, str]]) -> list[int]:
    """How many in each minute."""
    found: defaultdict[int, int] = defaultdict(int)
    for second, _ in asked:
        found[int(second // 60)] += 1
    return [found[minute] for minute in range(max(found) + 1)]


@pytest.mark.parametrize(("models", "pods"), [(1000, 1), (100, 10)])
async def test_a_thousand_pods_that_are_set_up_cost_a_hundred_reads_of_events_a_minute(
    cluster: Cluster, models: int, pods: int
) -> None:
    fleet = {f"m{m}": [unready(f"m{m}-{p}", creating=True) for p in range(pods)] for m in range(models)}
    asked = await watched(cluster, fleet, 12)
    first, *later = by_minute(asked)
    assert first <= 115
    assert max(later) <= 105
    assert len({name for _, name in asked}) == 1000, "each has its turn"


@pytest.mark.parametrize(("models", "pods"), [(1000, 1), (100, 10)])
async def test_a_thousand_managers_are_asked_ten_a_second_and_each_within_two_minutes(
    cluster: Cluster, models: int, pods: int
) -> None:
    fleet = {f"m{m}": [unready(f"m{m}-{p}") for p in range(pods)] for m in range(models)}
    asked = await watched(cluster, fleet, 4)
    first, *later = by_minute(asked)
    assert first <= 630
    assert max(later) <= 615
    assert len({name for second, name in asked if second <= 120}) == 1000


async def test_a_model_with_one_pod_does_not_wait_behind_one_with_a_hundred(cluster: Cluster) -> None:
    small = unready("small-0")
    fleet = {"large": [unready(f"large-{number}") for number in range(100)], "small": [small]}
    asked = await watched(cluster, fleet, 0.2)
    assert min(second for second, url in asked if f":{port(small)}/" in url) <= 1


async def test_an_engine_that_lost_its_traffic_does_not_wait_behind_those_that_load(cluster: Cluster) -> None:
    served = unready("served-0", started=True)
    fleet = {f"m{m}": [unready(f"m{m}-{p}") for p in range(10)] for m in range(100)} | {"served": [served]}
    asked = await watched(cluster, fleet, 0.2)
    assert min(second for second, url in asked if f":{port(served)}/" in url) <= 1


# --- what comes of one lookup


async def test_nobody_waits_for_a_manager_and_its_answer_has_the_model_looked_at_again(cluster: Cluster) -> None:
    cluster.hangs.clear()
    found = unready("qwen-1")
    assert cluster.look(found) == [None]
    cluster.now += timedelta(minutes=2)
    assert cluster.look(found) == [None], "it is asked once at a time, however long it takes"
    await asyncio.sleep(0)
    assert len(cluster.asked) == 1
    cluster.hangs.set()
    await cluster.lookups.settled()
    assert cluster.news == [QWEN]
    assert cluster.look(found) == [LOADS]


async def test_an_answer_that_is_no_news_has_nobody_look(cluster: Cluster) -> None:
    found = unready("qwen-1")
    for _ in range(5):
        cluster.look(found)
        await cluster.lookups.settled()
        cluster.now += timedelta(minutes=2)
    assert len(cluster.asked) == 5
    assert cluster.news == [QWEN]


async def test_a_manager_that_does_not_answer_is_told_as_that(cluster: Cluster) -> None:
    cluster.answer = NoAnswer("its manager cannot be reached")
    cluster.look(unready("qwen-1"))
    await cluster.lookups.settled()
    assert cluster.look(unready("qwen-1")) == [cluster.answer]


async def test_lookups_of_pods_that_need_none_any_more_are_ended_and_forgotten(cluster: Cluster) -> None:
    cluster.hangs.clear()
    cluster.look(unready("qwen-1"), unready("qwen-2"))
    await asyncio.sleep(0)
    assert cluster.look(pod("qwen-1", ready=True)) == []
    await cluster.lookups.settled()  # not answered: ended
    assert cluster.news == []
    cluster.look(unready("qwen-3"))
    await asyncio.sleep(0)
    await cluster.lookups.close()
    assert cluster.news == []


async def test_an_engine_that_serves_is_asked_now_and_then_and_only_what_is_new_has_it_looked_at(
    cluster: Cluster,
) -> None:
    running = {"started": True, "state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}}
    found = {**pod("qwen-1", ready=True, container=running, podIP="10.0.0.5"), "spec": unready("qwen-1")["spec"]}
    cluster.answer = EngineStatus("serving", ready=True, capacity=Capacity(weights="1.00Gi"))
    for _ in range(3):
        cluster.look(found)
        await cluster.lookups.settled()
        cluster.now += timedelta(hours=1)
    assert len(cluster.asked) == 3
    assert cluster.news == [QWEN]
    assert cluster.look(found) == [cluster.answer]


async def test_events_of_a_pod_that_is_set_up_are_read_and_where_that_fails_what_was_known_stays(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    found, message = unready("qwen-1", creating=True), KubeletMessage("no such volume")
    cluster.events = [{"reason": "FailedMount", "message": "no such volume", "lastTimestamp": "2026-11-22T11:00:05Z"}]
    cluster.look(found)
    await cluster.lookups.settled()
    assert cluster.look(found) == [message]
    cluster.error = ApiRefused("GET", "events is forbidden")
    cluster.now += timedelta(minutes=6)
    cluster.look(found)
    await cluster.lookups.settled()
    assert cluster.look(found) == [message]
    assert "events is forbidden" in caplog.text


async def test_a_mistake_of_ours_is_logged_and_the_pod_looked_up_again_later(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.answer = ZeroDivisionError("ours")
    found = unready("qwen-1")
    cluster.look(found)
    await cluster.lookups.settled()
    assert "ZeroDivisionError: ours" in caplog.text
    cluster.answer = LOADS
    cluster.now += timedelta(seconds=10)
    cluster.look(found)
    await cluster.lookups.settled()
    assert cluster.look(found) == [LOADS]
