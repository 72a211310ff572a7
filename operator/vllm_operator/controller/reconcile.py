"""The road of every decision: observe -> decide -> act."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vllm_operator.api import names
from vllm_operator.api.conditions import ConditionType
from vllm_operator.api.resource import is_parsed, parse_resource
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.kinds import CONFIG_MAP, MODEL, POD_MONITOR, SECRET
from vllm_operator.controller.act import Hands
from vllm_operator.controller.announce import Announcer
from vllm_operator.controller.listen import Listener
from vllm_operator.errors import ApiEnding, ApiNotFound, ApiRefused, InvalidSpec, OperatorError
from vllm_operator.planner import keys
from vllm_operator.planner.decide import decide, decide_namespace, engines, key_of, tell
from vllm_operator.planner.news import News, news_of
from vllm_operator.planner.owners import belongs
from vllm_operator.planner.plan import NamespaceObservation, Observation
from vllm_operator.render.catalog import is_available

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vllm_operator.cluster.client import Client
    from vllm_operator.errors import ApiError
    from vllm_operator.planner.plan import ChildKey, Plan, Trouble
    from vllm_operator.telemetry import Census

logger = logging.getLogger(__name__)

_KEY_BYTES = 32


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Reconciler:
    """Brings one model, or what a namespace's models share, to what is wanted of it.

    `look_at` has another key looked at soon: a model's readiness is seen here first, and its namespace's catalogue
    shows it.
    """

    def __init__(
        self,
        client: Client,
        cache: Cache,
        census: Census,
        look_at: Callable[[Key], None],
        *,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._client = client
        self._cache = cache
        self._census = census
        self._look_at = look_at
        self._clock = clock
        self._catalogs_judged_at: dict[str, datetime] = {}
        self._hands = Hands(client, cache)
        self._listener = Listener(client)
        self._announcer = Announcer(client)

    async def reconcile(self, key: Key) -> float | None:
        """Observe, decide and act once. Returns in how many seconds to look again, if nothing changes before.

        Raises:
            ApiError: the API server did not do what was decided; the caller tries again later.
        """
        try:
            return await (self._follow(key) if key.name else self._share(key))
        except ApiEnding:
            return None  # what is made there would not last, and whoever is told would be gone

    async def _follow(self, key: Key) -> float | None:
        """One model."""
        observation = await self._observe(key)
        self._census.count(key, engines(observation) if observation.raw else ())
        outcome, failure = await self._carry_out(key, observation)
        if outcome.status is not None:
            await self._write_status(key, outcome.status, observation.now)
        if failure is not None:
            raise failure
        if outcome.look_again_at is None:
            return None
        return (outcome.look_again_at - observation.now).total_seconds()

    async def _carry_out(self, key: Key, observation: Observation) -> tuple[Plan, ApiError | None]:
        """Bring the children to what was decided. The plan that is returned holds what is left to tell.

        After a write the answers are judged, not what was there before: no watch reports an answer once more, and a
        write that rolls nothing out (a label was mended) must not leave the model waiting for a rollout.
        """
        plan = decide(observation)
        ours = functools.partial(belongs, key.name)
        done = await self._hands.act(key, plan, ours)
        if done.unknown:
            observation = replace(observation, children={**observation.children, **done.unknown})
            plan = decide(observation)
            done = await self._hands.act(key, plan, ours)
        if not (plan.writes or done.troubles):
            return plan, done.failure
        seen = replace(observation, children=self._children(key), pods=self._pods(key))
        return tell(seen, done.troubles), done.failure

    async def _observe(self, key: Key) -> Observation:
        raw, pods, now = self._cache.get(MODEL, key), self._pods(key), self._clock()
        return Observation(
            raw=raw,
            children=self._children(key),
            pods=pods,
            now=now,
            pod_monitors=self._cache.serves(POD_MONITOR),
            secret=await self._secret(key.namespace, raw) if raw else None,
            fresh_key=secrets.token_urlsafe(_KEY_BYTES) if raw and keys.is_generated(raw) else "",
            heard=await self._listener.heard(key, pods if raw else (), now),
        )

    def _children(self, key: Key) -> dict[ChildKey, Mapping[str, Any]]:
        found = self._cache.children(key.namespace, names.instance_name(key.name))
        return {key_of(live): live for live in found}

    def _pods(self, key: Key) -> tuple[Mapping[str, Any], ...]:
        return self._cache.pods(key.namespace, names.instance_name(key.name))

    async def _secret(self, namespace: str, raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The user's Secret that holds the first API key: not ours, so not watched."""
        name = keys.secret_to_read(raw)
        if name is None:
            return None
        try:
            return await self._client.get(SECRET, namespace, name)
        except (ApiNotFound, ApiRefused):
            return None  # the status tells it

    async def _share(self, key: Key) -> float | None:
        """What the models of a namespace share.

        Raises:
            OperatorError: it could not be written; there is no one status to tell it in.
        """
        await parse_in_turns(self._cache.models(key.namespace))
        observation = self._observe_namespace(key.namespace)
        plan = decide_namespace(observation)
        done = await self._hands.act(key, plan, _is_managed)
        if done.unknown:
            observation = replace(observation, shared={**observation.shared, **done.unknown})
            done = await self._hands.act(key, decide_namespace(observation), _is_managed)
        if done.troubles:
            await self._tell_namespace(observation, done.troubles[0])
            raise OperatorError(done.troubles[0].message)
        self._remember_judgement(observation, plan)
        return None if plan.look_again_at is None else (plan.look_again_at - observation.now).total_seconds()

    def _observe_namespace(self, namespace: str) -> NamespaceObservation:
        found = (self._cache.get(CONFIG_MAP, Key(namespace, name)) for name in names.SHARED)
        return NamespaceObservation(
            namespace=namespace,
            models=self._cache.models(namespace),
            shared={key_of(live): live for live in found if live is not None},
            now=self._clock(),
            catalog_judged_at=self._catalogs_judged_at.get(namespace),
        )

    def _remember_judgement(self, observation: NamespaceObservation, plan: Plan) -> None:
        """After a failure nothing is remembered: the next try has to be one, or the queue would not back off."""
        if not observation.models:
            self._catalogs_judged_at.pop(observation.namespace, None)
        elif plan.look_again_at is None:
            self._catalogs_judged_at[observation.namespace] = observation.now

    async def _tell_namespace(self, observation: NamespaceObservation, trouble: Trouble) -> None:
        """An Event about the first model: what is shared has no status."""
        first = min(observation.models, key=lambda raw: str(raw["metadata"]["name"]), default=None)
        if first is not None:
            await self._announcer.announce(first, News("Warning", trouble.reason, trouble.message), observation.now)

    async def _write_status(self, key: Key, status: Mapping[str, Any], now: datetime) -> None:
        raw = self._cache.get(MODEL, key)
        if raw is None:
            return
        whole = {**dict.fromkeys(raw.get("status", {})), **status}  # a merge patch keeps what it does not name
        try:
            live = await self._client.patch_status(key.namespace, key.name, raw["metadata"]["uid"], whole)
        except ApiNotFound:
            return  # deleted meanwhile: there is nobody left to tell
        self._cache.put(MODEL, live)
        if is_available(live) != is_available(raw):
            self._look_at(Key(key.namespace))
        told = next(condition for condition in status["conditions"] if condition["type"] == ConditionType.READY)
        text = f"Ready={told['status']} {told['reason']}: {told['message']}"
        logger.info("%s/%s: %s", key.namespace, key.name, text)
        news = news_of(raw, status)
        if news is not None:
            await self._announcer.announce(live, news, now)


async def parse_in_turns(models: Iterable[Mapping[str, Any]]) -> None:
    """Read the resources that were not read before, and let everything else have its turn after each.

    A large chat template takes half a second: a namespace with many of them, read at one go, would keep the operator
    from answering /healthz, and kubelet would restart it.
    """
    for raw in models:
        if not is_parsed(raw):
            with contextlib.suppress(InvalidSpec):  # told in the status of that model
                parse_resource(raw)
            await asyncio.sleep(0)


def _is_managed(live: Mapping[str, Any]) -> bool:
    """Whether an object that has no owner is the operator's all the same."""
    return bool(live["metadata"].get("labels", {}).get(names.MANAGED_BY) == names.MANAGER)
