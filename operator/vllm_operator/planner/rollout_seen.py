"""A Deployment and its engines, as far as a rollout depends on them. Pure.

ReplicaSets are not watched: what each shall have follows from the Deployment's status and the labels of pods.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import by_type
from vllm_operator.api.groups import template_hash_of
from vllm_operator.api.names import POD_TEMPLATE_HASH
from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.diagnosis.events import timestamp
from vllm_operator.diagnosis.facts import is_dead, is_leaving, pod_facts
from vllm_operator.planner.places import quota_refuses
from vllm_operator.render.devices import templates_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from vllm_operator.diagnosis.engines import EngineReport

_NAMED: Final = re.compile(r'[Rr]eplica ?[Ss]et "([^"]+)"')
"""The newest ReplicaSet in a message of the condition Progressing."""

_SURGE: Final = 1
"""S of a Deployment at rest."""

_UNSCHEDULABLE: Final = "Unschedulable"
"""Reason of PodScheduled: the scheduler has looked, and found no node."""


@dataclass(frozen=True, slots=True)
class PodSeen:
    """What a rollout has to know of an engine's pod."""

    name: str
    revision: str
    state: EngineState
    placed: bool
    """Whether it holds a place on a node."""
    waits_since: datetime | None
    """Since when the scheduler finds no node for it, or its queue does not admit it; None where it has a place, and
    where nobody has looked."""
    waits_for: str
    """The words of the scheduler, or of the queue."""
    queued: bool
    """Whether it is its queue that holds it back."""
    ready_since: datetime | None
    created_at: str
    restarts: int
    device_templates: frozenset[str] = frozenset()
    """ResourceClaimTemplates of which its claims of devices are."""

    @property
    def serves(self) -> bool:
        """Whether it takes traffic."""
        return self.state is EngineState.SERVING


