"""How many Events are read, however many pods are not ready. Time is virtual."""

from __future__ import annotations

import heapq
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.resources import NOW, as_live, pod
from vllm_operator.cluster.cache import Key
from vllm_operator.controller.event_lookups import EventReader
from vllm_operator.diagnosis.lookups import next_lookup, planned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.client import Client

SCHEDULED = ({"type": "PodScheduled", "status": "True"},)
PATIENCE_MINUTES = 12


class Server:
    """An API server that has no Events, and remembers when it was asked for those of which pod."""

    def __init__(self) -> None:
        self.now = NOW
        self.asked: list[tuple[datetime, str]] = []

    async def warnings_about(self, found: LiveObject) -> list[dict[str, Any]]:
        """None."""
        self.asked.append((self.now, found.name))
        return []


def unready(name: str, *, started: bool = False) -> dict[str, Any]:
    """A pod that loads, or that has lost its traffic."""
    running = {"started": started, "state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}}
    return pod(name, container=running, conditions=SCHEDULED)


async def watched(models: Mapping[str, list[dict[str, Any]]], minutes: int) -> list[tuple[float, str]]:
    """Look at each model when it asks for it. Returns when the Events of which pod were read, in seconds."""
    server = Server()
    reader = EventReader(cast("Client", server))
    agenda = [(NOW, name) for name in models]
    while agenda and agenda[0][0] < NOW + timedelta(minutes=minutes):
        server.now, name = heapq.heappop(agenda)
        found = await reader.read(Key("team", name), [as_live(one) for one in models[name]], server.now)
        again = next_lookup(planned(models[name], found.by_uid), server.now, found.turns)
        if again is not None:
            heapq.heappush(agenda, (again, name))
    return [((when - NOW).total_seconds(), name) for when, name in server.asked]


def by_minute(asked: list[tuple[float, str]]) -> list[int]:
    """How many in each minute."""
    found: defaultdict[int, int] = defaultdict(int)
    for second, _ in asked:
        found[int(second // 60)] += 1
    return [found[minute] for minute in range(max(found) + 1)]


@pytest.mark.parametrize(("models", "pods"), [(1000, 1), (100, 10)])
async def test_a_thousand_pods_that_load_cost_a_hundred_lookups_a_minute(models: int, pods: int) -> None:
    fleet = {f"m{m}": [unready(f"m{m}-{p}") for p in range(pods)] for m in range(models)}
    asked = await watched(fleet, PATIENCE_MINUTES)
    first, *later = by_minute(asked)
    assert first <= 115
    assert max(later) <= 105
    assert len({name for _, name in asked}) == 1000, "each has its turn"


async def test_a_model_with_one_pod_does_not_wait_behind_one_with_a_hundred() -> None:
    fleet = {"large": [unready(f"large-{p}") for p in range(100)], "small": [unready("small-0")]}
    asked = await watched(fleet, 1)
    assert min(second for second, name in asked if name == "small-0") <= 1


async def test_an_engine_that_lost_its_traffic_does_not_wait_behind_those_that_load() -> None:
    fleet = {f"m{m}": [unready(f"m{m}-{p}") for p in range(10)] for m in range(100)}
    fleet["served"] = [unready("served-0", started=True)]
    asked = await watched(fleet, 1)
    assert min(second for second, name in asked if name == "served-0") <= 1
