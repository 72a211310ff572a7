"""The engines of a model, as its pods and what was looked up of them show them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import instance_name
from vllm_operator.diagnosis import fleet
from vllm_operator.diagnosis.ended import ended_pods
from vllm_operator.diagnosis.engines import reports
from vllm_operator.diagnosis.facts import unbound_claims

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.diagnosis.engines import EngineReport
    from vllm_operator.planner.plan import Observation


def engines(observation: Observation) -> tuple[EngineReport, ...]:
    """What is known of each engine."""
    findings = {uid: lookup.finding for uid, lookup in observation.lookups.items()}
    claims = unbound_claims(child.body for child in observation.children.values())
    return reports(
        pod_bodies(observation),
        findings,
        unbound_claims=claims,
        now=observation.now,
        model_spec=observation.raw.get("spec"),
    )


def pod_bodies(observation: Observation) -> list[Mapping[str, Any]]:
    """The engines' pods, as the API server has them."""
    return [pod.body for pod in observation.pods]


def fleet_of(name: str, observation: Observation, *, wanted: int, pending: bool = False) -> fleet.Fleet:
    """All engines of the model of this name; `pending` says that its Deployment is about to be written."""
    deployment = observation.children.get(ObjectKey("Deployment", instance_name(name)))
    body = deployment.body if deployment else None
    ended = ended_pods(pod_bodies(observation))
    return fleet.observed(wanted, body, engines(observation), pending=pending, ended=ended)
