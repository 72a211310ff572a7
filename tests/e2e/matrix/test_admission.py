"""Real engines that load. It is the first file of the matrix: other rows want the same engines loaded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.matrix.findings import Seen
from tests.e2e.matrix.fleet import START_SECONDS
from tests.e2e.matrix.told import verdicts

if TYPE_CHECKING:
    from tests.e2e.matrix.fleet import Pair

pytestmark = [pytest.mark.node, pytest.mark.real_vllm]


def test_1_a_loading_engine_gets_no_traffic_before_it_has_completed_a_prompt(engines: Pair, report: Any) -> None:
    site, began = engines.gated.site, time.monotonic()

    def phases() -> set[str]:
        told = site.get("vllmmodel", "real").get("status", {}).get("engines", [])
        return {one["phase"] for one in told if one.get("phase")}

    site.until("progress is told", phases, START_SECONDS)
    found = []
    for fleet in engines.fleets():
        fleet.wait_serving(2)
        pod = fleet.pods()[0]["metadata"]["name"]
        first = fleet.diary.routable_at(pod, began) or 0.0
        found.append(Seen(note=f"in after {first - began:.0f} s"))
    for pod in engines.gated.pods():
        assert verdicts(site.timeline(pod["metadata"]["name"]))[:2] == ["starting", "serving"]
    report(1, *found)
