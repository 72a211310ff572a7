"""What sets the number of engines: its target, its bounds, what it goes by and how fast it may be."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.resources import model
from vllm_operator.api.names import instance_name
from vllm_operator.api.spec.autoscaling import Autoscaling
from vllm_operator.render.autoscaling import AUTOSCALER, SCALED_OBJECT, autoscaler
from vllm_operator.render.context import RenderContext

ADDRESS = "http://prometheus:9090"
QUERIES = {
    "waiting": "sum(vllm:num_requests_waiting{})",
    "kv-cache": "100 * sum(avg by (pod) (vllm:kv_cache_usage_perc{}))",
    "running": "sum(vllm:num_requests_running{})",
}


def rendered(kind: str, name: str = "qwen", *, load_seconds: int = 600, **scaling: Any) -> dict[str, Any]:
    """The spec of the autoscaler."""
    one = model(name, autoscaling={"maxReplicas": 4, **scaling})
    context = RenderContext(autoscaler=kind, prometheus_address=ADDRESS, load_seconds=load_seconds)
    (found,) = autoscaler(one, context)
    assert (found["kind"], found["metadata"]["name"]) == (kind, one.instance)
    spec: dict[str, Any] = found["spec"]
    return spec


def triggers(**scaling: Any) -> dict[str, dict[str, Any]]:
    """The triggers of the ScaledObject by their names; each is asked in the same way."""
    found = rendered(SCALED_OBJECT, **scaling)["triggers"]
    assert {(one["type"], one["metricType"]) for one in found} == {("prometheus", "AverageValue")}
    return {one["name"]: one["metadata"] for one in found}


def behavior(kind: str, **scaling: Any) -> dict[str, Any]:
    """How fast the number may change."""
    spec = rendered(kind, **scaling)
    inside: dict[str, Any] = spec["advanced"]["horizontalPodAutoscalerConfig"] if kind == SCALED_OBJECT else spec
    found: dict[str, Any] = inside["behavior"]
    return found


@pytest.mark.parametrize("kind", [SCALED_OBJECT, AUTOSCALER])
def test_both_kinds_aim_at_the_model_and_not_at_its_deployment(kind: str) -> None:
    long = "a" * 100
    target = {"apiVersion": "vllm.echo-roots.io/v1alpha1", "kind": "VLLMModel", "name": long}
    assert rendered(kind, long)["scaleTargetRef"] == target


def test_nothing_is_made_where_nobody_asks_or_the_cluster_can_have_none() -> None:
    assert autoscaler(model(), RenderContext(autoscaler=SCALED_OBJECT, prometheus_address=ADDRESS)) == ()
    assert autoscaler(model(autoscaling={"maxReplicas": 2}), RenderContext()) == ()


def test_the_targets_are_those_at_which_an_engine_counts_as_saturated_unless_the_spec_says_others() -> None:
    assert {name: one["threshold"] for name, one in triggers().items()} == {"waiting": "5", "kv-cache": "80"}
    given = triggers(targets={"runningRequests": 12})
    assert {name: one["threshold"] for name, one in given.items()} == {"running": "12"}


@pytest.mark.parametrize(("percent", "quantity"), [(1, "10m"), (80, "800m"), (99, "990m"), (100, "1")])
def test_a_custom_metric_of_the_cache_is_a_share_and_in_the_form_that_the_api_server_keeps(
    percent: int, quantity: str
) -> None:
    (metric,) = rendered(AUTOSCALER, targets={"kvCachePercent": percent})["metrics"]
    assert metric["pods"]["metric"] == {"name": "vllm_kv_cache_usage_perc"}
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": quantity}


@pytest.mark.parametrize("name", ["qwen", "qwen2.5", "a" * 50, "b" * 200])
def test_the_engines_of_this_model_are_asked_about_and_of_no_other(name: str) -> None:
    (question,) = (one["query"] for one in triggers_of(name, targets={"waitingRequests": 1}).values())
    (pattern,) = re.findall(r'pod=~"([^"]+)"', question)
    instance = instance_name(name)
    own = f"{instance}-5d4f6c7b8d-"[:58] + "x2x4z"
    assert 'namespace="team"' in question
    assert re.fullmatch(pattern, own)
    for other in (f"{instance[:-1]}-5d4f6c7b8d-x2x4z", f"{instance[:20]}-large-5d4f6c7b8d-x2x4z", "x" + own):
        assert not re.fullmatch(pattern, other)


def triggers_of(name: str, **scaling: Any) -> dict[str, dict[str, Any]]:
    """The triggers of a model of this name."""
    return {one["name"]: one["metadata"] for one in rendered(SCALED_OBJECT, name, **scaling)["triggers"]}


def test_the_ranks_of_an_engine_share_its_requests_and_have_a_cache_each() -> None:
    found = triggers(targets={"waitingRequests": 1, "kvCachePercent": 1, "runningRequests": 1})
    bare = {name: re.sub(r"\{.*\}", "{}", one["query"]) for name, one in found.items()}
    assert bare == QUERIES


def test_labels_of_the_spec_stand_in_place_of_those_of_the_prometheus_operator() -> None:
    (found,) = triggers(targets={"waitingRequests": 1}, prometheus={"labels": {"b": "2", "a": "x.y"}}).values()
    assert found["query"] == 'sum(vllm:num_requests_waiting{a="x.y",b="2"})'


def test_prometheus_is_the_one_of_the_spec_before_that_of_the_operator_and_is_shown_who_asks() -> None:
    assert {one["serverAddress"] for one in triggers().values()} == {ADDRESS}
    own = {"serverAddress": "https://thanos/team", "authentication": {"name": "team", "modes": ["bearer", "tls"]}}
    assert {one["serverAddress"] for one in triggers(prometheus=own).values()} == {"https://thanos/team"}
    for one in rendered(SCALED_OBJECT, prometheus=own)["triggers"]:
        assert one["authenticationRef"] == {"name": "team"}
        assert one["metadata"]["authModes"] == "bearer,tls"


def test_metrics_that_are_missing_are_an_error_and_take_no_engine_away() -> None:
    spec = rendered(SCALED_OBJECT, minReplicas=2)
    assert {one["metadata"]["ignoreNullValues"] for one in spec["triggers"]} == {"false"}
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 2, "behavior": "currentReplicasIfHigher"}
    assert rendered(SCALED_OBJECT, fallbackReplicas=3)["fallback"]["replicas"] == 3
    assert not {"cooldownPeriod", "initialCooldownPeriod"} & spec.keys()


def test_the_last_engine_goes_only_when_nothing_upstream_and_no_engine_has_work_and_not_while_one_loads() -> None:
    spec = rendered(SCALED_OBJECT, minReplicas=0, idle={"query": "queue", "afterSeconds": 100}, load_seconds=300)
    assert spec["minReplicaCount"] == 0
    assert spec["cooldownPeriod"] == spec["initialCooldownPeriod"] == 400
    assert spec["fallback"]["replicas"] == 1
    wanted = spec["triggers"][-1]
    assert wanted["metadata"]["query"].startswith("(sum(queue) or vector(0)) + (sum(vllm:num_requests_running{")
    assert float(wanted["metadata"]["threshold"]) >= 1e9, "it wakes the model, and never asks for a second engine"
    assert {one["metadata"]["ignoreNullValues"] for one in spec["triggers"]} == {"true"}, "no engine tells nothing"


def test_a_horizontal_pod_autoscaler_takes_no_last_engine() -> None:
    assert rendered(AUTOSCALER, minReplicas=0, idle={"query": "queue"})["minReplicas"] == 1


@pytest.mark.parametrize("kind", [SCALED_OBJECT, AUTOSCALER])
def test_in_the_time_that_an_engine_loads_the_fleet_at_most_doubles_and_no_lull_takes_one(kind: str) -> None:
    found = behavior(kind, load_seconds=900)
    assert found["scaleUp"]["policies"] == [{"type": "Percent", "value": 100, "periodSeconds": 900}]
    assert found["scaleDown"]["stabilizationWindowSeconds"] == 900
    assert behavior(kind, load_seconds=60)["scaleDown"]["stabilizationWindowSeconds"] == 300
    said = behavior(kind, load_seconds=60, behavior={"loadSeconds": 1200})
    assert said["scaleUp"]["policies"][0]["periodSeconds"] == said["scaleDown"]["stabilizationWindowSeconds"] == 1200
    own = behavior(kind, behavior={"scaleUpWindowSeconds": 30, "scaleDownWindowSeconds": 0})
    assert [own[way]["stabilizationWindowSeconds"] for way in ("scaleUp", "scaleDown")] == [30, 0]


@pytest.mark.parametrize(
    ("engine", "seconds"),
    [
        ({}, 60),
        ({"shutdownDelaySeconds": 100, "shutdownTimeoutSeconds": 500}, 600),
        ({"shutdownTimeoutSeconds": 3600}, 1800),
    ],
)
def test_one_engine_goes_after_the_other_has_drained(engine: dict[str, int], seconds: int) -> None:
    one = model(autoscaling={"maxReplicas": 4}, engine=engine)
    (found,) = autoscaler(one, RenderContext(autoscaler=AUTOSCALER))
    down = found["spec"]["behavior"]["scaleDown"]["policies"]
    assert down == [{"type": "Pods", "value": 1, "periodSeconds": seconds}]


def test_a_spec_that_says_no_more_than_how_many_has_a_default_for_all_else() -> None:
    scaling = Autoscaling.model_validate({"maxReplicas": 2})
    assert (scaling.min_replicas, scaling.fewest_serving, scaling.prometheus.server_address) == (1, 1, None)
