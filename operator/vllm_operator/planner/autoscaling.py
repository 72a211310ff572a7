"""`spec.autoscaling`: which autoscaler a model can have, what is missing where it can have none, and how it does. Pure.

The two kinds take turns: one is deleted before the other is made. KEDA refuses a ScaledObject of what a
HorizontalPodAutoscaler scales already, and two of them that select the same pods stand still
(`AmbiguousSelector` in kubernetes/pkg/controller/podautoscaler/horizontal.go).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import Reason
from vllm_operator.api.live import ObjectKey
from vllm_operator.planner import scaler_health
from vllm_operator.planner.engines import pod_bodies
from vllm_operator.planner.load_time import load_seconds
from vllm_operator.planner.owners import controlled_by
from vllm_operator.planner.replicas import told_of_writer
from vllm_operator.render.autoscaling import AUTOSCALER, SCALED_OBJECT, prometheus_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.api.live import LiveObject
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.diagnosis.fleet import Outcome
    from vllm_operator.planner.plan import Observation

Told = tuple[str, Reason, str]
"""Status, reason and message of a condition."""

KINDS: Final = (SCALED_OBJECT, AUTOSCALER)


def live_autoscalers(model: VLLMModel, observation: Observation) -> Iterator[LiveObject]:
    """The model's own autoscalers that there are, as they were when they were last listed or written."""
    for kind in KINDS:
        live = observation.children.get(ObjectKey(kind, model.instance))
        if live is not None and controlled_by(model.uid, live):
            yield live


def possible(model: VLLMModel, observation: Observation) -> str:
    """Kind of the autoscaler that the model can have in this cluster; empty where it wants or can have none."""
    scaling = model.spec.autoscaling
    if scaling is None:
        return ""
    if observation.scaled_objects and prometheus_address(scaling, observation.prometheus_address):
        return SCALED_OBJECT
    return AUTOSCALER if observation.custom_metrics else ""


def wanted_now(model: VLLMModel, observation: Observation) -> str:
    """Kind of the autoscaler that there is to be now: none while one of the other kind is still there."""
    kind = possible(model, observation)
    others = (live.kind for live in live_autoscalers(model, observation) if live.kind != kind)
    return "" if any(others) else kind


def context_of(model: VLLMModel, observation: Observation) -> dict[str, Any]:
    """What an autoscaler depends on beside the spec, as arguments of RenderContext; nothing where none is wanted."""
    if model.spec.autoscaling is None:
        return {}
    live = [one.body for one in live_autoscalers(model, observation)]
    return {
        "autoscaler": wanted_now(model, observation),
        "prometheus_address": observation.prometheus_address,
        "load_seconds": load_seconds(model, pod_bodies(observation), live),
    }


def condition(model: VLLMModel, observation: Observation, *, serving: bool) -> Told | None:
    """Whether somebody sets the number of engines; None where the spec asks nobody to.

    As long as no engine is `serving`, an autoscaler has nothing to go by, and what it says of that is no fault.
    """
    scaling = model.spec.autoscaling
    if scaling is None:
        return None
    kind = possible(model, observation)
    if not kind:
        return "False", Reason.AUTOSCALER_MISSING, _missing(observation)
    named = f"{kind} {model.instance}"
    live = next((one for one in live_autoscalers(model, observation) if one.kind == kind), None)
    if live is not None:
        fault = scaler_health.fault(live, observation) if serving else ""
        paused = scaler_health.paused(live)
        if paused:
            return "False", Reason.AUTOSCALER_PAUSED, "; ".join(filter(None, (paused, fault)))
        fault = fault or scaler_health.silence(live, observation.now)
        if fault:
            return "False", Reason.AUTOSCALER_FAILS, f"{named} does not scale: {fault}"
    fewest = scaling.min_replicas if kind == SCALED_OBJECT else scaling.fewest_serving
    return "True", Reason.AUTOSCALER_WORKS, f"{named} keeps from {fewest} to {scaling.max_replicas} engines"


def with_idle(model: VLLMModel, observation: Observation, outcome: Outcome) -> Outcome:
    """What is told of a model that has no engine since there is nothing to do: one comes when it is asked for."""
    scaling = model.spec.autoscaling
    if outcome.reason is not Reason.SCALED_TO_ZERO or scaling is None or scaling.min_replicas:
        return outcome
    if possible(model, observation) != SCALED_OBJECT:
        return outcome
    told = (
        f"there is nothing to do, so no engine is there: {SCALED_OBJECT} {model.instance} brings one back as soon as "
        "spec.autoscaling.idle.query is greater than 0, and it then has to load"
    )
    return replace(outcome, message=told)


def _missing(observation: Observation) -> str:
    """What has to be there for one kind or the other."""
    if observation.scaled_objects:
        return (
            "KEDA is there, and nobody says where its Prometheus is: set spec.autoscaling.prometheus.serverAddress, or "
            "VLLM_OPERATOR_PROMETHEUS_ADDRESS of the operator (prometheusAddress of its chart)"
        )
    return (
        "this cluster has neither ScaledObject (keda.sh/v1alpha1) nor custom metrics (custom.metrics.k8s.io), or the "
        "operator may not list the former: install KEDA and set spec.autoscaling.prometheus.serverAddress, or install "
        "prometheus-adapter with the rules of docs/autoscaling.md; it is looked for every 10 minutes"
    )


def warnings(model: VLLMModel, observation: Observation) -> list[str]:
    """What does not stop the engines and should be known all the same."""
    held = (scaler_health.held(live, observation.now) for live in live_autoscalers(model, observation))
    if model.spec.autoscaling is None:
        return [sentence for sentence in held if sentence]
    told = (
        *held,
        told_of_writer(observation.raw),
        _two_autoscalers(observation),
        _zero_is_final(model, observation),
        _zero_not_reached(model, observation),
    )
    return [sentence for sentence in told if sentence]


def _two_autoscalers(observation: Observation) -> str:
    """An autoscaler of somebody else on the same model."""
    if not observation.rivals:
        return ""
    names = ", ".join(rival.name for rival in observation.rivals)
    return (
        f"{names} of somebody else scales this VLLMModel, too: Kubernetes acts on neither of "
        "two autoscalers that select the same pods; delete one, or take spec.autoscaling out"
    )


def _zero_is_final(model: VLLMModel, observation: Observation) -> str:
    """A model whose engines nobody brings back."""
    scaling, spec = model.spec.autoscaling, model.spec
    if scaling is None or spec.replicas or spec.suspend or possible(model, observation) != AUTOSCALER:
        return ""
    return (
        "spec.replicas is 0, and a HorizontalPodAutoscaler leaves 0 alone: "
        f"`kubectl scale vllmmodel {model.name} --replicas {scaling.fewest_serving}` brings engines back"
    )


def _zero_not_reached(model: VLLMModel, observation: Observation) -> str:
    """A model that is to have no engine when idle, where there is no KEDA to bring it about."""
    scaling = model.spec.autoscaling
    if scaling is None or scaling.min_replicas or possible(model, observation) != AUTOSCALER:
        return ""
    return (
        "spec.autoscaling.minReplicas is 0, and a HorizontalPodAutoscaler keeps one engine: KEDA takes the last one, "
        "too, and brings it back"
    )
