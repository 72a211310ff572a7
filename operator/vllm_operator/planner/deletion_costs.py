"""Which engines Kubernetes shall take away first: those with the least work. Pure.

A ReplicaSet's controller that has too many pods deletes those first that are not ready, and of the ready ones those
with the lowest `controller.kubernetes.io/pod-deletion-cost` (`ActivePodsWithRanks` in
kubernetes/pkg/controller/controller_utils.go). Costs are compared within one ReplicaSet; a pod without one costs 0.

    going(S)  = engines that a write may take away from a ReplicaSet S and that serve:
                all of S but one      where the write rolls out, or a rollout is under way
                pods - replicas - pods that are not ready     where it scales S down
    cost(pod) = -n .. -1 for the n = going(S) engines with the fewest requests, the idlest lowest; none for others

So a cost is a mark of what is to go: it goes with its pod, the engines that stay carry none, and a fleet whose engines
have equally much to do is not written to. An engine whose manager does not say how much it has to do counts as busier
than all others. Where somebody else has set a cost, of a pod or in the template, the order is theirs.

Two invariants, whatever was seen: no more engines of a ReplicaSet are marked than may go, and no marked one has more
requests than one that is not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.names import DELETION_COST, POD_TEMPLATE_HASH
from vllm_operator.diagnosis.facts import is_dead, is_leaving, pod_facts
from vllm_operator.planner import reasons
from vllm_operator.planner.compare import holds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vllm_operator.api.live import LiveObject

COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""Annotation of Kubernetes, a whole number of 32 bits as text."""

MOST_ASKED: Final = 64
"""Engines of one model that are asked how much they have to do before a write."""


@dataclass(frozen=True, slots=True)
class DeletionCost:
    """What a pod shall cost from now on."""

    pod: LiveObject
    cost: int | None
    """None for what it costs without the annotation."""

    @property
    def annotations(self) -> dict[str, str | None]:
        """The annotations to merge: the cost, and the note by which it is known as the operator's."""
        value = None if self.cost is None else str(self.cost)
        return {COST: value, DELETION_COST: value}


@dataclass(frozen=True, slots=True)
class _Group:
    """Engines of one ReplicaSet that serve, and how many of them may go."""

    serving: tuple[LiveObject, ...]
    going: int


def to_ask(
    desired: Mapping[str, Any], live: Mapping[str, Any] | None, pods: Sequence[LiveObject]
) -> tuple[LiveObject, ...]:
    """The engines on whose work it depends which of them go, once the desired Deployment is written over the live one.

    None where the write takes no engine away that serves, or leaves no choice.
    """
    asked = [pod for group in _groups(desired, live, pods) for pod in group.serving]
    return tuple(asked[:MOST_ASKED])


def deletion_costs(
    desired: Mapping[str, Any],
    live: Mapping[str, Any] | None,
    pods: Sequence[LiveObject],
    requests: Mapping[str, float],
) -> tuple[DeletionCost, ...]:
    """The costs to write before the desired Deployment is. `requests` is the work of each engine, by its pod's uid."""
    found = (_costs_of(group, requests) for group in _groups(desired, live, pods))
    return tuple(cost for costs in found for cost in costs)


def _groups(
    desired: Mapping[str, Any], live: Mapping[str, Any] | None, pods: Sequence[LiveObject]
) -> tuple[_Group, ...]:
    """The ReplicaSets of which some engines that serve may go, and not all."""
    living = [pod for pod in pods if not (is_leaving(pod.body) or is_dead(pod.body))]
    if live is None or any(map(_is_others, living)) or _sets_a_cost(desired):
        return ()
    by_set: defaultdict[str, list[LiveObject]] = defaultdict(list)
    for pod in living:
        by_set[pod.labels.get(POD_TEMPLATE_HASH, "")].append(pod)
    rolls = _rolls_out(desired, live) or len(by_set) > 1
    shrinks = desired["spec"]["replicas"] < live["spec"].get("replicas", 1)
    if not (rolls or shrinks):
        return ()
    surplus = math.inf if rolls else len(living) - desired["spec"]["replicas"]
    groups = (_group(of_one, surplus) for _, of_one in sorted(by_set.items()))
    return tuple(group for group in groups if group.going > 0)


def _group(pods: Sequence[LiveObject], surplus: float) -> _Group:
    serving = sorted((pod for pod in pods if pod_facts(pod.body).is_ready), key=lambda pod: pod.name)
    others = len(pods) - len(serving)  # pods that are not ready go first, whatever they cost
    going = surplus - others
    if math.isinf(going):
        return _Group(tuple(serving), len(serving) - 1)  # the last one needs no mark
    return _Group(tuple(serving), int(going) if going < len(serving) else 0)


def _rolls_out(desired: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether the write replaces engines: it changes their template, or how a rollout goes on that is under way."""
    wanted, found = desired["spec"], live["spec"]
    if not holds(found.get("template"), wanted["template"], ("spec", "template")):
        return True
    if not reasons.differences(live, desired):
        return True  # a field is no longer wanted, and it may be one of the template
    status = live.get("status", {})
    return bool(status.get("updatedReplicas", 0) < status.get("replicas", 0))


def _costs_of(group: _Group, requests: Mapping[str, float]) -> Iterable[DeletionCost]:
    work = {pod.uid: requests.get(pod.uid, math.inf) for pod in group.serving}
    if len(set(work.values())) == 1:
        return  # whichever goes is as good as another
    known = [pod for pod in group.serving if work[pod.uid] < math.inf]
    by_work = sorted(known, key=lambda pod: (work[pod.uid], COST not in pod.annotations, pod.name))[: group.going]
    wanted = {pod.uid: place - len(by_work) for place, pod in enumerate(by_work)}
    for pod in group.serving:
        cost = wanted.get(pod.uid)
        if pod.annotations.get(COST) != (None if cost is None else str(cost)):
            yield DeletionCost(pod, cost)


def _is_others(pod: LiveObject) -> bool:
    """Whether somebody else has set what a pod costs."""
    return COST in pod.annotations and pod.annotations[COST] != pod.annotations.get(DELETION_COST)


def _sets_a_cost(desired: Mapping[str, Any]) -> bool:
    return COST in (desired["spec"]["template"]["metadata"].get("annotations") or {})
