"""What is told of a rollout: how far it is, why it does not go on, and what to do then. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import Reason
from vllm_operator.api.status import MAX_SENTENCE_LENGTH, RolloutProgress
from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.diagnosis.events import timestamp
from vllm_operator.diagnosis.fleet import Outcome, refused, unfinished

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from vllm_operator.planner.rollout import DeploymentStrategy
    from vllm_operator.planner.rollout_seen import PodSeen, Seen

_RESTARTS: Final = 2
"""So many show that a start that failed was no accident."""

_FAILS_FOR: Final = timedelta(minutes=5)
"""How old an engine is that fails without a restart: an image that cannot be pulled may be there at the next try."""

_HOW_TO_GO_ON: Final = (
    "the rollout has stopped, and the engines of before go on: correct the spec, or `kubectl vllm rollout undo {name}`"
)


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout as it is told of."""

    model: str
    planned: DeploymentStrategy
    seen: Seen | None
    """None where there is no Deployment."""
    excluded: str = ""
    """What keeps two engines from being there at the same time; empty where nothing does."""
    revision: str = ""
    """Name of the newest ControllerRevision; empty where there is none."""
    told: Mapping[str, Any] | None = None
    """`status.rollout` as it was told last; None where it was not."""


def progress(view: RolloutView) -> RolloutProgress | None:
    """How far the rollout is; None where none is on its way.

    What the Deployment's controller has not seen yet may be a rollout or none: what was told before stands.
    """
    seen, planned = view.seen, view.planned
    if seen is None or not (seen.rolling if seen.observed else view.told):
        return None
    why = "; ".join(filter(None, (planned.reason, planned.held or planned.wanting)))
    return RolloutProgress(
        strategy=planned.strategy.value,
        reason=why[:MAX_SENTENCE_LENGTH],
        revision=view.revision or None,
        updated=seen.updated if seen.observed else 0,
        wanted=planned.replicas,
    )


def judged(outcome: Outcome, view: RolloutView, now: datetime) -> Outcome:
    """The outcome of the engines, with what their rollout adds to it: the first that applies."""
    seen = view.seen
    if seen is None or outcome.ready or not (seen.rolling and seen.observed):
        return outcome
    policies = (_blocked, _paused, _failed, _waiting)
    return next((found for policy in policies if (found := policy(outcome, view, seen, now))), outcome)


def judged_again_at(view: RolloutView, now: datetime) -> datetime | None:
    """When an engine of the newest template will have failed for long enough; None where none fails."""
    if view.seen is None or not view.seen.rolling:
        return None
    due = (when + _FAILS_FOR for pod in _failing(view.seen) if (when := timestamp(pod.created_at)))
    return min((when for when in due if when > now), default=None)


def _blocked(outcome: Outcome, view: RolloutView, _seen: Seen, _now: datetime) -> Outcome | None:
    """None may go, and none may come."""
    if not view.planned.held:
        return None
    return refused(Reason.ROLLOUT_BLOCKED, f"{outcome.message}; {view.planned.held}")


def _paused(outcome: Outcome, view: RolloutView, seen: Seen, _now: datetime) -> Outcome | None:
    """Somebody holds it, which is no fault."""
    if view.planned.paused:
        text = "spec.rollout.paused holds the changed spec back from engines"
    elif seen.paused:
        text = (
            "somebody has paused the Deployment, which holds the changed spec back from engines: `kubectl rollout "
            f"resume deployment {seen.deployment['metadata']['name']}`"
        )
    else:
        return None
    return Outcome(
        ready=False,
        reason=Reason.ROLLOUT_PAUSED,
        message=f"{outcome.message}; {text}",
        stalled=outcome.stalled,
        settled=seen.serving == view.planned.replicas,
    )


def _failed(outcome: Outcome, view: RolloutView, seen: Seen, now: datetime) -> Outcome | None:
    """Engines of the newest template fail for good, while those of another serve."""
    others_serve = any(pod.serves and pod.revision != seen.newest for pod in seen.pods)
    if not others_serve or not any(_for_good(pod, now) for pod in _failing(seen)):
        return None
    return refused(Reason.REVISION_FAILS, f"{outcome.message}; {_HOW_TO_GO_ON.format(name=view.model)}")


def _waiting(outcome: Outcome, view: RolloutView, _seen: Seen, _now: datetime) -> Outcome | None:
    """The next engine has no place."""
    if not view.planned.wanting:
        return None
    message = f"{outcome.message}; {view.planned.wanting}"
    return replace(outcome, message=message) if outcome.stalled else unfinished(Reason.ROLLOUT_WAITS, message)


def _failing(seen: Seen) -> list[PodSeen]:
    """Engines of the newest template that cannot start or do not stay up; to wait for a node is no failure."""
    newest = (pod for pod in seen.pods if pod.revision == seen.newest and not pod.waits_since)
    return [pod for pod in newest if pod.state is EngineState.FAILING]


def _for_good(pod: PodSeen, now: datetime) -> bool:
    created_at = timestamp(pod.created_at)
    return pod.restarts >= _RESTARTS or (created_at is not None and now >= created_at + _FAILS_FOR)
