"""The road of every decision about a model: observe -> decide -> execute, until nothing is left to do."""

from __future__ import annotations

import functools
import logging
import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vllm_operator.api import names
from vllm_operator.api.conditions import ConditionType, by_type
from vllm_operator.cluster.foreign import ForeignObjects
from vllm_operator.cluster.kinds import (
    CUSTOM_METRICS,
    MODEL,
    POD_MONITOR,
    RESOURCE_CLAIM_TEMPLATE,
    SCALED_OBJECT,
    SECRET,
    WORKLOADS,
)
from vllm_operator.cluster.queue import NamespaceKey
from vllm_operator.controller.adoption import with_applied_template
from vllm_operator.controller.autoscalers import AutoscalerLookup
from vllm_operator.controller.catalogue import with_catalogued
from vllm_operator.controller.claims import with_claims, with_known_claims
from vllm_operator.controller.devices import with_device_claims
from vllm_operator.controller.estimates import EstimateLookup
from vllm_operator.controller.execute import PlanExecutor
from vllm_operator.controller.groups import with_groups
from vllm_operator.controller.intake import was_edited
from vllm_operator.controller.pod_lookups import PodLookups
from vllm_operator.controller.prefetch import PrefetchJobs
from vllm_operator.controller.replicas import ReplicasGuard
from vllm_operator.controller.requests import requests_of
from vllm_operator.controller.statuses import Kept, StatusWriter, as_told
from vllm_operator.diagnosis.queues import last_eviction
from vllm_operator.errors import ApiConflict, ApiEnding, ApiNotFound, ApiNotServed, ApiRefused
from vllm_operator.planner import adapters, api_keys
from vllm_operator.planner.autoscalers import Rival
from vllm_operator.planner.budgets import Budget
from vllm_operator.planner.decide import decide
from vllm_operator.planner.engines import engines
from vllm_operator.planner.news import NO_EVENTS, EventHistory, after_event
from vllm_operator.planner.owners import belongs
from vllm_operator.planner.plan import Observation
from vllm_operator.planner.policies import Policy
from vllm_operator.planner.template import is_pending
from vllm_operator.render.catalog import is_available, served_adapters
from vllm_operator.telemetry import logs
from vllm_operator.telemetry.models import model_seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vllm_operator.api.live import LiveObject, ObjectKey, ObjectVersion
    from vllm_operator.cluster.cache import Cache, Key
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.engine_status import EngineStatusReader
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.cluster.queue import QueueKey
    from vllm_operator.controller.announce import Announcer
    from vllm_operator.controller.execute import Result
    from vllm_operator.diagnosis.queues import Eviction
    from vllm_operator.errors import ApiError
    from vllm_operator.planner.attempts import Attempts
    from vllm_operator.planner.news import News
    from vllm_operator.planner.plan import Plan
    from vllm_operator.telemetry import ModelMetrics

logger = logging.getLogger(__name__)

_KEY_BYTES = 32

MOST_ROUNDS = 3
"""Rounds of one look: the writes, the adoption of what no watch had shown, and one more for what that changes."""


def utc_now() -> datetime:
    """The time, as people and the API server have it."""
    return datetime.now(UTC)


def _tells_other_adapters(live: LiveObject, before: LiveObject) -> bool:
    return served_adapters(live.body) != served_adapters(before.body)


@dataclass(frozen=True, slots=True)
class _Memory:
    """What the next look at a model has to know of the ones before."""

    uid: str
    attempts: Attempts = field(default_factory=dict)
    events: EventHistory = NO_EVENTS
    told_at: datetime | None = None
    """When the last status was written."""
    evicted: Eviction | None = None
    kept: Kept | None = None
    """What the API server made of it, where it did not keep it as it was."""


