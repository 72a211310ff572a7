"""LoRA adapters change while engines serve: on a real kubelet, which brings the list to the managers in the pods."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import models
from tests.support.site import scale_operator
from vllm_operator.planner.adapters import LEAVING_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

NAME = "lora"
BROUGHT_SECONDS = 180.0
"""Until an edit has reached all engines. Kubelet is called for it; by itself it takes up to a minute and a half."""


def adapters(**places: str) -> dict[str, Any]:
    """A patch of spec.lora."""
    return {"lora": {"adapters": [{"name": name, "source": place} for name, place in places.items()]}}


def served(site: Site, pod: str) -> set[str]:
    """The names of adapters that the engine in a pod has."""
    address = site.get("pod", pod)["status"]["podIP"]
    request = f"urllib.request.urlopen('http://{address}:8000/v1/models', timeout=10)"
    program = f"import urllib.request; print({request}.read().decode())"
    done = site.cluster.run_inside([sys.executable, "-c", program])
    assert done.returncode == 0, done.stderr
    return {one["id"] for one in json.loads(done.stdout)["data"] if one["parent"]}


def told(site: Site) -> dict[str, Any]:
    """The condition, where it is about the spec of now."""
    model, found = site.get("vllmmodel", NAME), site.condition("AdaptersLoaded", NAME)
    return found if found.get("observedGeneration") == model["metadata"]["generation"] else {}


def wait_loaded(site: Site, *names: str) -> None:
    """Until the status says that every engine serves exactly these, and it is so."""
    site.until("AdaptersLoaded", lambda: told(site).get("status") == "True", BROUGHT_SECONDS)
    assert [served(site, pod["metadata"]["name"]) for pod in site.pods(NAME)] == [set(names)] * len(site.pods(NAME))


def catalogued(site: Site) -> set[str]:
    """What the catalogue says of the model's adapters."""
    catalog = json.loads(site.get("configmap", "vllm-catalog")["data"]["catalog.json"])
    return {name for model in catalog["models"] for name in model.get("adapters", ())}


def lives(site: Site) -> dict[str, tuple[str, int]]:
    """Which pods there are, and how often their engines were started again."""
    return {
        pod["metadata"]["name"]: (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        for pod in site.pods(NAME)
    }


@pytest.fixture
def fleet(site: Site, stub: EngineChoice) -> Iterator[Site]:
    """Two engines that serve an adapter."""
    lora = {"runtimeUpdates": True, "maxRank": 16, **adapters(sql="org/sql")["lora"]}
    site.apply(models.model(NAME, stub, replicas=2, lora=lora))
    site.wait_ready(NAME, 240)
    wait_loaded(site, "sql")
    yield site
    scale_operator(site.cluster, 2)


def edited(site: Site, patch: Mapping[str, Any], *names: str) -> None:
    """An edit that every engine follows, and clients are told of."""
    began = time.monotonic()
    site.patch(NAME, patch)
    wait_loaded(site, *names)
    print(f"an edit has reached all engines after {time.monotonic() - began:.1f} s")
    site.until("the catalogue", lambda: catalogued(site) == set(names))
    site.until(
        "the client's ConfigMap",
        lambda: site.get("configmap", f"{NAME}-client")["data"].get("VLLM_ADAPTER_NAMES") == " ".join(sorted(names)),
    )


def test_an_edit_of_adapters_reaches_every_engine_and_what_comes_later_without_a_restart(fleet: Site) -> None:
    before, template = lives(fleet), fleet.get("deployment", NAME)["spec"]["template"]
    edited(fleet, adapters(sql="org/sql", legal="org/legal"), "sql", "legal")

    # one that cannot be loaded is told, and the others go on
    fleet.patch(NAME, adapters(sql="org/sql", legal="org/legal", none="/none"))
    failing = fleet.until(
        "AdapterFails", lambda: told(fleet) if told(fleet).get("reason") == "AdapterFails" else {}, BROUGHT_SECONDS
    )
    assert "spec.lora.adapters[2] (none): " in failing["message"]
    assert "No adapter found for /none" in failing["message"]
    assert "correct its source in spec.lora.adapters" in failing["message"]
    assert fleet.condition("Ready", NAME)["status"] == "True"
    assert catalogued(fleet) == {"sql", "legal"}
    edited(fleet, adapters(sql="org/sql", legal="org/legal"), "sql", "legal")

    # one that is gone leaves the catalogue first; meanwhile an engine comes, and another starts again
    fleet.patch(NAME, adapters(sql="org/sql"))
    left_at = time.monotonic()
    fleet.until("the catalogue", lambda: catalogued(fleet) == {"sql"})
    assert all("legal" in served(fleet, pod) for pod in before)
    fleet.patch(NAME, {"replicas": 3})
    fleet.wait_endpoints(NAME, 3)
    (new,) = set(lives(fleet)) - set(before)
    assert "sql" in served(fleet, new)
    assert fleet.get("vllmmodel", NAME)["status"]["adapters"][0]["served"] is True

    # nobody needs the operator for an engine that starts again
    scale_operator(fleet.cluster, 0)
    with contextlib.suppress(AssertionError):  # it ends before it answers
        fleet.faults(new, exit=1)
    fleet.until("a restart", lambda: lives(fleet)[new][1] == 1)
    fleet.wait_endpoints(NAME, 3)
    assert "sql" in served(fleet, new)
    scale_operator(fleet.cluster, 2)

    fleet.until("legal is unloaded", lambda: told(fleet).get("status") == "True", LEAVING_SECONDS + BROUGHT_SECONDS)
    wait_loaded(fleet, "sql")
    assert time.monotonic() - left_at >= LEAVING_SECONDS
    found = lives(fleet)
    assert {name: found[name] for name in before} == before, "no engine was replaced or restarted"
    assert fleet.get("deployment", NAME)["spec"]["template"] == template
    assert len(fleet.list("controllerrevisions", instance=NAME)) == 1
