"""What engines have reported of their memory at their start. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_operator.api.capacity import ReportedCapacity, reported_by_pod
from vllm_operator.diagnosis.facts import pod_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.api.capacity import Capacity


def reported_capacity(capacity: Capacity, started_at: str) -> ReportedCapacity | None:
    """What a manager says, as of the engine that was started then; None where none runs."""
    return ReportedCapacity(**dict(capacity), started_at=started_at) if started_at else None


def told_capacities(status: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> dict[str, ReportedCapacity]:
    """What a status tells of engines, by their pods' names, as far as they have reported it in the life they are in."""
    told = reported_by_pod(status)
    found = (pod_facts(pod) for pod in pods if pod["metadata"]["name"] in told)
    return {one.name: told[one.name] for one in found if told[one.name].started_at == one.engine.running_since}