class ModelReconciler:
    """Brings one model to what is wanted of it.

    `look_at` has a key looked at soon: a model's readiness is seen here first, and its namespace's catalogue shows it;
    and what a lookup of a pod brings comes later than the pass that began it. `take_in` is given what an answer shows
    of a model that others may have edited meanwhile. `made` is told of the changes that a pass made itself: the watch
    that brings them is no reason to look once more.
    """

    def __init__(
        self,
        client: Client,
        cache: Cache,
        announcer: Announcer,
        metrics: ModelMetrics,
        look_at: Callable[[QueueKey], None],
        *,
        managers: EngineStatusReader,
        operator_namespace: str = names.OPERATOR_NAMESPACE,
        release: str = "",
        budgets: ForeignObjects[Budget] | None = None,
        policies: ForeignObjects[Policy] | None = None,
        rivals: ForeignObjects[Rival] | None = None,
        prometheus_address: str = "",
        clock: Callable[[], datetime] = utc_now,
        take_in: Callable[[Kind, LiveObject], object] | None = None,
        made: Callable[[QueueKey, Iterable[ObjectVersion]], None] = lambda _key, _changes: None,
    ) -> None:
        self._client = client
        self._operator_namespace = operator_namespace
        self._release = release
        self._budgets = budgets or ForeignObjects[Budget]()
        self._policies = policies or ForeignObjects[Policy]()
        self._rivals = rivals or ForeignObjects[Rival]()
        self._prometheus_address = prometheus_address
        self._cache = cache
        self._announcer = announcer
        self._metrics = metrics
        self._look_at = look_at
        self._made = made
        self._clock = clock
        self._executor = PlanExecutor(client, cache, release)
        self._managers = managers
        self.lookups = PodLookups(client, managers, look_at, clock)
        self._autoscalers = AutoscalerLookup(client)
        self._estimates = EstimateLookup(client)
        self._prefetch = PrefetchJobs(client, managers, release)
        self._replicas = ReplicasGuard(client, cache, take_in or cache.put, announcer, release)
        self._statuses = StatusWriter(client)
        self._memories: dict[Key, _Memory] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Look at one model. Returns in how many seconds to look again, if nothing changes before.

        Raises:
            ApiError: the API server did not do what was decided; the caller tries again later.
        """
        try:
            observation = await self._observe(key)
            plan, failure = await self._settle(key, observation)
            await self._executor.mark(plan.to_call)
            self._measure(key, observation, plan)
            await self._tell(key, observation, plan)
        except ApiEnding:
            return None  # what is made there would not last, and whoever is told would be gone
        if failure is not None:
            raise failure
        return None if plan.look_again_at is None else (plan.look_again_at - observation.now).total_seconds()

    def _measure(self, key: Key, observation: Observation, plan: Plan) -> None:
        """Keep what metrics tell of a model; nothing of one that is gone, or on its way."""
        model = observation.model
        if model is None or model.leaving:
            self._metrics.forget(key)
            return
        status = model.status if plan.status is None else plan.status
        self._metrics.see(key, model_seen(engines(observation), status, pending=is_pending(observation, plan)))

    async def _settle(self, key: Key, observation: Observation) -> tuple[Plan, ApiError | None]:
        """Decide and execute until nothing is left to do now. The plan that is returned says what to tell.

        After a write the answers are judged, not what was there before: no watch reports an answer once more, and a
        write that rolls nothing out (a label was mended) must not leave the model waiting for a rollout.
        """
        ours = functools.partial(belongs, key.name, release=self._release)
        for _ in range(MOST_ROUNDS):
            observation, plan = await self._decide(observation)
            if not plan.changes:
                return plan, None
            result = await self._executor.execute(plan, observation.attempts, observation.now, ours=ours)
            self._made(key, result.made)
            observation = await self._observe_again(key, observation, result)
            if plan.jobs and result.failure is None:
                jobs = await self._prefetch.execute(key, plan.jobs, observation.prefetch, observation.now)
                observation = replace(observation, prefetch=jobs)
            if result.failure is not None:
                return decide(observation), result.failure
        return replace(decide(observation), look_again_at=observation.now), None

    async def _decide(self, observation: Observation) -> tuple[Observation, Plan]:
        """Decide, and once more where it depends on how much the engines have to do at this moment.

        A plan that changes something says nothing: it is carried out, and what comes of it is told.
        """
        plan = decide(observation, telling=False)
        if not plan.to_ask:
            return observation, plan
        asked = replace(observation, requests=await requests_of(self._managers, plan.to_ask))
        return asked, decide(asked, telling=False)

    async def _observe(self, key: Key) -> Observation:
        pods, children, now = self._pods(key), self._children(key), self._clock()
        model = await self._replicas.kept(self._cache.get(MODEL, key), children, now)
        raw = model.body if model else {}
        memory = self._remembered(key, model)
        if model is not None and (taken := last_eviction([pod.body for pod in pods], memory.evicted)) != memory.evicted:
            memory = self._memories[key] = replace(memory, evicted=taken)
        model = as_told(model, memory.kept)
        version = adapters.live_version(children, key.name)
        found = self.lookups.known(key, pods if model else (), now, adapters=version)
        observation = Observation(
            model=model,
            children=children,
            autoscalers=await self._autoscalers.autoscalers(key, model, children, now),
            budgets=self._budgets.of(key.namespace, names.instance_name(key.name)),
            policies=self._policies.of(key.namespace, names.instance_name(key.name)),
            estimated=await self._estimates.estimated(key, model, now),
            prefetch=await self._prefetch.seen(key, model, now),
            pods=pods,
            now=now,
            attempts=memory.attempts,
            events=memory.events,
            told_at=memory.told_at,
            evicted=memory.evicted,
            operator_namespace=self._operator_namespace,
            release=self._release,
            pod_monitors=self._cache.serves(POD_MONITOR),
            scaled_objects=self._cache.serves(SCALED_OBJECT),
            resource_claims=self._cache.serves(RESOURCE_CLAIM_TEMPLATE),
            custom_metrics=self._cache.serves(CUSTOM_METRICS),
            kueue=self._cache.serves(WORKLOADS[0]),
            prometheus_address=self._prometheus_address,
            rivals=self._rivals.of(key.namespace, names.instance_name(key.name)),
            secrets=await self._secrets(key.namespace, raw),
            fresh_key=secrets.token_urlsafe(_KEY_BYTES) if api_keys.is_generated(raw) else "",
            lookups=found.by_uid,
            lookup_turns=found.turns,
        )
        observation = with_catalogued(self._cache, observation, self._release)
        observation = await with_groups(self._client, self._cache, observation)
        observation = await with_device_claims(self._client, self._cache, observation)
        observation = await with_applied_template(self._client, observation)
        return await with_claims(self._client, self._cache, observation)

    async def _observe_again(self, key: Key, before: Observation, result: Result) -> Observation:
        """Observe a model again after its writes. What no watch had shown may be older than the cache takes in."""
        kept = {**before.attempts, **result.attempts}
        if before.model is not None:
            self._memories[key] = replace(self._remembered(key, before.model), attempts=kept)
        children = {**self._children(key), **result.found}
        again = replace(before, children=children, pods=self._pods(key), attempts=kept)
        again = await with_applied_template(self._client, again)
        return with_known_claims(self._cache, again)

    def _remembered(self, key: Key, model: LiveObject | None) -> _Memory:
        """What is known of this very model; a new one of its name begins anew."""
        memory = self._memories.get(key)
        if model is None:
            self._memories.pop(key, None)
        if model is None or memory is None or memory.uid != model.uid:
            return _Memory(model.uid if model else "")
        return memory

    def _children(self, key: Key) -> dict[ObjectKey, LiveObject]:
        return {live.key: live for live in self._cache.children(key.namespace, names.instance_name(key.name))}

    def _pods(self, key: Key) -> tuple[LiveObject, ...]:
        return self._cache.pods(key.namespace, names.instance_name(key.name))

    async def _secrets(self, namespace: str, raw: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """The user's Secrets that hold API keys: not ours, so not watched."""
        found: dict[str, Mapping[str, Any]] = {}
        for name in api_keys.secrets_to_read(raw):
            try:
                found[name] = (await self._client.get(SECRET, namespace, name)).body
            except (ApiNotFound, ApiRefused):
                continue  # the status tells it
        return found

    async def _tell(self, key: Key, observation: Observation, plan: Plan) -> None:
        """Write the status of the very model that was observed, and what is news of it."""
        model = observation.model
        if model is None:
            return
        if plan.status is None:
            await self._announce(key, model, plan.news, observation.now)
            return
        try:
            live, kept = await self._statuses.write(model, plan.status)
        except ApiNotServed:
            raise
        except (ApiNotFound, ApiConflict):
            self._forget(model)
            return
        if not was_edited(model, live):  # else the watch would bring the edit to all whom it concerns as no news
            self._cache.put(MODEL, live)
        self._made(key, [live.version])
        self._memories[key] = replace(self._remembered(key, model), told_at=self._clock(), kept=kept)
        if is_available(live.body) != is_available(model.body) or _tells_other_adapters(live, model):
            self._look_at(NamespaceKey(model.namespace))
        told = by_type(plan.status)[ConditionType.READY]
        text = f"Ready={told['status']} {told['reason']}: {told['message']}"
        fields = logs.write("status", live, told["reason"])
        logger.info("%s/%s: %s", model.namespace, model.name, text, extra=fields)
        await self._announce(key, live, plan.news, observation.now)

    async def _announce(self, key: Key, model: LiveObject, news: News | None, now: datetime) -> None:
        """Have an Event tell the news, if there are any."""
        if news is not None:
            memory = self._remembered(key, model)
            self._memories[key] = replace(memory, events=after_event(news, memory.events, now))
            await self._announcer.announce(model, news, now)

    def _forget(self, model: LiveObject) -> None:
        """A model that the API server no longer has: its watch may have lost the deletion, and would revive it."""
        if self._cache.remove(MODEL, model):
            logger.info("%s/%s is gone, and no watch had said so yet", model.namespace, model.name)
            self._look_at(NamespaceKey(model.namespace))
