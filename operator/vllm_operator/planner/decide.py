"""All judgement about one model: from an Observation to a Plan. Pure.

What came of earlier writes is part of the observation, so there is one way out: a plan holds what to write now, and
the status that is true as long as nothing of that is written. After its writes the world is observed again, and a new
decision follows.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import Reason
from vllm_operator.api.live import ObjectKey, key_of
from vllm_operator.api.names import instance_name
from vllm_operator.api.resource import parse_resource
from vllm_operator.errors import InvalidSpec
from vllm_operator.planner import changes, keys, lookups, pods, reasons, status
from vllm_operator.planner.attempts import REFUSED_AGAIN_AFTER
from vllm_operator.planner.changes import Changes
from vllm_operator.planner.news import news_of
from vllm_operator.planner.owners import belongs, controlled_by
from vllm_operator.planner.plan import Deletion, Observation, Plan
from vllm_operator.render.children import children
from vllm_operator.render.service import url
from vllm_operator.render.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.api.live import LiveObject
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.planner.attempts import Problem
    from vllm_operator.planner.pods import EngineReport
    from vllm_operator.planner.status import Outcome

KEY_AGAIN_AFTER: Final = timedelta(minutes=5)
"""How long clients may get an API key that the user has replaced: the operator does not watch foreign Secrets."""

_MOST_PROBLEMS_TOLD: Final = 3

_NO_POD_MONITOR: Final = (
    "spec.monitoring: this cluster has no PodMonitor (monitoring.coreos.com/v1): metrics are not collected until the "
    "Prometheus operator is installed"
)


def decide(observation: Observation) -> Plan:
    """What shall be done about a model. Deleting its children with it is left to garbage collection."""
    live = observation.model
    if live is None or live.leaving:
        return Plan()
    try:
        model = parse_resource(live.body)
        desired = children(model, _surroundings(observation))
    except InvalidSpec as error:
        return _invalid(live, observation, str(error))
    taken = _foreign(model, desired, observation.children)
    if taken:
        told = _status(model, observation, _outcome(taken), Changes((), (), {}))
        return _telling(live, told, look_again_at=observation.now + REFUSED_AGAIN_AFTER)
    wanted = Changes(
        writes=changes.writes(desired, observation.children),
        deletions=_no_longer_wanted(model, desired, observation.children),
        attempts=observation.attempts,
    )
    writes, deletions = wanted.due(observation.now)
    outcome = _outcome(wanted.problems) if wanted.problems else None
    told = _status(model, observation, outcome, wanted)
    plan = _telling(live, told, look_again_at=_look_again_at(observation, wanted))
    return replace(plan, writes=writes, deletions=deletions)


def engines(observation: Observation) -> tuple[EngineReport, ...]:
    """What is known of each engine."""
    said = {uid: heard.words for uid, heard in observation.heard.items()}
    return pods.reports([pod.body for pod in observation.pods], said)


def _telling(live: LiveObject, status: Mapping[str, Any], look_again_at: datetime | None = None) -> Plan:
    """The plan that says this in the status, and changes nothing else."""
    if live.status == status:
        return Plan(look_again_at=look_again_at)
    return Plan(status=status, news=news_of(live.body, status), look_again_at=look_again_at)


def _surroundings(observation: Observation) -> Surroundings:
    return Surroundings(api_key=keys.first_key(observation).text, pod_monitors=observation.pod_monitors)


def _foreign(
    model: VLLMModel, desired: Sequence[Mapping[str, Any]], live: Mapping[ObjectKey, LiveObject]
) -> list[Problem]:
    """The first of the model's names that somebody else's object has."""
    found = (key for key in map(key_of, desired) if key in live and not belongs(model.name, live[key]))
    return [changes.name_taken(key) for key in found][:1]


def _no_longer_wanted(
    model: VLLMModel, desired: Sequence[Mapping[str, Any]], live: Mapping[ObjectKey, LiveObject]
) -> tuple[Deletion, ...]:
    """Children of this very model that its spec does not ask for any more.

    What an earlier model of its name left is for garbage collection, and a claim without an owner is kept.
    """
    wanted = set(map(key_of, desired))
    left_over = (live[key] for key in sorted(live.keys() - wanted))
    return tuple(
        Deletion(child, reasons.NO_LONGER_WANTED)
        for child in left_over
        if controlled_by(model.uid, child) and not child.leaving
    )


def _invalid(live: LiveObject, observation: Observation, message: str) -> Plan:
    """Say that the spec cannot be followed. The children stay as they are, and their engines are counted."""
    outcome = status.refused(Reason.INVALID_SPEC, message)
    seen = _fleet(live.name, observation, wanted=0)
    address = live.status.get("url", "")
    return _telling(live, status.status_of(live.body, seen, outcome, address=address, now=observation.now))


def _outcome(problems: Sequence[Problem]) -> Outcome:
    """A refusal weighs more than what is tried again anyway."""
    more = len(problems) - _MOST_PROBLEMS_TOLD
    messages = [problem.message for problem in problems[:_MOST_PROBLEMS_TOLD]]
    message = "; ".join(messages) + (f"; and {more} more" if more > 0 else "")
    refusals = [problem.reason for problem in problems if problem.reason is not Reason.CHILD_NOT_WRITTEN]
    if refusals:
        return status.refused(refusals[0], message)
    return status.unfinished(Reason.CHILD_NOT_WRITTEN, message)


def _status(model: VLLMModel, observation: Observation, outcome: Outcome | None, wanted: Changes) -> dict[str, Any]:
    writes, _ = wanted.due(observation.now)
    rolling = any(write.desired["kind"] == "Deployment" for write in writes)
    seen = _fleet(model.name, observation, wanted=model.spec.replicas, pending=rolling)
    return status.status_of(
        observation.raw,
        seen,
        outcome or status.judge(seen),
        address=url(model),
        warnings=[*_warnings(observation), *wanted.fights],
        now=observation.now,
    )


def _fleet(name: str, observation: Observation, *, wanted: int, pending: bool = False) -> status.Fleet:
    deployment = observation.children.get(ObjectKey("Deployment", instance_name(name)))
    return status.fleet(wanted, deployment.body if deployment else None, engines(observation), pending=pending)


def _warnings(observation: Observation) -> list[str]:
    """What does not stop the engines and should be known all the same."""
    found = [keys.first_key(observation).warning]
    monitored = observation.raw["spec"].get("monitoring") is not None
    if monitored and not observation.pod_monitors:
        found.append(_NO_POD_MONITOR)
    return [warning for warning in found if warning]


def _look_again_at(observation: Observation, wanted: Changes) -> datetime | None:
    """When something may have changed that no watch reports, or a write that waits is due."""
    times = (
        _key_again_at(observation),
        lookups.next_look([pod.body for pod in observation.pods], observation.heard, observation.now),
        wanted.next_due(observation.now),
    )
    return min((when for when in times if when is not None), default=None)


def _key_again_at(observation: Observation) -> datetime | None:
    if keys.secret_to_read(observation.raw) is None:
        return None
    missing = keys.first_key(observation).warning
    return observation.now + (REFUSED_AGAIN_AFTER if missing else KEY_AGAIN_AFTER)
