"""Models that KEDA scales, and the autoscaler of Kubernetes on the metrics of prometheus-adapter: the real ones.

In the order of a cluster's life: nothing that scales, custom metrics, KEDA, KEDA removed again. The stub engine works
on two requests at once and tells vLLM's metrics of them. Kubernetes looks every 2 s here and not every 15 s.
"""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.autoscaling.load import ENGINE, STEP_SECONDS, LongRequest, asking, ended
from tests.cluster import ClusterError
from tests.support import keda, models, prometheus_adapter
from tests.support.prometheus import URL_FOR_PODS

if TYPE_CHECKING:
    from tests.cluster import OwnCluster
    from tests.support.prometheus import Prometheus
    from tests.support.site import Site

pytestmark = pytest.mark.node

NAME: Final = "busy"
PATIENCE_SECONDS: Final = 300.0
"""On a machine that does much else."""
LOAD_SECONDS: Final = 20
"""How long an engine takes to load, for which the operator tells autoscalers 30 or more."""
WINDOW_SECONDS: Final = 30
AT_ONCE: Final = 24
"""Requests at once: with 3 engines, each has 2 in work and 6 that wait, which is above the default target of 5."""

QUICK: Final = {"loadSeconds": 15, "scaleDownWindowSeconds": WINDOW_SECONDS}
ZERO: Final[dict[str, Any]] = {
    "minReplicas": 0,
    "maxReplicas": 2,
    "idle": {"query": "gateway_requests", "afterSeconds": 5},
    "behavior": QUICK,
}


def serve(site: Site, name: str, *, loads: int = 0, **spec: Any) -> None:
    """Have a model with an autoscaler, and wait until it serves."""
    environment = {"STUB_LOAD_SECONDS": loads, "STUB_FAULTS": json.dumps({"step_seconds": STEP_SECONDS})}
    variables = [{"name": key, "value": str(value)} for key, value in environment.items()]
    site.apply(models.model(name, models.stub(), engine={**ENGINE, "env": variables}, **spec))
    site.wait_ready(name, PATIENCE_SECONDS)


def replicas(site: Site, name: str) -> int:
    """What the resource says."""
    return int(site.get("vllmmodel", name)["spec"]["replicas"])


def wait_replicas(site: Site, name: str, count: int, seconds: float = PATIENCE_SECONDS) -> None:
    """Until the resource says so, and so many engines are there."""
    site.until(f"{count} engines wanted", lambda: replicas(site, name) == count, seconds)
    site.until(f"{count} engines", lambda: len(site.pods(name)) == count, seconds)


def wait_autoscaled(site: Site, name: str, reason: str) -> str:
    """Until the condition has this reason; its message."""

    def look() -> dict[str, Any]:
        found = site.condition("Autoscaled", name)
        return found if found.get("reason") == reason else {}

    return str(site.until(f"{reason} of {name}", look, PATIENCE_SECONDS)["message"])


def warnings(site: Site, name: str) -> list[str]:
    """What the status tells beside."""
    found: list[str] = site.get("vllmmodel", name).get("status", {}).get("warnings", [])
    return found


def sizes(site: Site) -> list[tuple[int, datetime]]:
    """Each number that an autoscaler has set in this namespace, in order, and when."""
    events = site.list("events")
    found = []
    for event in events:
        if event["reason"] == "SuccessfulRescale":
            size = re.search(r"New size: (\d+)", event["message"])
            assert size is not None, event["message"]
            assert event.get("count", 1) == 1, f"the same again: {event['message']}"
            when = event.get("firstTimestamp") or event["eventTime"]
            found.append((int(size[1]), datetime.fromisoformat(when)))
    return sorted(found, key=lambda one: one[1])


def is_going(site: Site, pod: str) -> bool:
    """Whether a pod is on its way out or gone."""
    found = site.get("pod", pod)
    return not found or "deletionTimestamp" in found["metadata"]


def test_without_anything_that_scales_the_status_says_what_to_install_and_the_fewest_engines_serve(
    site: Site,
) -> None:
    serve(site, NAME, autoscaling={"minReplicas": 2, "maxReplicas": 3})
    assert "install KEDA" in wait_autoscaled(site, NAME, "AutoscalerMissing")
    assert replicas(site, NAME) == len(site.endpoints(NAME)) == 2


def test_kubernetes_own_autoscaler_follows_the_metrics_of_prometheus_adapter_with_the_rules_of_our_page(
    scaled: OwnCluster, prometheus: Prometheus, site: Site
) -> None:
    assert prometheus.query("vector(1)")
    serve(site, NAME, autoscaling={"maxReplicas": 2, "behavior": QUICK})
    prometheus_adapter.install(scaled, URL_FOR_PODS)
    try:
        site.until("the autoscaler", lambda: site.get("horizontalpodautoscaler", NAME), PATIENCE_SECONDS)
        assert "HorizontalPodAutoscaler" in wait_autoscaled(site, NAME, "AutoscalerWorks")
        client = asking(site, NAME, AT_ONCE)
        wait_replicas(site, NAME, 2)
        site.wait_ready(NAME, PATIENCE_SECONDS)
        heavy = ended(site, client)
        client = asking(site, NAME, 1)
        wait_replicas(site, NAME, 1)
        light = ended(site, client)
        assert heavy["lost"] == light["lost"] == []
        assert heavy["asked"] > AT_ONCE
        assert [size for size, _ in sizes(site)] == [2, 1]
    finally:
        prometheus_adapter.remove(scaled, URL_FOR_PODS)
    assert "install KEDA" in wait_autoscaled(site, NAME, "AutoscalerMissing")
    site.wait_gone("horizontalpodautoscaler", NAME)


