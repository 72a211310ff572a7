"""All judgement about one model: from an Observation to a Plan. Pure.

What came of earlier writes is part of the observation, so there is one way out: a plan holds what to write now, and
the status that is true as long as nothing of that is written. After its writes the world is observed again, and a new
decision follows.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vllm_operator.api import groups
from vllm_operator.api.conditions import ConditionType, Reason, by_type
from vllm_operator.api.live import key_of
from vllm_operator.api.resource import parse_resource
from vllm_operator.api.revisions import KIND as REVISION
from vllm_operator.api.spec.versions import version_of
from vllm_operator.api.status import UNKNOWN_VERSION
from vllm_operator.diagnosis import fleet, lookups
from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.diagnosis.engines import judged_again_at
from vllm_operator.errors import InvalidSpec
from vllm_operator.planner import (
    adapters,
    api_keys,
    autoscaling,
    claims,
    deletion_costs,
    devices,
    fit,
    prefetch,
    queues,
    reasons,
    rollout_told,
    scaler_health,
    status,
)
from vllm_operator.planner.attempts import REFUSED_AGAIN_AFTER
from vllm_operator.planner.autoscalers import AUTOSCALERS_AGAIN_AFTER
from vllm_operator.planner.changes import Changes, name_taken
from vllm_operator.planner.desired import desired, is_deployment, makes_engines
from vllm_operator.planner.engines import engines, fleet_of, pod_bodies
from vllm_operator.planner.news import adapter_news, is_due, news_of, room_news
from vllm_operator.planner.owners import belongs, controlled_by, is_orphan
from vllm_operator.planner.pace import told_again_at
from vllm_operator.planner.plan import Deletion, Observation, Plan
from vllm_operator.planner.rollout_told import RolloutView, judged, progress
from vllm_operator.planner.scope import events_elsewhere, followed_elsewhere, is_anothers, told_by_another
from vllm_operator.planner.warnings import Subject, gate_troubles, warnings
from vllm_operator.planner.workload import (
    controller_judged_again_at,
    group_warnings,
    is_missing,
    live_of_spec,
    silent_controller,
)
from vllm_operator.render.promises import weakened_promises
from vllm_operator.render.service import url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.api.live import LiveObject
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.diagnosis.fleet import Outcome
    from vllm_operator.planner.api_keys import Standing
    from vllm_operator.planner.attempts import Problem
    from vllm_operator.planner.desired import Desired
    from vllm_operator.planner.news import News

KEY_AGAIN_AFTER: Final = timedelta(seconds=60)
"""How long engines may run with an API key that the user has replaced: the operator does not watch foreign Secrets."""

CLAIM_AGAIN_AFTER: Final = timedelta(minutes=5)
"""When to look again at a claim that nobody wants and that somebody else's pod mounts: no watch shows that pod."""

MISSING_AGAIN_AFTER: Final = timedelta(seconds=30)
"""When to see again whether the cluster has what makes groups of pods: no watch shows that."""

_MISSING: Final = (
    "spec.parallelism.nodes needs LeaderWorkerSets, which the cluster does not have, so nothing is changed: install "
    f"them with `{groups.INSTALL}`"
)

_MOST_PROBLEMS_TOLD: Final = 3

_OF_PLACES: Final = frozenset({Reason.ENGINES_FAILING, Reason.ROLLOUT_WAITS})
"""Reasons by which it is told that no node takes an engine."""


