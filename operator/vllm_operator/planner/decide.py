"""All judgement about one model: from an Observation to a Plan. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pydantic

from vllm_operator.api.conditions import Reason
from vllm_operator.api.meta import KIND
from vllm_operator.api.resource import explain, parse_resource
from vllm_operator.planner import pods, status
from vllm_operator.planner.compare import holds
from vllm_operator.planner.plan import ChildKey, NamespaceObservation, Observation, Plan, Write
from vllm_operator.render import gates
from vllm_operator.render.children import children

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.resource import VLLMModel

REFUSED_AGAIN_AFTER: Final = timedelta(seconds=30)
"""A foreign object, a quota or a webhook may go away, and none of them tells the operator."""


def decide(observation: Observation) -> Plan:
    """What shall be done about a model. Deleting its children is left to garbage collection."""
    raw = observation.raw
    if raw is None or "deletionTimestamp" in raw["metadata"]:
        return Plan()
    try:
        model = parse_resource(raw)
    except pydantic.ValidationError as error:
        refusal = status.refused_status(raw, Reason.INVALID_SPEC, explain(error), observation.now)
        return Plan(status=_if_changed(raw, refusal))
    writes = _writes(model, observation.children)
    taken = [write.desired for write in writes if _foreign(model, observation.children.get(key_of(write.desired)))]
    if taken:
        return refuse(observation, Reason.NAME_TAKEN, name_taken(taken[0]))
    pending = any(write.desired["kind"] == "Deployment" for write in writes)
    return Plan(writes=writes, status=_if_changed(raw, _status(model, observation, pending=pending)))


def tell(observation: Observation) -> Plan:
    """What to say in the status once all writes of a decision are done: the children are as that decision wanted."""
    raw = observation.raw
    if raw is None or "deletionTimestamp" in raw["metadata"]:
        return Plan()
    return Plan(status=_if_changed(raw, _status(parse_resource(raw), observation, pending=False)))


def decide_namespace(observation: NamespaceObservation) -> Plan:
    """What shall be done about the gate program of a namespace: it is there as long as a model is."""
    live = observation.program
    if not observation.has_models:
        return Plan(deletes=(live,) if live else ())
    desired = gates.program(observation.namespace)
    if live is not None and holds(live, desired):
        return Plan()
    return Plan(writes=(Write(desired, ours=live is not None),))


def refuse(observation: Observation, reason: Reason, message: str) -> Plan:
    """Say in the status that a write was refused, and try again later."""
    raw = observation.raw
    if raw is None:
        return Plan()
    refusal = status.refused_status(raw, reason, message, observation.now)
    return Plan(status=_if_changed(raw, refusal), look_again_at=observation.now + REFUSED_AGAIN_AFTER)


def name_taken(desired: Mapping[str, Any]) -> str:
    """What to tell when a child's name belongs to somebody else."""
    name = f"{desired['kind']} {desired['metadata']['name']}"
    return f"{name} exists and is not the operator's: delete or rename it, or give the VLLMModel another name"


def key_of(child: Mapping[str, Any]) -> ChildKey:
    """Which child an object is."""
    return ChildKey(child["kind"], child["metadata"]["name"])


def owned(name: str, live: Mapping[str, Any]) -> bool:
    """Whether a live object belongs to the model of this name, or to an earlier one that had it."""
    return any(
        reference.get("controller") and reference["kind"] == KIND and reference["name"] == name
        for reference in live["metadata"].get("ownerReferences", [])
    )


def _foreign(model: VLLMModel, live: Mapping[str, Any] | None) -> bool:
    return live is not None and not owned(model.name, live)


def _writes(model: VLLMModel, live: Mapping[ChildKey, Mapping[str, Any]]) -> tuple[Write, ...]:
    desired = ((child, live.get(key_of(child))) for child in children(model))
    return tuple(Write(child, ours=found is not None) for child, found in desired if not _settled(found, child))


def _settled(live: Mapping[str, Any] | None, desired: Mapping[str, Any]) -> bool:
    """Whether there is nothing to write now: it is as desired, or on its way out and made anew when it is gone."""
    return live is not None and ("deletionTimestamp" in live["metadata"] or holds(live, desired))


def _status(model: VLLMModel, observation: Observation, *, pending: bool) -> dict[str, Any]:
    deployment = observation.children.get(ChildKey("Deployment", model.instance))
    seen = status.fleet(model, deployment, pods.reports(observation.pods), pending=pending)
    return status.status_of(model, seen, status.judge(seen), observation.raw or {}, observation.now)


def _if_changed(raw: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return None if raw.get("status") == wanted else wanted
