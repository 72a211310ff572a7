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
from vllm_operator.api.revisions import KIND as REVISION
from vllm_operator.diagnosis import fleet, lookups
from vllm_operator.diagnosis.ended import ended_pods
from vllm_operator.diagnosis.engines import judged_again_at, reports
from vllm_operator.diagnosis.facts import unbound_claims
from vllm_operator.errors import InvalidSpec
from vllm_operator.planner import (
    api_keys,
    changes,
    claims,
    deletion_costs,
    reasons,
    rollout,
    rollout_told,
    status,
    template,
)
from vllm_operator.planner.attempts import REFUSED_AGAIN_AFTER
from vllm_operator.planner.autoscalers import AUTOSCALERS_AGAIN_AFTER
from vllm_operator.planner.changes import Changes
from vllm_operator.planner.news import is_due, news_of
from vllm_operator.planner.owners import belongs, controlled_by, is_orphan
from vllm_operator.planner.pace import told_again_at
from vllm_operator.planner.plan import Deletion, Observation, Plan
from vllm_operator.planner.rollout_seen import Seen
from vllm_operator.planner.rollout_told import RolloutView, judged, progress
from vllm_operator.planner.scope import events_elsewhere, followed_elsewhere, is_anothers, told_by_another
from vllm_operator.planner.warnings import Subject, gate_troubles, warnings
from vllm_operator.render.children import remembered_children
from vllm_operator.render.context import RenderContext
from vllm_operator.render.objects import deployment_of
from vllm_operator.render.promises import weakened_promises
from vllm_operator.render.rollout import exclusion
from vllm_operator.render.service import url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.api.live import LiveObject
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.diagnosis.engines import EngineReport
    from vllm_operator.diagnosis.fleet import Outcome
    from vllm_operator.planner.api_keys import Standing
    from vllm_operator.planner.attempts import Problem
    from vllm_operator.planner.news import News
    from vllm_operator.planner.plan import Write
    from vllm_operator.planner.template import Choice

KEY_AGAIN_AFTER: Final = timedelta(seconds=60)
"""How long engines may run with an API key that the user has replaced: the operator does not watch foreign Secrets."""

CLAIM_AGAIN_AFTER: Final = timedelta(minutes=5)
"""When to look again at a claim that nobody wants and that somebody else's pod mounts: no watch shows that pod."""

_MOST_PROBLEMS_TOLD: Final = 3


def decide(observation: Observation) -> Plan:
    """What shall be done about a model. Deleting its children with it is left to garbage collection."""
    live = observation.model
    if live is None or live.leaving or is_anothers(live, observation.release):
        return Plan()
    try:
        model = parse_resource(live.body)
        keys = api_keys.standing(observation)
        desired, choice, view = _desired(model, observation, keys)
    except InvalidSpec as error:
        return _invalid(live, observation, str(error))
    taken = _foreign(model, desired, observation)
    subject = _subject(model, observation, desired, keys=keys, choice=choice, view=view)
    if taken:
        told = _status(observation, subject, view, _outcome(taken), Changes((), (), {}))
        return _telling(live, observation, told, look_again_at=observation.now + REFUSED_AGAIN_AFTER)
    wanted = Changes(
        writes=changes.writes(desired, observation.children),
        deletions=_no_longer_wanted(model, desired, observation, choice),
        attempts=observation.attempts,
        releases=claims.to_hand_over(observation),
    )
    writes, deletions = wanted.due(observation.now)
    if followed_elsewhere(observation, wanted):
        news = events_elsewhere(observation, wanted)
        return Plan(writes=writes, news=news, look_again_at=wanted.next_due(observation.now))
    outcome = _outcome(wanted.problems) if wanted.problems else None
    told = _status(observation, subject, view, outcome, wanted)
    plan = _telling(live, observation, told, look_again_at=_look_again_at(observation, keys, wanted, view))
    plan = replace(plan, writes=writes, deletions=deletions, releases=wanted.due_releases(observation.now))
    return _sparing_the_busy(plan, observation)


def _sparing_the_busy(plan: Plan, observation: Observation) -> Plan:
    """The plan, with what makes a write of the Deployment take the engines away first that have the least to do."""
    write = next(filter(_is_deployment, plan.writes), None)
    live = observation.children.get(key_of(write.desired)) if write else None
    if write is None or live is None:
        return plan
    if observation.requests is None:
        return replace(plan, to_ask=deletion_costs.to_ask(write.desired, live.body, observation.pods))
    costs = deletion_costs.deletion_costs(write.desired, live.body, observation.pods, observation.requests)
    return replace(plan, costs=costs)


