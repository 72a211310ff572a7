"""Failure modes that the real engine cannot be brought to on demand, on a stub behind a real kubelet."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.matrix.acts import PATIENT
from tests.e2e.matrix.conftest import SQL, WITHDRAWN_SECONDS
from tests.e2e.matrix.findings import Seen, both_seen
from tests.e2e.matrix.fleet import wait

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.e2e.matrix.fleet import Pair

pytestmark = pytest.mark.node

DISTURBED_SECONDS = 12.0
"""Two windows: what evicts would have evicted."""
LOST_SECONDS = 20.0
"""Longer than the restart window of `make test`."""
RANK = ("--workers", "4", "--tokens", "100")
"""Every rank has work all the time."""


def test_18_an_engine_with_one_hung_rank_leaves_the_service_and_is_restarted(stubs: Pair, report: Any) -> None:
    found = broken(stubs, {"hang_engine": [1]}, RANK)
    report(18, *found)
    assert found[0].withdrawn_seconds is not None
    assert found[0].withdrawn_seconds < WITHDRAWN_SECONDS
    assert found[0].restarts == 1
    assert (found[1].withdrawals, found[1].restarts) == (0, 0)


def broken(stubs: Pair, faults: Mapping[str, Any], load: Sequence[str]) -> tuple[Seen, Seen]:
    """Bring a fault upon one engine of each fleet until the gated one is back."""
    names = [fleet.pods()[0]["metadata"]["name"] for fleet in stubs.fleets()]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(fleet.client(*load)) for fleet in stubs.fleets()]
        wait(2)
        since = time.monotonic()
        for name in names:
            stubs.gated.site.faults(name, **faults)
        stubs.gated.wait_back(names[0], since)
        wait(3)
        found = both_seen(stubs, since, [client.requests() for client in clients], names)
    for plain in names[1:]:
        stubs.gated.site.faults(plain, **dict.fromkeys(faults, False))
    return found


def test_19_an_engine_that_lost_an_adapter_gets_none_of_its_requests_until_it_has_it_again(
    stubs: Pair, report: Any
) -> None:
    names = [fleet.pods()[0]["metadata"]["name"] for fleet in stubs.fleets()]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(fleet.client("--workers", "2", *PATIENT, model=SQL)) for fleet in stubs.fleets()]
        wait(2)
        since = time.monotonic()
        for name in names:
            stubs.gated.site.faults(name, lose_adapter=SQL)
        stubs.gated.site.until("it is out", lambda: stubs.gated.diary.withdrawn_at(names[0], since))
        wait(LOST_SECONDS)
        asked = [client.requests() for client in clients]
        found = both_seen(stubs, since, asked, names)
    for name in names:
        stubs.gated.site.faults(name, find_adapter={"name": SQL, "path": "org/sql"})
    stubs.gated.wait_back(names[0], since)
    report(19, *found)
    out = stubs.gated.diary.withdrawn_at(names[0], since)
    assert out is not None
    assert out - since < WITHDRAWN_SECONDS
    assert [request for request in asked[0] if request.began > out + 1 and request.trouble] == []
    assert found[0].restarts == 0, "it serves the other names"
    assert (found[1].withdrawals, found[1].restarts) == (0, 0)


def test_12_metrics_that_cannot_be_read_evict_nobody(stubs: Pair, report: Any) -> None:
    found = disturbed(stubs, {"metrics_status": 500}, {"metrics_status": 200, "metrics_seconds": 60.0})
    report(12, *found)
    assert (found[0].withdrawals, found[0].restarts, found[0].lost) == (0, 0, 0)


def test_20_metrics_that_are_renamed_and_counters_that_are_reset_evict_nobody(stubs: Pair, report: Any) -> None:
    found = disturbed(stubs, {"metrics_prefix": "vllm2:"}, {"metrics_prefix": "vllm:", "reset_metrics": True})
    report(20, *found)
    assert (found[0].withdrawals, found[0].restarts, found[0].lost) == (0, 0, 0)


def disturbed(stubs: Pair, *disturbances: Mapping[str, Any]) -> tuple[Seen, Seen]:
    """Disturb the looking at all engines, one way after the other, under load and then without."""
    since = time.monotonic()
    requests = []
    for disturbance in disturbances:
        for pod in stubs.pods():
            stubs.gated.site.faults(pod["metadata"]["name"], **disturbance)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(fleet.client("--workers", "2", *PATIENT)) for fleet in stubs.fleets()]
            wait(DISTURBED_SECONDS)
            requests.append([client.requests() for client in clients])
        wait(DISTURBED_SECONDS)
    for pod in stubs.pods():
        stubs.gated.site.faults(
            pod["metadata"]["name"], metrics_status=200, metrics_seconds=0.0, metrics_prefix="vllm:"
        )
    return both_seen(stubs, since, [list(itertools.chain(*asked)) for asked in zip(*requests, strict=True)])
