"""All judgement about what the models of a namespace share: programs and the catalogue. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from vllm_operator.api.live import key_of
from vllm_operator.api.names import CATALOG_CONFIG_MAP, PREFETCH_CONFIG_MAP, prefixed
from vllm_operator.planner import changes, reasons
from vllm_operator.planner.changes import Changes
from vllm_operator.planner.plan import Deletion, NamespaceObservation, Plan
from vllm_operator.planner.prefetch import asks_for_prefetch
from vllm_operator.render import catalog, manager, prefetch
from vllm_operator.render.release import shared_of

if TYPE_CHECKING:
    from vllm_operator.planner.attempts import Problem

CATALOG_AFTER: Final = timedelta(milliseconds=200)
"""How long after a change of a model the catalogue is compared: the model's own writes go first, and the answers to
them, which may change its entry, are there by then."""

CATALOG_AGAIN_AFTER: Final = timedelta(seconds=1)
"""Shortest time between two comparisons of a catalogue: models that come, or get ready, together cost one write."""

CATALOG_AGAIN_AFTER_PER_MODEL: Final = timedelta(milliseconds=2)
"""The same for each model of the namespace, where that is longer: the whole catalogue is written and sent to all who
watch it, so that in a namespace of thousands every second one would cost more than all else."""


def decide_namespace(observation: NamespaceObservation) -> Plan:
    """What shall be done: what models share is there as long as a model is.

    So is what pods of earlier versions of the operator mount (`names.GATES_CONFIG_MAP`), as it was left. And what pods
    mount stays as long as there are engines: a model may be gone from this release and not from the cluster (it no
    longer selects it), and `kubectl delete --cascade=orphan` leaves the engines.
    """
    later = catalog_again_at(observation)
    wanted = _changes(observation, with_catalog=later is None)
    writes, deletions = wanted.due(observation.now)
    return Plan(writes=writes, deletions=deletions, look_again_at=later or wanted.next_due(observation.now))


def problems(observation: NamespaceObservation) -> list[Problem]:
    """What could not be written when it was last tried; there is no one status to tell it in."""
    if all(attempt.problem is None for attempt in observation.attempts.values()):
        return []
    return _changes(observation, with_catalog=True).problems


def _changes(observation: NamespaceObservation, *, with_catalog: bool) -> Changes:
    models = [model for model in observation.models if not model.leaving]
    if not models:
        catalogue = prefixed(observation.release, CATALOG_CONFIG_MAP)
        left = (
            live
            for live in observation.shared.values()
            if not observation.engines_left or live.name.startswith(catalogue)
        )
        return Changes((), tuple(Deletion(live, reasons.NO_LONGER_WANTED) for live in left), observation.attempts)
    desired = [manager.program(observation.namespace)]
    if any(asks_for_prefetch(model) for model in models):
        desired.append(prefetch.program(observation.namespace))
    parts = [live for live in observation.shared.values() if CATALOG_CONFIG_MAP in live.name] if with_catalog else []
    if with_catalog:
        desired += catalog.catalog(observation.namespace, models, [live.body for live in parts])
    wanted = [shared_of(observation.release, one) for one in desired]
    known = set(map(key_of, wanted))
    filling = prefixed(observation.release, PREFETCH_CONFIG_MAP)
    parts += [live for live in observation.shared.values() if live.name == filling]
    gone = tuple(Deletion(live, reasons.NO_LONGER_WANTED) for live in parts if live.key not in known)
    return Changes(changes.writes(wanted, observation.shared), gone, observation.attempts)


def catalog_again_at(observation: NamespaceObservation) -> datetime | None:
    """When to look at the catalogue, where it was looked at a moment ago; None for now."""
    judged = observation.catalog_judged_at
    if judged is None or not _living(observation):
        return None
    due = judged + catalog_interval(len(observation.models))
    return due if observation.now < due else None


def catalog_interval(models: int) -> timedelta:
    """Shortest time between two comparisons of the catalogue of so many models."""
    return max(CATALOG_AGAIN_AFTER, models * CATALOG_AGAIN_AFTER_PER_MODEL)


def _living(observation: NamespaceObservation) -> bool:
    return any(not model.leaving for model in observation.models)