def engines(observation: Observation) -> tuple[EngineReport, ...]:
    """What is known of each engine."""
    findings = {uid: lookup.finding for uid, lookup in observation.lookups.items()}
    claims = unbound_claims(child.body for child in observation.children.values())
    return reports(_bodies(observation), findings, unbound_claims=claims, now=observation.now)


def _bodies(observation: Observation) -> list[Mapping[str, Any]]:
    return [pod.body for pod in observation.pods]


def _telling(
    live: LiveObject, observation: Observation, status: Mapping[str, Any], look_again_at: datetime | None = None
) -> Plan:
    """The plan that says this in the status, and changes nothing else."""
    if live.status == status:
        return Plan(look_again_at=look_again_at)
    later = told_again_at(live.status, status, observation.told_at, observation.now)
    if later is not None:
        return Plan(look_again_at=min(later, look_again_at or later))
    news = news_of(live.body, status)
    due = news is not None and is_due(news, observation.events, observation.now) and not _premature(news, observation)
    return Plan(status=status, news=news if due else None, look_again_at=look_again_at)


def _premature(news: News, observation: Observation) -> bool:
    """Whether an Event had better wait for the words of a manager, which come within seconds."""
    return news.reason == Reason.ENGINES_WITHDRAWN and any(engine.unasked for engine in engines(observation))


def _desired(
    model: VLLMModel, observation: Observation, keys: Standing
) -> tuple[list[Mapping[str, Any]], Choice, RolloutView]:
    """The children, the pods that were chosen for them, and how the engines are replaced.

    The binding goes on to the next API key once no engine is left that takes another.

    Raises:
        InvalidSpec: the spec's patch of the pods does not fit them.
    """
    context = RenderContext(
        api_key=keys.client_key,
        key_record=keys.record,
        keys_changed_at=keys.mark,
        operator_namespace=observation.operator_namespace,
        release=observation.release,
        pod_monitors=observation.pod_monitors,
        claims_of_others=observation.claims.of_others,
        one_node_claims=observation.claims.on_one_node,
    )
    rendered, choice = _rendered(model, context, observation)
    view = _rollout(model, rendered, choice, observation)
    desired = [_led(child, view) for child in rendered]
    rolling = keys.running_old or not api_keys.engines_are_current(observation)
    if not keys.held or rolling or any(map(_is_deployment, changes.writes(desired, observation.children))):
        return desired, choice, view
    rendered, choice = _rendered(model, replace(context, api_key=keys.next_key or ""), observation)
    return [_led(child, view) for child in rendered], choice, view


def _is_deployment(write: Write) -> bool:
    return bool(write.desired["kind"] == "Deployment")


def _rendered(
    model: VLLMModel, context: RenderContext, observation: Observation
) -> tuple[list[Mapping[str, Any]], Choice]:
    """The children as they are rendered, but for pods that are kept."""
    rendered = remembered_children(model, context)
    choice = template.chosen(model, observation, rendered)
    return template.with_chosen(model, rendered, choice, observation.release), choice


def _rollout(
    model: VLLMModel, desired: Sequence[Mapping[str, Any]], choice: Choice, observation: Observation
) -> RolloutView:
    """How the engines are replaced, if they are to be."""
    deployment = deployment_of(desired)
    live = observation.children.get(key_of(deployment))
    seen = Seen.of(live.body, _bodies(observation), engines(observation)) if live else None
    excluded = exclusion(model.spec.storage, deployment["spec"]["template"], observation.claims.on_one_node)
    return RolloutView(
        model=model.name,
        planned=rollout.planned(deployment, seen, model.spec.rollout, excluded=excluded, now=observation.now),
        seen=seen,
        excluded=excluded,
        revision=choice.revisions[0]["metadata"]["name"],
        told=observation.raw.get("status", {}).get("rollout"),
    )


def _led(child: Mapping[str, Any], view: RolloutView) -> Mapping[str, Any]:
    """A child as it is rendered, but for the numbers by which the Deployment's controller is led."""
    return rollout.applied(child, view.planned) if child["kind"] == "Deployment" else child


def _foreign(model: VLLMModel, desired: Sequence[Mapping[str, Any]], observation: Observation) -> list[Problem]:
    """The first of the model's names that somebody else's object has."""
    live, release = observation.children, observation.release
    found = (key for key in map(key_of, desired) if key in live and not belongs(model.name, live[key], release))
    return [changes.name_taken(key) for key in found][:1]