def decide(observation: Observation, *, telling: bool = True) -> Plan:
    """What shall be done about a model. Deleting its children with it is left to garbage collection.

    A plan that changes something tells what is true as long as nothing of that is done. Who does it at once, and then
    decides anew, has no use for that: without `telling` such a plan has no status, no news and no time to look again.
    """
    live = observation.model
    if live is None or live.leaving or is_anothers(live, observation.release):
        return Plan()
    try:
        model = parse_resource(live.body)
        keys = api_keys.standing(observation)
        wanted = desired(model, observation, keys)
    except InvalidSpec as error:
        return _invalid(live, observation, str(error))
    subject = _subject(model, observation, wanted, keys)
    obstacle = _obstacle(model, wanted, observation)
    if obstacle is not None:
        told = _status(observation, subject, wanted.view, obstacle.outcome, Changes((), (), {}))
        return _telling(live, observation, told, look_again_at=observation.now + obstacle.again_after)
    changes = Changes(
        writes=wanted.writes(observation),
        deletions=_no_longer_wanted(model, wanted, observation),
        attempts=observation.attempts,
        releases=claims.to_hand_over(observation),
    )
    changing = _changing(model, observation, changes)
    if followed_elsewhere(observation, changes):
        news = events_elsewhere(observation, changes)
        return Plan(writes=changing.writes, news=news, look_again_at=changes.next_due(observation.now))
    if changing.changes and not telling:
        return _sparing_the_busy(changing, observation)
    outcome = _outcome(changes.problems) if changes.problems else None
    told = _status(observation, subject, wanted.view, outcome, changes)
    again = _earliest(
        _look_again_at(observation, keys, changes, wanted.view), prefetch.look_again_at(model, observation)
    )
    said = _telling(live, observation, told, look_again_at=again)
    plan = replace(changing, status=said.status, news=said.news, look_again_at=said.look_again_at)
    plan = replace(plan, to_call=adapters.to_call(observation) if model.spec.updates_adapters else ())
    return _sparing_the_busy(plan, observation)


def _changing(model: VLLMModel, observation: Observation, changes: Changes) -> Plan:
    """What is to be changed now. It says nothing."""
    writes, deletions = changes.due(observation.now)
    return Plan(
        writes=writes,
        deletions=deletions,
        releases=changes.due_releases(observation.now),
        jobs=prefetch.changes(model, observation.prefetch, observation.release) if observation.prefetch else (),
    )


def _sparing_the_busy(plan: Plan, observation: Observation) -> Plan:
    """The plan, with what makes a write of the Deployment take the engines away first that have the least to do."""
    write = next(filter(is_deployment, plan.writes), None)
    live = observation.children.get(key_of(write.desired)) if write else None
    if write is None or live is None:
        return plan
    if observation.requests is None:
        return replace(plan, to_ask=deletion_costs.to_ask(write.desired, live.body, observation.pods))
    costs = deletion_costs.deletion_costs(write.desired, live.body, observation.pods, observation.requests)
    return replace(plan, costs=costs)


def _telling(
    live: LiveObject, observation: Observation, status: Mapping[str, Any], look_again_at: datetime | None = None
) -> Plan:
    """The plan that says this in the status, and changes nothing else."""
    if live.status == status:
        return Plan(look_again_at=look_again_at)
    later = told_again_at(live.status, status, observation.told_at, observation.now)
    if later is not None:
        return Plan(look_again_at=min(later, look_again_at or later))
    news = news_of(live.body, status) or room_news(live.body, status) or adapter_news(live.body, status)
    due = news is not None and is_due(news, observation.events, observation.now) and not _premature(news, observation)
    return Plan(status=status, news=news if due else None, look_again_at=look_again_at)


def _premature(news: News, observation: Observation) -> bool:
    """Whether an Event had better wait for the words of a manager, or what nodes show: they come within seconds.

    They change the status then, whatever they are, and that is news again.
    """
    if news.reason in (Reason.ENGINES_WITHDRAWN, Reason.NODE_LOST):
        return any(engine.unasked for engine in engines(observation))
    if news.reason == Reason.SCHEDULING_GATED:
        return all(engine.unasked for engine in engines(observation) if engine.reason is Reason.SCHEDULING_GATED)
    failing = [engine for engine in engines(observation) if engine.state is EngineState.FAILING]
    return news.reason in _OF_PLACES and bool(failing) and all(engine.unasked for engine in failing)


def _foreign(model: VLLMModel, wanted: Desired, observation: Observation) -> list[Problem]:
    """The first of the model's names that somebody else's object has."""
    live, release = observation.children, observation.release
    found = (key for key in map(key_of, wanted.children) if key in live and not belongs(model.name, live[key], release))
    return [name_taken(key) for key in found][:1]