@dataclass(frozen=True)
class Seen:
    """The Deployment and its pods, as far as a rollout depends on them."""

    deployment: Mapping[str, Any]
    pods: tuple[PodSeen, ...]
    """Those that live and are not on their way out."""
    places_free_by: tuple[datetime, ...]
    """When pods on their way out have to be gone."""

    @classmethod
    def of(
        cls,
        deployment: Mapping[str, Any],
        engine_pods: Sequence[Mapping[str, Any]],
        reports: Iterable[EngineReport],
    ) -> Seen:
        """Read them, and what is told of each engine."""
        told = {report.pod: report for report in reports}
        leaving = (pod for pod in engine_pods if is_leaving(pod) and not is_dead(pod))
        ends = (timestamp(pod["metadata"]["deletionTimestamp"]) for pod in leaving)
        living = (pod for pod in engine_pods if not (is_leaving(pod) or is_dead(pod)))
        pods = tuple(_pod_seen(pod, told.get(str(pod["metadata"]["name"]))) for pod in living)
        return cls(deployment, pods, tuple(end for end in ends if end is not None))

    @property
    def status(self) -> Mapping[str, Any]:
        """The Deployment's status."""
        return self.deployment.get("status") or {}

    @property
    def spec(self) -> Mapping[str, Any]:
        """The Deployment's spec, as it is now."""
        return self.deployment.get("spec") or {}

    @property
    def observed(self) -> bool:
        """Whether the controller has seen the spec as it is now."""
        return bool(self.status.get("observedGeneration", 0) >= self.deployment["metadata"].get("generation", 0))

    @property
    def paused(self) -> bool:
        """Whether somebody holds the Deployment."""
        return bool(self.spec.get("paused"))

    @property
    def replicas(self) -> int:
        """R, as the controller knows it or will."""
        return int(self.spec.get("replicas", 1))

    @property
    def surge(self) -> int:
        """S, as the controller knows it or will; a share of R is rounded up."""
        return math.ceil(self._rolling_number("maxSurge"))

    @property
    def unavailable(self) -> int:
        """U, likewise; a share of R is rounded down."""
        return math.floor(self._rolling_number("maxUnavailable"))

    def _rolling_number(self, name: str) -> float:
        given = (self.spec.get("strategy", {}).get("rollingUpdate") or {}).get(name, 0)
        return int(given.rstrip("%")) * self.replicas / 100 if isinstance(given, str) else int(given)

    @property
    def recreates(self) -> bool:
        """Whether the controller takes all engines away first."""
        return bool(self.spec.get("strategy", {}).get("type") == "Recreate")

    @property
    def updated(self) -> int:
        """How many pods the newest ReplicaSet has."""
        return int(self.status.get("updatedReplicas", 0))

    @property
    def told_total(self) -> int:
        """T, as the status has it: what is not available is counted by what ReplicaSets shall have."""
        return int(self.status.get("availableReplicas", 0) + self.status.get("unavailableReplicas", 0))

    @property
    def total(self) -> int:
        """T, as far as it is known."""
        return max(self.told_total, len(self.pods))

    @property
    def moved_at(self) -> datetime | None:
        """When the rollout last came on, as its controller says; None where it does not."""
        return timestamp(by_type(self.status).get("Progressing", {}).get("lastUpdateTime"))

    @property
    def most(self) -> int:
        """T at most, whatever the controller has done since its status was written.

        It makes no more than R + S, and of a template no more than R. The second bound keeps S from growing without end
        where somebody else sets R again and again.
        """
        return max(self.total, min(self.replicas + self.surge, self.total + self.replicas + _SURGE))

    @property
    def rolling(self) -> bool:
        """Whether engines of an older template exist."""
        return bool(self.status.get("replicas", 0) != self.updated)

    @cached_property
    def sizes(self) -> Counter[str]:
        """How many pods each revision has."""
        return Counter(pod.revision for pod in self.pods)

    @property
    def single(self) -> bool:
        """Whether the newest ReplicaSet alone has pods, and exactly those that it shall have."""
        counted = self.updated == self.status.get("replicas", 0) == self.told_total
        return bool(self.observed and counted and len(self.sizes) <= 1)

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to do for the controller."""
        return self.single and self.told_total == self.replicas

    @property
    def serving(self) -> int:
        """How many engines serve: of two witnesses the one who says more."""
        return max(int(self.status.get("readyReplicas", 0)), sum(pod.serves for pod in self.pods))

    @property
    def in_place(self) -> bool:
        """Whether the rollout that is on its way has gone on in place."""
        return self.rolling and self.surge == 0 and not self.recreates

    @cached_property
    def newest(self) -> str:
        """The revision of the newest template; empty where it has no pods, or cannot be told."""
        return newest_revision(self)

    @property
    def pods_refused(self) -> bool:
        """Whether a pod cannot be made at all, and none of the newest revision is there."""
        failing = by_type(self.status).get("ReplicaFailure", {}).get("status") == "True"
        return failing and not self.updated

    @property
    def quota_full_since(self) -> datetime | None:
        """Since when a quota has no room for one more pod; None where it has."""
        failure = by_type(self.status).get("ReplicaFailure", {})
        return timestamp(failure.get("lastTransitionTime")) if quota_refuses(failure) else None


def newest_revision(seen: Seen) -> str:
    """The revision of the newest template, by what the Deployment's status says of it; empty where it cannot be told.

    The condition Progressing names its ReplicaSet, but is not written anew on each occasion: the count decides.
    """
    named = _NAMED.search(str(by_type(seen.status).get("Progressing", {}).get("message") or ""))
    hinted = named.group(1).rpartition("-")[2] if named else ""
    if hinted and seen.sizes.get(hinted, 0) == seen.updated:
        return hinted
    fitting = {revision for revision, size in seen.sizes.items() if size == seen.updated}
    youngest = max((pod for pod in seen.pods if pod.revision in fitting), key=lambda pod: pod.created_at, default=None)
    return youngest.revision if youngest else ""


def _pod_seen(pod: Mapping[str, Any], report: EngineReport | None) -> PodSeen:
    facts = pod_facts(pod)
    state = report.state if report else EngineState.STARTING
    scheduled = facts.condition("PodScheduled")
    waits = scheduled.get("status") == "False" and scheduled.get("reason", _UNSCHEDULABLE) == _UNSCHEDULABLE
    words, queued = str(scheduled.get("message") or ""), facts.is_queued
    if queued and report:
        waits, words = not report.unasked, report.diagnosis.excerpt if report.diagnosis else ""
    return PodSeen(
        name=facts.name,
        revision=template_hash_of(pod) or str(pod["metadata"].get("labels", {}).get(POD_TEMPLATE_HASH, "")),
        state=state,
        placed=scheduled.get("status") == "True",
        waits_since=timestamp(facts.waits_since) if waits else None,
        waits_for=words if waits else "",
        queued=queued,
        ready_since=timestamp(facts.since) if state is EngineState.SERVING else None,
        created_at=facts.created_at,
        restarts=facts.engine.restarts,
        device_templates=frozenset(templates_of([pod])),
    )