def _no_longer_wanted(
    model: VLLMModel, desired: Sequence[Mapping[str, Any]], observation: Observation, choice: Choice
) -> tuple[Deletion, ...]:
    """Children of this very model that its spec does not ask for any more, and orphans of an earlier one of its name.

    What has an earlier model for its owner is for garbage collection; claims and revisions are judged by themselves.
    """
    wanted = set(map(key_of, desired))
    left_over = (live for key, live in sorted(observation.children.items()) if key not in wanted)
    doomed = [
        child
        for child in left_over
        if child.kind not in {claims.CLAIM, REVISION}
        and (controlled_by(model.uid, child) or is_orphan(model.name, child, observation.release))
        and not child.leaving
    ]
    wanted_by_nobody = (*doomed, *claims.to_delete(observation), *choice.superseded)
    return tuple(Deletion(child, reasons.NO_LONGER_WANTED) for child in wanted_by_nobody)


def _invalid(live: LiveObject, observation: Observation, message: str) -> Plan:
    """Say that the spec cannot be followed. The children stay as they are, and their engines are counted."""
    if told_by_another(observation):
        return Plan()
    outcome = fleet.refused(Reason.INVALID_SPEC, message)
    seen = _fleet(live.name, observation, wanted=0)
    address = live.status.get("url", "")
    told = status.status_of(
        live.body,
        seen,
        outcome,
        address=address,
        operator=observation.release,
        pending_template=None,
        now=observation.now,
    )
    return _telling(live, observation, told)


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
    observation: Observation, subject: Subject, view: RolloutView, outcome: Outcome | None, wanted: Changes
) -> dict[str, Any]:
    writes, _ = wanted.due(observation.now)
    rolling = any(map(_is_deployment, writes))
    model = subject.model
    seen = _fleet(model.name, observation, wanted=model.spec.replicas, pending=rolling)
    return status.status_of(
        observation.raw,
        seen,
        outcome or _with_keys(judged(fleet.judge(seen), view, observation.now), subject.keys),
        address=url(model),
        operator=observation.release,
        rollout=progress(view),
        warnings=[*_warnings(subject, observation, seen), *wanted.fights],
        pending_template=subject.pending_template,
        now=observation.now,
    )


def _subject(
    model: VLLMModel,
    observation: Observation,
    desired: Sequence[Mapping[str, Any]],
    *,
    keys: Standing,
    choice: Choice,
    view: RolloutView,
) -> Subject:
    """What warnings are about."""
    return Subject(
        model=model,
        deployment=deployment_of(desired),
        keys=keys,
        pod_monitors=observation.pod_monitors,
        autoscalers=observation.autoscalers,
        budgets=observation.budgets,
        excluded=view.excluded,
        restart_warning=choice.warning,
        pending_template=choice.pending,
    )


def _warnings(subject: Subject, observation: Observation, seen: fleet.Fleet) -> list[str]:
    """What does not stop the engines and should be known all the same."""
    patched = weakened_promises(subject.model)
    held = claims.held(observation)
    return [*warnings(subject), *patched, *claims.shared(observation), *held, *gate_troubles(seen.engines)]


def _with_keys(outcome: Outcome, keys: Standing) -> Outcome:
    """A model is not ready while an engine may refuse the key that its binding holds."""
    sentence = keys.sentence if outcome.ready else ""
    return fleet.unfinished(Reason.ROLLING_OUT, f"{outcome.message}; {sentence}") if sentence else outcome


def _fleet(name: str, observation: Observation, *, wanted: int, pending: bool = False) -> fleet.Fleet:
    deployment = observation.children.get(ObjectKey("Deployment", instance_name(name)))
    body = deployment.body if deployment else None
    ended = ended_pods(_bodies(observation))
    return fleet.observed(wanted, body, engines(observation), pending=pending, ended=ended)


def _look_again_at(observation: Observation, keys: Standing, wanted: Changes, view: RolloutView) -> datetime | None:
    """When something may have changed that no watch reports, or a write that waits is due."""
    pods = _bodies(observation)
    times = (
        observation.now + CLAIM_AGAIN_AFTER if any(claims.held(observation)) else None,
        _key_again_at(observation, keys),
        observation.now + AUTOSCALERS_AGAIN_AFTER if observation.autoscalers else None,
        judged_again_at(pods, observation.now),
        view.planned.look_again_at,
        rollout_told.judged_again_at(view, observation.now),
        lookups.next_lookup(lookups.planned(pods, observation.lookups), observation.now, observation.lookup_turns),
        wanted.next_due(observation.now),
    )
    return min((when for when in times if when is not None), default=None)


def _key_again_at(observation: Observation, keys: Standing) -> datetime | None:
    if not api_keys.secrets_to_read(observation.raw):
        return None
    return observation.now + (REFUSED_AGAIN_AFTER if keys.problems else KEY_AGAIN_AFTER)
