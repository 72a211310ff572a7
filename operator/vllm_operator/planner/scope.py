"""Which release of the operator a model is followed by, where several of them see it. Pure.

Selectors and lists of namespaces keep releases apart. Where they overlap, one release has made the model's first child
(`plan.Wave.FIRST`), and the other ones leave model and status alone: two that write one status would never end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.api.names import OPERATOR_LABEL, release_of
from vllm_operator.planner.news import News, is_due
from vllm_operator.planner.owners import controlled_by

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject
    from vllm_operator.planner.changes import Changes
    from vllm_operator.planner.plan import Observation


def is_anothers(model: LiveObject, release: str) -> bool:
    """Whether a model's label gives it to another release than this one, whatever both of them select."""
    return OPERATOR_LABEL in model.labels and model.labels[OPERATOR_LABEL] != release


def followed_elsewhere(observation: Observation, wanted: Changes) -> bool:
    """Whether the model has children of another release and none of this one's.

    A model whose label names this release is this one's to tell about: nobody else does.
    """
    return wanted.of_another_release is not None and not _has_children(observation) and not _is_named(observation)


def told_by_another(observation: Observation) -> bool:
    """Whether another release has written the status, and this one has no children to tell about."""
    status = observation.raw.get("status", {})
    by_another = bool(status.get("conditions")) and status.get("operator", "") != observation.release
    return by_another and not _has_children(observation) and not _is_named(observation)


def events_elsewhere(observation: Observation, wanted: Changes) -> News | None:
    """What an Event tells, once, of a model that another release follows: the status is that one's."""
    problem = wanted.of_another_release
    if problem is None or any(reason == problem.reason for reason, _ in observation.events.causes):
        return None
    news = News("Warning", problem.reason, problem.message)
    return news if is_due(news, observation.events, observation.now) else None


def _has_children(observation: Observation) -> bool:
    uid = observation.model.uid if observation.model else ""
    return any(controlled_by(uid, child) for child in observation.children.values())


def _is_named(observation: Observation) -> bool:
    labels = observation.model.labels if observation.model else {}
    return bool(observation.release) and release_of(labels) == observation.release