def _no_longer_wanted(model: VLLMModel, wanted: Desired, observation: Observation) -> tuple[Deletion, ...]:
    """Children of this very model that its spec does not ask for any more, and orphans of an earlier one of its name.

    What has an earlier model for its owner is for garbage collection; claims and revisions are judged by themselves.
    """
    keys = set(map(key_of, wanted.children))
    left_over = (live for key, live in sorted(observation.children.items()) if key not in keys)
    doomed = [
        child
        for child in left_over
        if child.kind not in {claims.CLAIM, REVISION}
        and not adapters.is_read(child, observation)
        and not devices.is_needed(child, observation)
        and (controlled_by(model.uid, child) or is_orphan(model.name, child, observation.release))
        and not child.leaving
    ]
    wanted_by_nobody = (*doomed, *claims.to_delete(observation), *wanted.choice.superseded)
    return tuple(Deletion(child, reasons.NO_LONGER_WANTED) for child in wanted_by_nobody)


def _invalid(live: LiveObject, observation: Observation, message: str) -> Plan:
    """Say that the spec cannot be followed. The children stay as they are, and their engines are counted."""
    if told_by_another(observation):
        return Plan()
    outcome = fleet.refused(Reason.INVALID_SPEC, message)
    seen = fleet_of(observation, wanted=0)
    address = live.status.get("url", "")
    told = status.status_of(
        live.body,
        seen,
        outcome,
        address=address,
        operator=observation.release,
        pending_template=None,
        adapters=adapters.told_before(live.status),
        now=observation.now,
    )
    return _telling(live, observation, told)


class _Obstacle(NamedTuple):
    """Why nothing is changed at all."""

    outcome: Outcome
    again_after: timedelta


def _obstacle(model: VLLMModel, wanted: Desired, observation: Observation) -> _Obstacle | None:
    """What keeps everything as it is: names that are somebody else's, or a kind that the cluster has not."""
    taken = _foreign(model, wanted, observation)
    if taken:
        return _Obstacle(_outcome(taken), REFUSED_AGAIN_AFTER)
    lacking = _lacking(observation)
    return None if lacking is None else _Obstacle(lacking, MISSING_AGAIN_AFTER)


def _lacking(observation: Observation) -> Outcome | None:
    """That the cluster has no kind of object that the spec cannot do without; None where it has all of them."""
    if is_missing(observation):
        return fleet.refused(Reason.LEADER_WORKER_SET_MISSING, _MISSING)
    if devices.are_missing(observation):
        return fleet.refused(Reason.RESOURCE_CLAIMS_MISSING, devices.MISSING)
    return None


def _outcome(problems: Sequence[Problem]) -> Outcome:
    """A refusal weighs more than what is tried again anyway."""
    more = len(problems) - _MOST_PROBLEMS_TOLD
    messages = [problem.message for problem in problems[:_MOST_PROBLEMS_TOLD]]
    message = "; ".join(messages) + (f"; and {more} more" if more > 0 else "")
    refusals = [problem.reason for problem in problems if problem.reason is not Reason.CHILD_NOT_WRITTEN]
    if refusals:
        return fleet.refused(refusals[0], message)
    return fleet.unfinished(Reason.CHILD_NOT_WRITTEN, message)


