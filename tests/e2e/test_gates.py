"""The gate in the pod, on a real kubelet: what clients see of engines that load, fail and hang."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support import models

if TYPE_CHECKING:
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node


def test_an_engine_that_answers_health_but_fails_completions_never_gets_traffic(site: Site, stub: EngineChoice) -> None:
    faults = json.dumps({"fail": {"status": 500, "message": "no template"}})
    site.apply(models.model("failing", stub, engine={"env": [{"name": "STUB_FAULTS", "value": faults}]}))
    site.until("kubelet tells what the gate says", lambda: "HTTP 500" in _events(site))
    assert site.endpoints("failing") == set()
    assert site.condition("Ready", "failing")["status"] == "False"


def test_an_engine_that_loads_for_a_while_gets_traffic_only_afterwards(site: Site, stub: EngineChoice) -> None:
    loading = [{"name": "STUB_LOAD_SECONDS", "value": "8"}]
    site.apply(models.model("loading", stub, engine={"env": loading}))

    def told() -> bool:
        return "loads its model" in site.condition("Ready", "loading").get("message", "")

    site.until("the status names the engine", told)
    assert site.endpoints("loading") == set()
    site.wait_ready("loading")
    site.wait_endpoints("loading", 1)


def test_a_hung_engine_loses_its_traffic_and_gets_it_back_when_it_goes_on(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("hung", stub, replicas=2))
    site.wait_ready("hung")
    one = min(pod["metadata"]["name"] for pod in site.pods("hung"))
    site.faults(one, hang_engine=True)
    site.wait_endpoints("hung", 1)
    assert one in site.wait_reason("EnginesWithdrawn", "hung")["message"]
    assert site.condition("Available", "hung")["status"] == "True"
    assert "no completion for" in _events(site)
    site.faults(one, hang_engine=False)
    site.wait_ready("hung")
    site.wait_endpoints("hung", 2)


def _events(site: Site) -> str:
    return site.kubectl("get", "events", "-o", "jsonpath={.items[*].message}")
