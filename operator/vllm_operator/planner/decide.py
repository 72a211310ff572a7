"""All judgement about one model: from an Observation to a Plan. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import Reason
from vllm_operator.api.names import CATALOG_CONFIG_MAP, SHARED, instance_name
from vllm_operator.api.resource import parse_resource
from vllm_operator.errors import InvalidSpec
from vllm_operator.planner import keys, lookups, pods, status
from vllm_operator.planner.autoscalers import AUTOSCALERS_AGAIN_AFTER
from vllm_operator.planner.compare import holds
from vllm_operator.planner.owners import belongs, controlled_by
from vllm_operator.planner.plan import ChildKey, NamespaceObservation, Observation, Plan, Trouble, Write
from vllm_operator.planner.warnings import Subject, warnings
from vllm_operator.render import catalog, gates
from vllm_operator.render.children import children
from vllm_operator.render.deployment import deployment
from vllm_operator.render.service import url
from vllm_operator.render.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.planner.pods import EngineReport
    from vllm_operator.planner.status import Outcome

REFUSED_AGAIN_AFTER: Final = timedelta(seconds=30)
"""A foreign object, a quota, a webhook or a missing Secret may be mended, and none of them tells the operator."""

KEY_AGAIN_AFTER: Final = timedelta(seconds=60)
"""How long engines may run with an API key that the user has replaced: the operator does not watch foreign Secrets."""

KEY_ROLL_AFTER: Final = timedelta(seconds=1)
"""When to follow a change of the keys once it is remembered: no watch reports the operator's own write."""

CATALOG_AGAIN_AFTER: Final = timedelta(seconds=1)
"""Shortest time between two comparisons of a catalogue: models that come, or get ready, together cost one write."""

_MOST_TROUBLES_TOLD: Final = 3


def decide(observation: Observation) -> Plan:
    """What shall be done about a model. Deleting its children with it is left to garbage collection."""
    raw = observation.raw
    if raw is None or "deletionTimestamp" in raw["metadata"]:
        return Plan()
    try:
        model = parse_resource(raw)
        desired = _desired(model, observation)
    except InvalidSpec as error:
        return _invalid(observation, str(error))
    writes = _writes(desired, observation.children)
    taken = [write.desired for write in writes if _foreign(model, observation.children.get(key_of(write.desired)))]
    if taken:
        return tell(observation, [name_taken(taken[0])])
    return Plan(
        writes=writes,
        deletes=_no_longer_wanted(model, desired, observation.children),
        status=_if_changed(raw, _status(model, observation, desired, pending=any(map(_is_deployment, writes)))),
        look_again_at=_look_again_at(observation),
    )


def tell(observation: Observation, troubles: Sequence[Trouble] = ()) -> Plan:
    """What to say in the status once the writes of a decision are done, or could not be done.

    Where all went well, the children are as that decision wanted.
    """
    raw = observation.raw
    if raw is None or "deletionTimestamp" in raw["metadata"]:
        return Plan()
    outcome = _outcome(troubles) if troubles else None
    model = parse_resource(raw)
    told = _status(model, observation, (deployment(model),), outcome)
    refused_again_at = observation.now + REFUSED_AGAIN_AFTER if outcome and outcome.stalled else None
    return Plan(status=_if_changed(raw, told), look_again_at=refused_again_at or _look_again_at(observation))


def engines(observation: Observation) -> tuple[EngineReport, ...]:
    """What is known of each engine."""
    said = {uid: heard.words for uid, heard in observation.heard.items()}
    return pods.reports(observation.pods, said)


def decide_namespace(observation: NamespaceObservation) -> Plan:
    """What shall be done about what the models of a namespace share: it is there as long as a model is."""
    models = [raw for raw in observation.models if "deletionTimestamp" not in raw["metadata"]]
    if not models:
        return Plan(deletes=tuple(observation.shared.values()))
    desired = [gates.program(observation.namespace)]
    later = _catalog_again_at(observation)
    if later is None:
        live = observation.shared.get(ChildKey("ConfigMap", CATALOG_CONFIG_MAP))
        desired.append(catalog.catalog(observation.namespace, models, live))
    return Plan(writes=_writes(desired, observation.shared), look_again_at=later)


def name_taken(desired: Mapping[str, Any]) -> Trouble:
    """A child's name belongs to somebody else."""
    name = f"{desired['kind']} {desired['metadata']['name']}"
    shared = desired["metadata"]["name"] in SHARED
    advice = "delete or rename it" if shared else "delete or rename it, or give the VLLMModel another name"
    return Trouble(Reason.NAME_TAKEN, f"{name} exists and is not the operator's: {advice}")


def key_of(child: Mapping[str, Any]) -> ChildKey:
    """Which child an object is."""
    return ChildKey(child["kind"], child["metadata"]["name"])


def _catalog_again_at(observation: NamespaceObservation) -> datetime | None:
    """When to look at the catalogue, where it was looked at a moment ago; None for now."""
    judged = observation.catalog_judged_at
    if judged is None or observation.now >= judged + CATALOG_AGAIN_AFTER:
        return None
    return judged + CATALOG_AGAIN_AFTER