def test_keda_that_comes_while_the_operator_runs_is_used(request: pytest.FixtureRequest, site: Site) -> None:
    serve(site, NAME, autoscaling={"maxReplicas": 3})
    wait_autoscaled(site, NAME, "AutoscalerMissing")
    request.getfixturevalue("with_keda")
    assert "ScaledObject busy keeps from 1 to 3 engines" in wait_autoscaled(site, NAME, "AutoscalerWorks")
    made = site.until("KEDA's autoscaler", lambda: site.get("horizontalpodautoscaler", f"keda-hpa-{NAME}"))
    assert made["spec"]["scaleTargetRef"]["kind"] == "VLLMModel"


@pytest.mark.usefixtures("with_keda")
def test_load_makes_three_engines_of_one_without_flapping_and_one_of_three_again_and_nothing_is_lost(
    site: Site,
) -> None:
    behavior = {"scaleDownWindowSeconds": WINDOW_SECONDS}
    serve(site, NAME, loads=LOAD_SECONDS, autoscaling={"maxReplicas": 3, "behavior": behavior})
    assert "keeps from 1 to 3 engines" in wait_autoscaled(site, NAME, "AutoscalerWorks")
    site.until("KEDA's autoscaler", lambda: site.get("horizontalpodautoscaler", f"keda-hpa-{NAME}"))
    policies = site.get("scaledobject", NAME)["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (policy,) = policies["scaleUp"]["policies"]
    assert policy["periodSeconds"] >= LOAD_SECONDS, "it is what an engine took to load"
    client = asking(site, NAME, AT_ONCE)
    wait_replicas(site, NAME, 3)
    site.wait_ready(NAME, PATIENCE_SECONDS)
    (two, asked_for_two), (three, asked_for_three) = sizes(site)
    assert (two, three) == (2, 3)
    assert (asked_for_three - asked_for_two).total_seconds() >= policy["periodSeconds"] - 2, "while the second loads"
    generation = site.get("scaledobject", NAME)["metadata"]["generation"]
    heavy = ended(site, client)
    light = asking(site, NAME, 1)
    wait_replicas(site, NAME, 1)
    assert [size for size, _ in sizes(site)] == [2, 3, 2, 1]
    told = ended(site, light)
    assert heavy["lost"] == told["lost"] == []
    assert heavy["asked"] > AT_ONCE
    assert warnings(site, NAME) == []
    assert site.get("scaledobject", NAME)["metadata"]["generation"] == generation, "nobody writes it again and again"


@pytest.mark.usefixtures("with_keda")
def test_a_scale_down_takes_the_engine_with_the_least_work_and_what_the_others_work_on_is_finished(site: Site) -> None:
    serve(site, NAME, autoscaling={"minReplicas": 3, "maxReplicas": 4, "behavior": QUICK})
    wait_replicas(site, NAME, 3)
    wait_autoscaled(site, NAME, "AutoscalerWorks")
    first, second, idle = sorted(pod["metadata"]["name"] for pod in site.pods(NAME))
    with (
        LongRequest(site, NAME, first, 150.0) as longest,
        LongRequest(site, NAME, first, 150.0) as beside,
        LongRequest(site, NAME, second, 70.0) as long,
    ):
        site.patch(NAME, {"autoscaling": {"minReplicas": 1}})
        site.until("the first engine goes", lambda: len(site.pods(NAME)) == 2, PATIENCE_SECONDS)
        assert is_going(site, idle)
        assert not is_going(site, first)
        wait_replicas(site, NAME, 1)
        assert [pod["metadata"]["name"] for pod in site.pods(NAME)] == [first]
        assert [one.answer(PATIENCE_SECONDS) for one in (longest, beside, long)] == ["length"] * 3


@pytest.mark.usefixtures("with_keda")
def test_a_pause_is_told_with_its_end_and_a_hand_that_scales_meanwhile_who_owns_the_number(site: Site) -> None:
    serve(site, NAME, autoscaling={"maxReplicas": 3, "behavior": {**QUICK, "scaleDownWindowSeconds": 600}})
    wait_autoscaled(site, NAME, "AutoscalerWorks")
    site.kubectl("annotate", "scaledobject", NAME, "autoscaling.keda.sh/paused=true")
    wait_autoscaled(site, NAME, "AutoscalerPaused")
    site.kubectl("scale", "vllmmodel", NAME, "--replicas=2")
    wait_replicas(site, NAME, 2)
    site.until("who owns the number", lambda: any("spec.autoscaling owns it" in told for told in warnings(site, NAME)))
    for beyond in ("4", "0"):
        with pytest.raises(ClusterError, match=r"spec\.replicas belongs to spec\.autoscaling"):
            site.kubectl("scale", "vllmmodel", NAME, f"--replicas={beyond}")
    site.kubectl("annotate", "scaledobject", NAME, "autoscaling.keda.sh/paused-replicas=3")
    wait_replicas(site, NAME, 3)
    site.until("the autoscaler's own number", lambda: warnings(site, NAME) == [])
    told = site.until("both annotations", lambda: _command_of(site, "paused-replicas-"), PATIENCE_SECONDS)
    site.kubectl(*told)
    assert "keeps from 1 to 3 engines" in wait_autoscaled(site, NAME, "AutoscalerWorks")
    taken_out = [{"op": "remove", "path": "/spec/autoscaling"}]
    site.kubectl("patch", "vllmmodel", NAME, "--type=json", "--patch", json.dumps(taken_out))
    site.wait_gone("scaledobject", NAME)
    site.wait_gone("horizontalpodautoscaler", f"keda-hpa-{NAME}")
    site.until("no condition", lambda: site.condition("Autoscaled", NAME) == {})
    assert replicas(site, NAME) == len(site.pods(NAME)) == 3, "the engines stay"


def _command_of(site: Site, word: str) -> list[str]:
    """The command that the condition tells, once it has this word."""
    told = re.search(r"`kubectl (annotate [^`]+)`", site.condition("Autoscaled", NAME).get("message", ""))
    return told[1].split() if told and word in told[1] else []


@pytest.mark.usefixtures("with_keda")
def test_while_prometheus_is_away_the_engines_stay_or_are_those_of_the_fallback_and_the_status_says_so(
    site: Site, prometheus: Prometheus
) -> None:
    serve(site, NAME, autoscaling={"maxReplicas": 3, "fallbackReplicas": 2, "behavior": QUICK})
    wait_autoscaled(site, NAME, "AutoscalerWorks")
    with prometheus.away():
        wait_replicas(site, NAME, 2)
        told = wait_autoscaled(site, NAME, "AutoscalerFails")
        assert URL_FOR_PODS in told
        site.kubectl("scale", "vllmmodel", NAME, "--replicas=3")
        wait_replicas(site, NAME, 3)
        site.wait_ready(NAME, PATIENCE_SECONDS)
        time.sleep(2 * WINDOW_SECONDS)  # in which an autoscaler that sees no work takes one
        assert replicas(site, NAME) == 3
    wait_autoscaled(site, NAME, "AutoscalerWorks")
    wait_replicas(site, NAME, 1)


@pytest.mark.usefixtures("with_keda")
def test_a_model_without_work_has_no_engine_until_something_upstream_asks_for_one(
    site: Site, prometheus: Prometheus
) -> None:
    def wanted(count: int) -> None:
        rule = {"record": "gateway_requests", "expr": f"vector({count})"}
        prometheus.change_rules({"groups": [{"name": "gateway", "rules": [rule]}]})
        site.until(
            "the rule", lambda: [one["value"][1] for one in prometheus.query("gateway_requests")] == [f"{count}"]
        )

    wanted(1)
    serve(site, NAME, autoscaling=ZERO)
    wait_autoscaled(site, NAME, "AutoscalerWorks")
    wanted(0)
    wait_replicas(site, NAME, 0)
    asleep = site.wait_reason("ScaledToZero", NAME)
    assert "idle.query is greater than 0" in asleep["message"]
    with prometheus.away():
        site.until("KEDA asks in vain", lambda: "prometheus" in keda.errors(site.cluster), PATIENCE_SECONDS)
    assert replicas(site, NAME) == 0, "nobody knows of work"
    wanted(1)
    wait_replicas(site, NAME, 1)
    site.wait_ready(NAME, PATIENCE_SECONDS)
    with prometheus.away():
        wait_autoscaled(site, NAME, "AutoscalerFails")
        assert replicas(site, NAME) == 1, "an engine stays while nobody knows"


@pytest.mark.usefixtures("with_keda")
def test_what_keda_leaves_over_when_it_is_removed_is_told_with_the_command_that_frees_it(
    scaled: OwnCluster, site: Site
) -> None:
    serve(site, NAME, autoscaling={"minReplicas": 2, "maxReplicas": 3, "behavior": QUICK})
    wait_autoscaled(site, NAME, "AutoscalerWorks")
    assert keda.FINALIZER in site.until("KEDA's hold", lambda: site.get("scaledobject", NAME)["metadata"]["finalizers"])
    keda.remove(scaled)
    told = site.until("what is left over", lambda: [one for one in warnings(site, NAME) if "held by" in one], 300.0)
    command = re.search(r"`kubectl (patch scaledobject \S+ --type=merge --patch) '([^']+)'`", told[0])
    assert command is not None, told
    site.kubectl(*command[1].split(), command[2])
    assert "install KEDA" in wait_autoscaled(site, NAME, "AutoscalerMissing")
    site.until("no warning", lambda: warnings(site, NAME) == [], PATIENCE_SECONDS)
    assert replicas(site, NAME) == len(site.endpoints(NAME)) == 2