def _status(
    observation: Observation, subject: Subject, view: RolloutView, outcome: Outcome | None, changes: Changes
) -> dict[str, Any]:
    writes, _ = changes.due(observation.now)
    rolling = any(map(makes_engines, writes))
    model = subject.model
    seen = fleet_of(
        observation,
        wanted=model.spec.wanted_replicas,
        suspended=model.spec.suspend,
        pending=rolling,
    )
    told = by_type(observation.raw.get("status") or {}).get(ConditionType.FITS)
    estimated = observation.estimated
    loaded = adapters.seen_adapters(model, observation, complete=seen.complete)
    found = autoscaling.with_idle(model, observation, judged(fleet.judge(seen), view, observation.now))
    found = prefetch.judged(found, model, observation, seen)
    return status.status_of(
        observation.raw,
        seen,
        outcome or silent_controller(observation) or _with_keys(found, subject.keys),
        address=url(model),
        operator=observation.release,
        vllm_version=str(version_of(model.spec) or UNKNOWN_VERSION),
        rollout=progress(view),
        warnings=[*_warnings(subject, observation, seen), *changes.fights],
        pending_template=subject.pending_template,
        optional={
            ConditionType.FITS: fit.condition(told, view.seen, seen.engines, estimated),
            ConditionType.AUTOSCALED: autoscaling.condition(model, observation, serving=seen.serving > 0),
            ConditionType.ADAPTERS_LOADED: adapters.condition(model, loaded),
        },
        estimate=estimated.capacity if estimated else None,
        adapters=loaded.told,
        prefetch=prefetch.progress(model, observation),
        now=observation.now,
    )


def _subject(model: VLLMModel, observation: Observation, wanted: Desired, keys: Standing) -> Subject:
    """What warnings are about."""
    return Subject(
        model=model,
        deployment=wanted.deployment,
        keys=keys,
        pod_monitors=observation.pod_monitors,
        autoscalers=observation.autoscalers,
        budgets=observation.budgets,
        policies=observation.policies,
        excluded=wanted.view.excluded,
        restart_warning=wanted.choice.warning,
        pending_template=wanted.choice.pending,
    )


def _warnings(subject: Subject, observation: Observation, seen: fleet.Fleet) -> list[str]:
    """What does not stop the engines and should be known all the same."""
    patched = weakened_promises(subject.model)
    held = claims.held(observation)
    scaling = autoscaling.warnings(subject.model, observation)
    grouped = group_warnings(observation, subject.excluded)
    live = live_of_spec(subject.model, observation)
    queue = queues.warning(subject.model.spec.scheduling.queue_name, live.body if live else None, subject.deployment)
    found = (
        *warnings(subject),
        *filter(None, [queue]),
        *grouped,
        *scaling,
        *patched,
        *claims.shared(observation),
        *held,
    )
    return [*found, *queues.held_ends(pod_bodies(observation), observation.now)[0], *gate_troubles(seen.engines)]


def _with_keys(outcome: Outcome, keys: Standing) -> Outcome:
    """A model is not ready while an engine may refuse the key that its binding holds."""
    sentence = keys.sentence if outcome.ready else ""
    return fleet.unfinished(Reason.ROLLING_OUT, f"{outcome.message}; {sentence}") if sentence else outcome


def _look_again_at(observation: Observation, keys: Standing, changes: Changes, view: RolloutView) -> datetime | None:
    """When something may have changed that no watch reports, or a write that waits is due."""
    pods, found = pod_bodies(observation), observation.estimated
    times = (
        observation.now + CLAIM_AGAIN_AFTER if any(claims.held(observation)) else None,
        _key_again_at(observation, keys),
        observation.now + AUTOSCALERS_AGAIN_AFTER if observation.autoscalers else None,
        scaler_health.look_again_at(observation),
        judged_again_at(pods, observation.now),
        adapters.look_again_at(observation),
        view.planned.look_again_at,
        rollout_told.judged_again_at(view, observation.now),
        controller_judged_again_at(observation),
        queues.held_ends(pods, observation.now)[1],
        observation.now + fit.MISSING_AGAIN_AFTER if found is not None and found.is_missing else None,
        lookups.next_lookup(
            lookups.planned(pods, observation.lookups, adapters=adapters.version_of(observation)),
            observation.now,
            observation.lookup_turns,
        ),
        changes.next_due(observation.now),
    )
    return _earliest(*times)


def _earliest(*times: datetime | None) -> datetime | None:
    return min((when for when in times if when is not None), default=None)


def _key_again_at(observation: Observation, keys: Standing) -> datetime | None:
    if not api_keys.secrets_to_read(observation.raw):
        return None
    return observation.now + (REFUSED_AGAIN_AFTER if keys.problems else KEY_AGAIN_AFTER)
