"""Carrying out a plan: every write is tried, and what does not go through is brought back to be told."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vllm_operator.api.conditions import Reason
from vllm_operator.cluster.kinds import kind_of
from vllm_operator.errors import ApiConflict, ApiEnding, ApiInvalid, ApiNotFound, ApiRefused, ApiSilent, ApiUnavailable
from vllm_operator.planner.decide import key_of, name_taken
from vllm_operator.planner.mend import disowned, in_the_way
from vllm_operator.planner.plan import ChildKey, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.cluster.cache import Cache, Key
    from vllm_operator.cluster.client import Client
    from vllm_operator.errors import ApiError
    from vllm_operator.planner.plan import Plan, Write

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Done:
    """What came of a plan."""

    written: list[str] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    unknown: dict[ChildKey, Mapping[str, Any]] = field(default_factory=dict)
    """Objects of ours that no watch had shown: what was decided without them has to be decided again."""
    failure: ApiError | None = None
    """What is to be tried again soon."""

    @property
    def whole(self) -> bool:
        """Whether every write went through."""
        return not (self.troubles or self.unknown)


class Hands:
    """Carries out plans."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache

    async def act(self, key: Key, plan: Plan, ours: Callable[[Mapping[str, Any]], bool]) -> Done:
        """Write, and then delete where all was written. `ours` tells whether an object is the operator's.

        Raises:
            ApiEnding: the namespace is being deleted.
            ApiError: the API server is not there, or somebody else changes an object at the same time.
        """
        done = Done()
        for write in plan.writes:
            await self._try(write, ours, done)
            if any(trouble.reason is Reason.NAME_TAKEN for trouble in done.troubles):
                break  # half a model beside somebody else's object helps nobody
        if done.whole:
            await self._delete(plan, done)
        if done.written:
            logger.info("%s/%s: %s", key.namespace, key.name, ", ".join(done.written))
        return done

    async def _try(self, write: Write, ours: Callable[[Mapping[str, Any]], bool], done: Done) -> None:
        child = key_of(write.desired)
        try:
            live = await self._write(write)
        except ApiConflict:
            if write.ours:
                raise
            await self._look(write, ours, done)
        except (ApiEnding, ApiSilent):
            raise
        except ApiRefused as refusal:
            done.troubles.append(Trouble(Reason.CHILD_REFUSED, _told(child, refusal)))
        except (ApiUnavailable, ApiNotFound) as failure:  # not found: its namespace or its kind is on its way
            done.troubles.append(Trouble(Reason.CHILD_NOT_WRITTEN, _told(child, failure)))
            done.failure = failure
        else:
            self._cache.put(kind_of(child.kind), live)
            done.written.append(f"applied {child.kind} {child.name}")

    async def _write(self, write: Write) -> dict[str, Any]:
        try:
            return await self._client.apply(write.desired, force=write.ours)
        except ApiInvalid as refusal:
            if not write.ours:
                raise
            await self._clear(write.desired, refusal)
            return await self._client.apply(write.desired, force=True)

    async def _clear(self, desired: Mapping[str, Any], refusal: ApiInvalid) -> None:
        """Take out of an object of ours what somebody has put in the way of what is desired.

        Raises:
            ApiInvalid: nothing is in the way: it is the desired object itself that is refused.
        """
        metadata = desired["metadata"]
        live = await self._client.get(kind_of(desired["kind"]), metadata["namespace"], metadata["name"])
        changes = in_the_way(live, desired)
        if not changes:
            raise refusal
        cleared = await self._client.patch(live, changes)
        await self._client.patch(cleared, disowned(cleared))
        logger.info("%s %s/%s: cleared of edits", desired["kind"], metadata["namespace"], metadata["name"])

    async def _look(self, write: Write, ours: Callable[[Mapping[str, Any]], bool], done: Done) -> None:
        """Whose object is it that was in the way? One of ours is repaired; another's is left alone."""
        child, metadata = key_of(write.desired), write.desired["metadata"]
        live = await self._client.get(kind_of(child.kind), metadata["namespace"], child.name)
        if ours(live):
            self._cache.put(kind_of(child.kind), live)
            done.unknown[child] = live
        else:
            done.troubles.append(name_taken(write.desired))

    async def _delete(self, plan: Plan, done: Done) -> None:
        for doomed in plan.deletes:
            child = key_of(doomed)
            try:
                await self._client.delete(doomed)
            except ApiRefused as refusal:
                done.troubles.append(Trouble(Reason.CHILD_REFUSED, _told(child, refusal)))
            except ApiSilent:
                raise
            except ApiUnavailable as failure:
                text = f"{child.kind} {child.name} is no longer wanted, and not deleted yet: {failure.message}"
                done.troubles.append(Trouble(Reason.CHILD_NOT_WRITTEN, text))
                done.failure = failure
            else:
                self._cache.remove(kind_of(child.kind), doomed)
                done.written.append(f"deleted {child.kind} {child.name}")


def _told(child: ChildKey, error: ApiError) -> str:
    return f"{child.kind} {child.name}: {error.message}"
