"""An autoscaler that aims at the Deployment is recognised by what it does and named by what has to be edited."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.resources import NOW, as_desired, as_live, resource
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import instance_name
from vllm_operator.planner.autoscalers import Rival, autoscalers_of, is_due, is_scaled_by_others, rival_of

KEY = ObjectKey("Deployment", "qwen")


def autoscaler(called: str = "web", **target: Any) -> dict[str, Any]:
    """A HorizontalPodAutoscaler."""
    aim = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "qwen", **target}
    return {"metadata": {"name": called}, "spec": {"scaleTargetRef": aim}}


@pytest.mark.parametrize(("live", "wanted", "others"), [(1, 1, False), (5, 1, True), (0, 1, True), (1, 0, True)])
def test_others_are_at_work_where_the_live_replicas_are_not_those_of_the_spec(
    live: int,
    wanted: int,
    others: bool,  # noqa: FBT001 # a row of the table
) -> None:
    deployment = as_desired(resource())[KEY]
    deployment["spec"]["replicas"] = live
    assert is_scaled_by_others(resource(replicas=wanted), {KEY: as_live(deployment)}, "qwen") is others


@pytest.mark.parametrize(("live", "others"), [(0, False), (2, True)])
def test_a_suspended_model_is_to_have_none(live: int, *, others: bool) -> None:
    deployment = as_desired(resource())[KEY]
    deployment["spec"]["replicas"] = live
    assert is_scaled_by_others(resource(replicas=2, suspend=True), {KEY: as_live(deployment)}, "qwen") is others


def test_a_deployment_that_is_not_there_is_scaled_by_nobody() -> None:
    assert not is_scaled_by_others(resource(), {}, "qwen")


def test_only_autoscalers_of_this_very_deployment_are_named() -> None:
    found = [
        autoscaler("b"),
        autoscaler("a"),
        autoscaler("right", apiVersion="vllm.echo-roots.io/v1alpha1", kind="VLLMModel"),
        autoscaler("other", name="other"),
        autoscaler("set", kind="StatefulSet"),
        {"metadata": {"name": "empty"}},
    ]
    assert autoscalers_of(found, "qwen") == ("HorizontalPodAutoscaler a", "HorizontalPodAutoscaler b")


def test_what_made_the_autoscaler_is_named_instead_of_it() -> None:
    made = autoscaler("keda-hpa-queue")
    made["metadata"]["ownerReferences"] = [{"kind": "ScaledObject", "name": "queue", "controller": True}]
    assert autoscalers_of([made], "qwen") == ("ScaledObject queue",)


def test_a_namespace_is_looked_at_once_a_minute() -> None:
    assert is_due(None, NOW)
    assert not is_due(NOW, NOW + timedelta(seconds=59))
    assert is_due(NOW, NOW + timedelta(seconds=60))


def on_model(**metadata: Any) -> dict[str, Any]:
    """A HorizontalPodAutoscaler that aims at the model."""
    made = autoscaler("theirs", apiVersion="vllm.echo-roots.io/v1alpha1", kind="VLLMModel", name="qwen2.5")
    return {**made, "metadata": {**made["metadata"], **metadata}}


def test_an_autoscaler_that_aims_at_a_model_is_a_rival_but_for_what_keda_makes_of_the_models_own() -> None:
    assert rival_of(on_model()) == Rival("HorizontalPodAutoscaler theirs", instance_name("qwen2.5"))
    own = {"kind": "ScaledObject", "name": instance_name("qwen2.5"), "controller": True}
    assert rival_of(on_model(ownerReferences=[own])) is None
    assert rival_of(on_model(ownerReferences=[{**own, "name": "other"}])) == Rival(
        "ScaledObject other", instance_name("qwen2.5")
    )
    assert rival_of(autoscaler()) is None
