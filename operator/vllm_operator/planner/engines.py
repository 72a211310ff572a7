"""The engines of a model, as its pods and what was looked up of them show them. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vllm_operator.diagnosis import fleet
from vllm_operator.diagnosis.capacity import told_capacities
from vllm_operator.diagnosis.ended import ended_pods
from vllm_operator.diagnosis.engines import reports
from vllm_operator.diagnosis.facts import unbound_claims
from vllm_operator.diagnosis.groups import one_for_each_group
from vllm_operator.diagnosis.queues import last_eviction
from vllm_operator.planner.workload import live_workload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.capacity import ReportedCapacity
    from vllm_operator.diagnosis.engines import EngineReport
    from vllm_operator.planner.plan import Observation


def engines(observation: Observation) -> tuple[EngineReport, ...]:
    """What is known of each engine; of one over several pods, what stands in its way."""
    findings = {uid: lookup.finding for uid, lookup in observation.lookups.items()}
    claims = unbound_claims(child.body for child in observation.children.values())
    found = reports(
        pod_bodies(observation),
        findings,
        unbound_claims=claims,
        now=observation.now,
        model_spec=observation.raw.get("spec"),
    )
    return _with_capacities(one_for_each_group(found, pod_bodies(observation)), observation)


def _with_capacities(found: tuple[EngineReport, ...], observation: Observation) -> tuple[EngineReport, ...]:
    """The engines with what was told of their memory before: no manager is asked again for what does not change."""
    told = told_capacities(observation.raw.get("status") or {}, pod_bodies(observation))
    return tuple(replace(one, capacity=told[one.pod]) if _is_told(one, told) else one for one in found)


def _is_told(engine: EngineReport, told: Mapping[str, ReportedCapacity]) -> bool:
    """Whether what was told of an engine stands: its manager says nothing of it now, or less."""
    known = told.get(engine.pod)
    return known is not None and (engine.capacity is None or (known.is_whole and not engine.capacity.is_whole))


def pod_bodies(observation: Observation) -> list[Mapping[str, Any]]:
    """The engines' pods, as the API server has them."""
    return [pod.body for pod in observation.pods]


def fleet_of(observation: Observation, *, wanted: int, suspended: bool = False, pending: bool = False) -> fleet.Fleet:
    """All engines of the model; `pending` says that what makes them is about to be written."""
    workload = live_workload(observation)
    body = workload.body if workload else None
    ended = ended_pods(pod_bodies(observation))
    taken = last_eviction(pod_bodies(observation), observation.evicted)
    return fleet.observed(
        wanted,
        body,
        engines(observation),
        suspended=suspended,
        pending=pending,
        ended=ended,
        evicted=taken.sentence if taken else "",
    )
