"""Reconciling what the models of a namespace share: observe -> decide -> execute."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vllm_operator.api import names
from vllm_operator.cluster.cache import Key
from vllm_operator.cluster.kinds import CONFIG_MAP, DEPLOYMENT
from vllm_operator.controller.execute import PlanExecutor
from vllm_operator.controller.reconcile import MOST_ROUNDS, utc_now
from vllm_operator.controller.turns import parse_in_turns
from vllm_operator.errors import ApiEnding, OperatorError
from vllm_operator.planner.namespace import CATALOG_AFTER, catalog_again_at, decide_namespace, problems
from vllm_operator.planner.news import NO_EVENTS, EventHistory, News, after_event, is_due
from vllm_operator.planner.owners import is_managed
from vllm_operator.planner.plan import NamespaceObservation
from vllm_operator.render.catalog import is_entered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from vllm_operator.api.live import LiveObject, ObjectKey
    from vllm_operator.cluster.cache import Cache
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.queue import NamespaceKey
    from vllm_operator.controller.announce import Announcer
    from vllm_operator.planner.attempts import Attempts, Problem
    from vllm_operator.planner.plan import Plan


@dataclass(frozen=True, slots=True)
class _Memory:
    """What the next look at a namespace has to know of the one before."""

    attempts: Attempts = field(default_factory=dict)
    events: EventHistory = NO_EVENTS
    catalog_judged_at: datetime | None = None
    quiet_until: datetime | None = None
    """Until when changes of models alone need no look: the next comparison of the catalogue takes them all in."""
    awaited: bool = False
    """Whether one was asked for, and was put off for a moment already."""
    shared: Mapping[ObjectKey, int] = field(default_factory=dict)
    """The versions of what models share, as it was found right."""


class NamespaceReconciler:
    """Brings what the models of one namespace share to what is wanted of it."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        announcer: Announcer,
        *,
        release: str = "",
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._release = release
        self._cache = cache
        self._announcer = announcer
        self._clock = clock
        self._executor = PlanExecutor(client, cache, release)
        self._memories: dict[str, _Memory] = {}

    async def reconcile(self, key: NamespaceKey) -> float | None:
        """Look at one namespace. Returns in how many seconds to look again, if nothing changes before.

        Raises:
            OperatorError: it could not be written; there is no one status to tell it in.
        """
        waiting = self._put_off(key.namespace)
        if waiting:
            return waiting
        await parse_in_turns(model for model in self._cache.models(key.namespace) if not is_entered(model))
        try:
            observation, plan = await self._settle(self._observe(key.namespace))
        except ApiEnding:
            return None  # what is made there would not last
        found = problems(observation)
        if found:
            await self._tell(observation, found[0])
            raise OperatorError(found[0].message)
        self._remember(observation, plan)
        return None if plan.look_again_at is None else (plan.look_again_at - observation.now).total_seconds()

    async def _settle(self, observation: NamespaceObservation) -> tuple[NamespaceObservation, Plan]:
        """Decide and execute until nothing is left to do now, or something could not be done."""
        ours = functools.partial(is_managed, release=self._release)
        for _ in range(MOST_ROUNDS):
            plan = decide_namespace(observation)
            if not plan.changes:
                return observation, plan
            result = await self._executor.execute(plan, observation.attempts, observation.now, ours=ours)
            shared = {**self._observe(observation.namespace).shared, **result.found}
            observation = replace(observation, shared=shared, attempts={**observation.attempts, **result.attempts})
            if result.failure is not None:
                return observation, plan
        return observation, replace(decide_namespace(observation), look_again_at=observation.now)

    def _put_off(self, namespace: str) -> float:
        """Put a look off that would find nothing to do, or had better wait. Returns for how many seconds, or 0.

        Each of a thousand models that come together asks for a look at all of them.
        """
        memory, now = self._memory(namespace), self._clock()
        if memory.quiet_until is None:
            return 0.0
        if _versions(self._shared(namespace)) != memory.shared or not self._cache.has_models(namespace):
            return 0.0
        if now < memory.quiet_until:
            return (memory.quiet_until - now).total_seconds()
        if memory.awaited:
            return 0.0
        self._memories[namespace] = replace(memory, quiet_until=now + CATALOG_AFTER, awaited=True)
        return CATALOG_AFTER.total_seconds()

    def _shared(self, namespace: str) -> dict[ObjectKey, LiveObject]:
        shared = (names.prefixed(self._release, name) for name in names.SHARED)
        found = (self._cache.get(CONFIG_MAP, Key(namespace, name)) for name in shared)
        return {live.key: live for live in found if live is not None}

    def _observe(self, namespace: str) -> NamespaceObservation:
        memory, models = self._memory(namespace), self._cache.models(namespace)
        return NamespaceObservation(
            namespace=namespace,
            models=models,
            shared=self._shared(namespace),
            now=self._clock(),
            attempts=memory.attempts,
            release=self._release,
            engines_left=not models and self._cache.has_any(DEPLOYMENT, namespace),
            catalog_judged_at=memory.catalog_judged_at,
        )

    def _memory(self, namespace: str) -> _Memory:
        return self._memories.get(namespace, _Memory())

    def _remember(self, observation: NamespaceObservation, plan: Plan) -> None:
        """Nothing of a namespace without models; when its catalogue was compared, if it was."""
        if not observation.models:
            self._memories.pop(observation.namespace, None)
            return
        judged_at = observation.now if catalog_again_at(observation) is None else observation.catalog_judged_at
        later = catalog_again_at(replace(observation, catalog_judged_at=judged_at))
        self._memories[observation.namespace] = replace(
            self._memory(observation.namespace),
            attempts=observation.attempts,
            catalog_judged_at=judged_at,
            quiet_until=min((at for at in (later, plan.look_again_at) if at), default=None),
            awaited=False,
            shared=_versions(observation.shared),
        )

    async def _tell(self, observation: NamespaceObservation, problem: Problem) -> None:
        """An Event about the first model: what is shared has no status.

        No attempt is remembered: the next look has to be one, or the queue would not back off.
        """
        memory, now = self._memory(observation.namespace), observation.now
        news = News("Warning", problem.reason, problem.message)
        first = min(observation.models, key=lambda model: model.name, default=None)
        due = first is not None and is_due(news, memory.events, now)
        events = after_event(news, memory.events, now) if due else memory.events
        self._memories[observation.namespace] = replace(memory, attempts={}, events=events, quiet_until=None)
        if first is not None and due:
            await self._announcer.announce(first, news, now)


def _versions(shared: Mapping[ObjectKey, LiveObject]) -> dict[ObjectKey, int]:
    return {key: live.resource_version for key, live in shared.items()}
