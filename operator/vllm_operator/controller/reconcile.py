"""The road of every decision: observe -> decide -> act."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vllm_operator.api import names
from vllm_operator.api.conditions import ConditionType, Reason
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.kinds import CONFIG_MAP, MODEL, kind_of
from vllm_operator.errors import ApiConflict, ApiNotFound, ApiRefused, OperatorError
from vllm_operator.planner.decide import decide, decide_namespace, name_taken, owned, refuse, tell
from vllm_operator.planner.plan import ChildKey, NamespaceObservation, Observation
from vllm_operator.render.children import child_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cluster.client import Client
    from vllm_operator.planner.plan import Plan, Write

logger = logging.getLogger(__name__)


class Reconciler:
    """Brings one model, or what a namespace's models share, to what is wanted of it."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache

    async def reconcile(self, key: Key) -> float | None:
        """Observe, decide and act once. Returns in how many seconds to look again, if nothing changes before.

        Raises:
            ApiError: the API server did not do what was decided; the caller tries again later.
        """
        if not key.name:
            await self._act(key, decide_namespace(self._observe_namespace(key.namespace)))
            return None
        observation = self._observe(key)
        outcome = await self._carry_out(key, observation)
        if outcome.status is not None:
            await self._write_status(key, outcome.status)
        if outcome.look_again_at is None:
            return None
        return (outcome.look_again_at - observation.now).total_seconds()

    async def _carry_out(self, key: Key, observation: Observation) -> Plan:
        """Bring the children to what was decided. The plan that is returned holds what is left to tell.

        After a write the answers are judged, not what was there before: no watch reports an answer once more, and a
        write that rolls nothing out (a label was mended) must not leave the model waiting for a rollout.
        """
        plan = decide(observation)
        try:
            await self._act(key, plan)
        except ApiRefused as refusal:
            return refuse(observation, Reason.CHILD_REFUSED, str(refusal))
        except NameTaken as taken:
            return refuse(observation, Reason.NAME_TAKEN, str(taken))
        if not plan.writes:
            return plan
        return tell(replace(self._observe(key), raw=observation.raw))  # a newer spec is for the next look

    def _observe(self, key: Key) -> Observation:
        instance = names.instance_name(key.name)
        found = {
            ChildKey(kind, name): self._cache.get(kind_of(kind), Key(key.namespace, name))
            for kind, name in child_names(instance)
        }
        return Observation(
            raw=self._cache.get(MODEL, key),
            children={child: live for child, live in found.items() if live is not None},
            pods=self._cache.pods(key.namespace, instance),
            now=datetime.now(UTC),
        )

    def _observe_namespace(self, namespace: str) -> NamespaceObservation:
        program = self._cache.get(CONFIG_MAP, Key(namespace, names.GATES_CONFIG_MAP))
        return NamespaceObservation(namespace, self._cache.has_models(namespace), program)

    async def _act(self, key: Key, plan: Plan) -> None:
        for write in plan.writes:
            live = await self._write(key, write)
            self._cache.put(kind_of(live["kind"]), live)
        if plan.writes:
            written = (f"{write.desired['kind']} {write.desired['metadata']['name']}" for write in plan.writes)
            logger.info("%s/%s: applied %s", key.namespace, key.name, ", ".join(written))
        for doomed in plan.deletes:
            await self._client.delete(doomed)

    async def _write(self, key: Key, write: Write) -> dict[str, Any]:
        try:
            return await self._client.apply(write.desired, force=write.ours)
        except ApiConflict:
            return await self._take_back(key, write)

    async def _take_back(self, key: Key, write: Write) -> dict[str, Any]:
        """Somebody else owns a field. In an object of ours it is repaired; another's object is left alone.

        Raises:
            NameTaken: the object is not the operator's.
        """
        metadata = write.desired["metadata"]
        live = await self._client.get(kind_of(write.desired["kind"]), key.namespace, metadata["name"])
        if not _ours(key, live):
            raise NameTaken(name_taken(write.desired))
        return await self._client.apply(write.desired, force=True)

    async def _write_status(self, key: Key, status: Mapping[str, Any]) -> None:
        raw = self._cache.get(MODEL, key)
        if raw is None:
            return
        try:
            live = await self._client.patch_status(key.namespace, key.name, raw["metadata"]["uid"], status)
        except ApiNotFound:
            return  # deleted meanwhile: there is nobody left to tell
        self._cache.put(MODEL, live)
        told = next(condition for condition in status["conditions"] if condition["type"] == ConditionType.READY)
        text = f"Ready={told['status']} {told['reason']}: {told['message']}"
        logger.info("%s/%s: %s", key.namespace, key.name, text)


class NameTaken(OperatorError):  # noqa: N818 # named for the state, as the status says it
    """A child's name belongs to an object that the operator did not make."""


def _ours(key: Key, live: Mapping[str, Any]) -> bool:
    """Whether an object that the cache did not know is the operator's all the same."""
    if not key.name:
        return bool(live["metadata"].get("labels", {}).get(names.MANAGED_BY) == names.MANAGER)
    return owned(key.name, live)
