"""What an autoscaler, KEDA and Kubernetes say of a model's autoscaler becomes one sentence with what to do."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.resources import NOW, as_live, desired, observation, resource
from vllm_operator.planner import scaler_health
from vllm_operator.planner.decide import decide
from vllm_operator.render.autoscaling import AUTOSCALER, SCALED_OBJECT
from vllm_operator.render.context import RenderContext

if TYPE_CHECKING:
    from datetime import datetime

    from vllm_operator.api.live import LiveObject
    from vllm_operator.planner.plan import Observation

UID = "u-scaled"
FINE = {"type": "Ready", "status": "True", "reason": "ScaledObjectReady", "message": "fine"}
FALLBACK = {"type": "Fallback", "status": "True", "reason": "FallbackExists", "message": "one is falling back"}
PAUSED = {"type": "Paused", "status": "True", "reason": "ScaledObjectPaused", "message": "ScaledObject is paused"}
PAUSE = "autoscaling.keda.sh/paused"


def when(moment: datetime) -> str:
    """A time as Kubernetes writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def scaled_object(*conditions: dict[str, str], **metadata: Any) -> LiveObject:
    """A live ScaledObject, made long ago."""
    context = RenderContext(autoscaler=SCALED_OBJECT, prometheus_address="http://prometheus:9090")
    (child,) = [
        one for one in desired(resource(autoscaling={"maxReplicas": 4}), context) if one["kind"] == SCALED_OBJECT
    ]
    born = {"uid": UID, "creationTimestamp": when(NOW - timedelta(hours=1))}
    status = {"status": {"conditions": list(conditions)}} if conditions else {}
    return as_live({**child, "metadata": {**child["metadata"], **born, **metadata}, **status})


def made_by_keda(**condition: str) -> LiveObject:
    """The HorizontalPodAutoscaler that KEDA makes, with the labels of its ScaledObject."""
    labels = dict(scaled_object().body["metadata"]["labels"])
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": SCALED_OBJECT, "name": "qwen", "uid": UID, "controller": True}
    metadata = {"name": "keda-hpa-qwen", "namespace": "team", "labels": labels, "ownerReferences": [owner]}
    status = {"conditions": [{"type": "ScalingActive", **condition}]}
    return as_live(
        {"apiVersion": "autoscaling/v2", "kind": AUTOSCALER, "metadata": {**metadata, "uid": "u-hpa"}, "status": status}
    )


def seen(*live: LiveObject) -> Observation:
    """A model with these objects."""
    found = {one.key: dict(one.body) for one in live}
    return observation(resource(autoscaling={"maxReplicas": 4}), found, scaled_objects=True)


def test_a_scaled_object_that_is_ready_and_has_no_metrics_fails_in_the_words_of_its_autoscaler() -> None:
    live = scaled_object(FINE)
    lost = {"status": "False", "reason": "FailedGetExternalMetric", "message": "no such metric"}
    question = "does http://prometheus:9090 answer KEDA, and has it metrics of these engines?"
    told = scaler_health.fault(live, seen(live, made_by_keda(**lost)))
    assert told == f"FailedGetExternalMetric: no such metric: {question}"
    at_none = {"status": "False", "reason": "ScalingDisabled", "message": "scaling is disabled"}
    assert scaler_health.fault(live, seen(live, made_by_keda(**at_none))) == ""
    assert scaler_health.fault(live, seen(live, made_by_keda(status="True"))) == ""
    assert scaler_health.fault(live, seen(live)) == ""


def test_a_fallback_is_told_with_what_it_keeps_and_whom_it_asked() -> None:
    live = scaled_object(FINE, FALLBACK)
    told = scaler_health.fault(live, seen(live))
    assert "at least 1 (FallbackExists: one is falling back)" in told
    assert "does http://prometheus:9090 answer KEDA" in told
    assert scaler_health.fault(scaled_object(FINE, {**FALLBACK, "status": "False"}), seen(live)) == ""


@pytest.mark.parametrize("annotations", [{PAUSE: "true"}, {PAUSE: "true", f"{PAUSE}-replicas": "3"}])
def test_a_pause_is_told_with_the_command_that_ends_it(annotations: dict[str, str]) -> None:
    told = scaler_health.paused(scaled_object(FINE, PAUSED, annotations={**annotations, "other": "1"}))
    assert f"`kubectl annotate scaledobject qwen {' '.join(f'{name}-' for name in annotations)}`" in told
    assert scaler_health.paused(scaled_object(FINE, PAUSED)) == "", "KEDA may leave its condition behind"
    assert scaler_health.paused(scaled_object(FINE, annotations={PAUSE: "false"})) == ""


def test_a_scaled_object_of_which_nobody_says_anything_is_told_after_a_minute() -> None:
    young = scaled_object(creationTimestamp=when(NOW - timedelta(seconds=20)))
    assert scaler_health.silence(young, NOW) == ""
    assert scaler_health.look_again_at(seen(young)) == NOW + timedelta(seconds=40)
    assert "does its operator run" in scaler_health.silence(young, NOW + timedelta(seconds=40))
    assert scaler_health.silence(scaled_object(FINE), NOW) == ""
    assert scaler_health.look_again_at(seen(scaled_object())) is None


def test_one_that_is_deleted_and_stays_is_told_with_what_frees_it_also_without_the_section() -> None:
    leaving = {"deletionTimestamp": when(NOW - timedelta(seconds=61)), "finalizers": ["finalizer.keda.sh"]}
    live = scaled_object(FINE, **leaving)
    told = scaler_health.held(live, NOW)
    assert "held by finalizer.keda.sh" in told
    assert """kubectl patch scaledobject qwen --type=merge --patch '{"metadata": {"finalizers": null}}'""" in told
    assert scaler_health.held(live, NOW - timedelta(seconds=10)) == ""
    assert scaler_health.held(scaled_object(FINE), NOW) == ""
    for raw in (resource(autoscaling={"maxReplicas": 4}), resource()):
        plan = decide(observation(raw, {live.key: dict(live.body)}, scaled_objects=True))
        assert plan.status
        assert [told for told in plan.status.get("warnings", ()) if "held by" in told]