def _desired(model: VLLMModel, observation: Observation) -> tuple[dict[str, Any], ...]:
    """The children; the binding goes on to the next API key once no engine is left that takes another.

    Raises:
        InvalidSpec: the spec's patch of the pods does not fit them.
    """
    standing = keys.standing(observation)
    surroundings = Surroundings(
        api_key=standing.client_key,
        key_record=standing.record,
        keys_changed_at=standing.mark,
        pod_monitors=observation.pod_monitors,
    )
    desired = children(model, surroundings)
    rolling = standing.running_old or not keys.engines_are_current(observation)
    if not standing.held or rolling or any(map(_is_deployment, _writes(desired, observation.children))):
        return desired
    return children(model, replace(surroundings, api_key=standing.next_key or ""))


def _foreign(model: VLLMModel, live: Mapping[str, Any] | None) -> bool:
    return live is not None and not belongs(model.name, live)


def _writes(desired: Sequence[Mapping[str, Any]], live: Mapping[ChildKey, Mapping[str, Any]]) -> tuple[Write, ...]:
    pairs = ((child, live.get(key_of(child))) for child in desired)
    return tuple(Write(child, ours=found is not None) for child, found in pairs if not _settled(found, child))


def _settled(live: Mapping[str, Any] | None, desired: Mapping[str, Any]) -> bool:
    """Whether there is nothing to write now: it is as desired, or on its way out and made anew when it is gone."""
    return live is not None and ("deletionTimestamp" in live["metadata"] or holds(live, desired))


def _is_deployment(write: Write) -> bool:
    return bool(write.desired["kind"] == "Deployment")


def _no_longer_wanted(
    model: VLLMModel, desired: Sequence[Mapping[str, Any]], live: Mapping[ChildKey, Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...]:
    """Children of this very model that its spec does not ask for any more.

    What an earlier model of its name left is for garbage collection, and a claim without an owner is kept.
    """
    wanted = set(map(key_of, desired))
    return tuple(
        live[key]
        for key in sorted(live.keys() - wanted)
        if controlled_by(model.uid, live[key]) and "deletionTimestamp" not in live[key]["metadata"]
    )


def _invalid(observation: Observation, message: str) -> Plan:
    """Say that the spec cannot be followed. The children stay as they are, and their engines are counted."""
    raw = observation.raw or {}
    outcome = status.refused(Reason.INVALID_SPEC, message)
    seen = _fleet(observation, wanted=0)
    address = raw.get("status", {}).get("url", "")
    told = status.status_of(raw, seen, outcome, address=address, now=observation.now)
    return Plan(status=_if_changed(raw, told))


def _outcome(troubles: Sequence[Trouble]) -> Outcome:
    """A refusal weighs more than what is tried again anyway."""
    more = len(troubles) - _MOST_TROUBLES_TOLD
    messages = [trouble.message for trouble in troubles[:_MOST_TROUBLES_TOLD]]
    message = "; ".join(messages) + (f"; and {more} more" if more > 0 else "")
    refusals = [trouble.reason for trouble in troubles if trouble.reason is not Reason.CHILD_NOT_WRITTEN]
    if refusals:
        return status.refused(refusals[0], message)
    return status.unfinished(Reason.CHILD_NOT_WRITTEN, message)


def _status(
    model: VLLMModel,
    observation: Observation,
    desired: Sequence[Mapping[str, Any]],
    outcome: Outcome | None = None,
    *,
    pending: bool = False,
) -> dict[str, Any]:
    seen = _fleet(observation, wanted=model.spec.replicas, pending=pending)
    return status.status_of(
        observation.raw or {},
        seen,
        outcome or _with_keys(status.judge(seen), observation),
        address=url(model),
        warnings=warnings(_subject(model, observation, desired)),
        now=observation.now,
    )


def _subject(model: VLLMModel, observation: Observation, desired: Sequence[Mapping[str, Any]]) -> Subject:
    """What warnings are about."""
    return Subject(
        model=model,
        deployment=next(child for child in desired if child["kind"] == "Deployment"),
        keys=keys.standing(observation),
        pod_monitors=observation.pod_monitors,
        autoscalers=observation.autoscalers,
    )


def _with_keys(outcome: Outcome, observation: Observation) -> Outcome:
    """A model is not ready while an engine may refuse the key that its binding holds."""
    sentence = keys.standing(observation).sentence if outcome.ready else ""
    return status.unfinished(Reason.ROLLING_OUT, f"{outcome.message}; {sentence}") if sentence else outcome


def _fleet(observation: Observation, *, wanted: int, pending: bool = False) -> status.Fleet:
    instance = instance_name((observation.raw or {})["metadata"]["name"])
    deployment = observation.children.get(ChildKey("Deployment", instance))
    return status.fleet(wanted, deployment, engines(observation), pending=pending)


def _look_again_at(observation: Observation) -> datetime | None:
    """When something may have changed that no watch reports: the user's Secret, or what kubelet says of a pod."""
    scaled_again_at = observation.now + AUTOSCALERS_AGAIN_AFTER if observation.autoscalers else None
    times = (
        _key_again_at(observation),
        scaled_again_at,
        lookups.next_look(observation.pods, observation.heard, observation.now),
    )
    return min((when for when in times if when is not None), default=None)


def _key_again_at(observation: Observation) -> datetime | None:
    standing = keys.standing(observation)
    if standing.to_roll:
        return observation.now + KEY_ROLL_AFTER
    if not keys.secrets_to_read(observation.raw or {}):
        return None
    return observation.now + (REFUSED_AGAIN_AFTER if standing.problems else KEY_AGAIN_AFTER)


def _if_changed(raw: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return None if raw.get("status") == wanted else wanted
