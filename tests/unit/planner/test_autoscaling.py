"""An autoscaler is made of the kind that the cluster can have; what is missing, fails or interferes is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.resources import (
    as_desired,
    deployment_status,
    desired,
    live,
    observation,
    pod,
    resource,
)
from vllm_operator.api.conditions import by_type
from vllm_operator.api.live import ObjectKey, key_of
from vllm_operator.planner.autoscalers import Rival
from vllm_operator.planner.decide import decide
from vllm_operator.render.autoscaling import AUTOSCALER, SCALED_OBJECT
from vllm_operator.render.context import RenderContext

if TYPE_CHECKING:
    from vllm_operator.planner.plan import Plan

KEDA: dict[str, Any] = {"scaled_objects": True, "prometheus_address": "http://prometheus:9090"}
METRICS: dict[str, Any] = {"custom_metrics": True}
OWN: dict[str, Any] = {"prometheus": {"serverAddress": "http://own:9090"}}
HERE: dict[str, dict[str, Any]] = {SCALED_OBJECT: KEDA, AUTOSCALER: METRICS}


def scaled(**scaling: Any) -> dict[str, Any]:
    """A model with an autoscaler."""
    return resource(autoscaling={"maxReplicas": 4, **scaling})


def judged(raw: dict[str, Any], kind: str = "", *, status: dict[str, Any] | None = None, **around: Any) -> Plan:
    """What is done about a model whose engine serves; `kind` is that of the live autoscaler."""
    found = as_desired(raw)
    if kind:
        for child in desired(raw, RenderContext(autoscaler=kind, prometheus_address="http://prometheus:9090")):
            if child["kind"] == kind:
                found[key_of(child)] = live(child, **(status or {}))
    found[ObjectKey("Deployment", "qwen")]["status"] = deployment_status(1)
    return decide(observation(raw, found, pod(ready=True), **around))


def autoscaled(plan: Plan) -> tuple[str, str, str]:
    """The condition."""
    assert plan.status
    found = by_type(plan.status)["Autoscaled"]
    return found["status"], found["reason"], found["message"]


def warnings(plan: Plan) -> list[str]:
    """What is told beside."""
    assert plan.status
    return list(plan.status.get("warnings", ()))


def made(plan: Plan) -> list[str]:
    """The kinds that are written."""
    return [write.desired["kind"] for write in plan.writes]


@pytest.mark.parametrize(
    ("around", "scaling", "kind"),
    [
        (KEDA, {}, SCALED_OBJECT),
        ({**KEDA, **METRICS}, {}, SCALED_OBJECT),
        ({"scaled_objects": True}, OWN, SCALED_OBJECT),
        ({"scaled_objects": True, **METRICS}, {}, AUTOSCALER),
        (METRICS, OWN, AUTOSCALER),
    ],
)
def test_keda_is_used_where_it_knows_its_prometheus_and_custom_metrics_elsewhere(
    around: dict[str, Any], scaling: dict[str, Any], kind: str
) -> None:
    assert made(judged(scaled(**scaling), **around)) == [kind]
    status, reason, message = autoscaled(judged(scaled(**scaling), kind, **around))
    assert (status, reason) == ("True", "AutoscalerWorks")
    assert message == f"{kind} qwen keeps from 1 to 4 engines"


@pytest.mark.parametrize(
    ("around", "words"),
    [
        ({}, ("neither ScaledObject", "custom.metrics.k8s.io", "install KEDA", "prometheus-adapter")),
        ({"scaled_objects": True}, ("KEDA is there", "serverAddress", "VLLM_OPERATOR_PROMETHEUS_ADDRESS")),
    ],
)
def test_what_is_missing_is_told_with_how_to_get_it_and_stops_nothing(
    around: dict[str, Any], words: tuple[str, ...]
) -> None:
    plan = judged(scaled(), **around)
    assert plan.writes == ()
    status, reason, message = autoscaled(plan)
    assert (status, reason) == ("False", "AutoscalerMissing")
    assert all(word in message for word in words)
    assert plan.status
    assert by_type(plan.status)["Ready"]["status"] == "True"


def test_a_model_without_an_autoscaler_says_nothing_of_it() -> None:
    plan = judged(resource(), **KEDA, **METRICS)
    assert plan.writes == ()
    assert plan.status
    assert "Autoscaled" not in by_type(plan.status)


@pytest.mark.parametrize(("before", "after"), [(AUTOSCALER, SCALED_OBJECT), (SCALED_OBJECT, AUTOSCALER)])
def test_one_kind_goes_before_the_other_comes(before: str, after: str) -> None:
    plan = judged(scaled(), before, **HERE[after])
    assert made(plan) == []
    assert [one.live.kind for one in plan.deletions] == [before]


@pytest.mark.parametrize("kind", [AUTOSCALER, SCALED_OBJECT])
def test_without_the_section_the_autoscaler_goes_and_the_engines_stay(kind: str) -> None:
    with_it = scaled()
    found = as_desired({**with_it, "spec": {**with_it["spec"], "replicas": 3}})
    context = RenderContext(autoscaler=kind, prometheus_address="http://prometheus:9090")
    found |= {key_of(child): live(child) for child in desired(with_it, context) if child["kind"] == kind}
    plan = decide(observation(resource(generation=2, replicas=3), found, **HERE[kind]))
    assert plan.writes == ()
    assert [one.live.kind for one in plan.deletions] == [kind]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (SCALED_OBJECT, {"type": "Ready", "status": "False", "reason": "Failed", "message": "no such scaler"}),
        (AUTOSCALER, {"type": "ScalingActive", "status": "False", "reason": "Failed", "message": "no such scaler"}),
    ],
)
def test_an_autoscaler_that_does_not_work_is_quoted(kind: str, told: dict[str, str]) -> None:
    plan = judged(scaled(), kind, status={"conditions": [told]}, **HERE[kind])
    assert autoscaled(plan) == (
        "False",
        "AutoscalerFails",
        f"{kind} qwen does not scale: Failed: no such scaler",
    )
    fine = {**told, "status": "True"}
    assert autoscaled(judged(scaled(), kind, status={"conditions": [fine]}, **HERE[kind]))[0] == "True"


def test_an_autoscaler_that_has_nothing_to_go_by_while_no_engine_serves_does_not_fail() -> None:
    raw, told = scaled(), {"type": "ScalingActive", "status": "False", "reason": "Failed", "message": "no metrics"}
    found = as_desired(raw)
    found |= {key_of(child): live(child) for child in desired(raw, RenderContext(autoscaler=AUTOSCALER))}
    found[ObjectKey(AUTOSCALER, "qwen")]["status"] = {"conditions": [told]}
    assert autoscaled(decide(observation(raw, found, pod(), **METRICS)))[:2] == ("True", "AutoscalerWorks")


def test_an_autoscaler_of_somebody_else_on_the_model_is_told_only_where_there_are_two() -> None:
    rivals = (Rival("HorizontalPodAutoscaler theirs", "qwen"),)
    (told,) = warnings(judged(scaled(), AUTOSCALER, rivals=rivals, **METRICS))
    assert told.startswith("HorizontalPodAutoscaler theirs of somebody else scales this VLLMModel, too")
    assert warnings(judged(resource(), rivals=rivals, **METRICS)) == []


def test_a_hand_that_scales_is_told_who_owns_the_number() -> None:
    hand = {"manager": "kubectl", "operation": "Update", "subresource": "scale"}
    managed = {"managedFields": [{**hand, "fieldsV1": {"f:spec": {"f:replicas": {}}}}]}

    def touched(raw: dict[str, Any]) -> dict[str, Any]:
        return {**raw, "metadata": {**raw["metadata"], **managed}}

    (told,) = warnings(judged(touched(scaled()), AUTOSCALER, **METRICS))
    assert "spec.autoscaling owns it" in told
    assert warnings(judged(touched(resource()), **METRICS)) == []


def test_none_is_final_for_a_horizontal_pod_autoscaler_and_not_for_keda() -> None:
    raw = scaled(minReplicas=0, idle={"query": "queue"})
    assert [told.partition(",")[0] for told in warnings(judged(raw, AUTOSCALER, **METRICS))] == [
        "spec.autoscaling.minReplicas is 0"
    ]
    raw["spec"]["replicas"] = 0
    first, _ = warnings(judged(raw, AUTOSCALER, **METRICS))
    assert first.startswith("spec.replicas is 0, and a HorizontalPodAutoscaler leaves 0 alone: `kubectl scale")
    assert warnings(judged(raw, SCALED_OBJECT, **KEDA)) == []


def test_a_model_that_has_nothing_to_do_says_what_brings_an_engine_back() -> None:
    raw = scaled(minReplicas=0, idle={"query": "queue"})
    raw["spec"]["replicas"] = 0
    found = as_desired(raw, **deployment_status(0))

    def message(**around: Any) -> str:
        plan = decide(observation(raw, found, **around))
        assert plan.status
        ready = by_type(plan.status)["Ready"]
        assert (ready["status"], ready["reason"]) == ("False", "ScaledToZero")
        return str(ready["message"])

    assert message(**KEDA).startswith(
        "there is nothing to do, so no engine is there: ScaledObject qwen brings one back"
    )
    assert (
        message(**METRICS) == "spec.replicas is 0: no engine is wanted, and connections are refused until it is raised"
    )


def test_a_live_autoscaler_as_desired_is_not_written_again() -> None:
    for kind, around in HERE.items():
        assert judged(scaled(), kind, **around).writes == ()
