"""Carrying out a plan: every write is tried, and what came of each is brought back for the next decision."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vllm_operator.api.live import key_of
from vllm_operator.cluster.kinds import POD, kind_of
from vllm_operator.errors import (
    ApiConflict,
    ApiEnding,
    ApiError,
    ApiInvalid,
    ApiNotFound,
    ApiRefused,
    ApiSilent,
    ApiUnavailable,
)
from vllm_operator.planner import attempts, changes, reasons
from vllm_operator.planner.attempts import Outcome
from vllm_operator.planner.claims import handing_over
from vllm_operator.planner.compare import holds
from vllm_operator.planner.mend import disowned, in_the_way
from vllm_operator.planner.owners import is_of_another_release
from vllm_operator.planner.plan import Wave
from vllm_operator.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
    from datetime import datetime

    from vllm_operator.api.live import LiveObject, ObjectKey, ObjectVersion
    from vllm_operator.cluster.cache import Cache
    from vllm_operator.cluster.client import Client
    from vllm_operator.planner.attempts import Attempt, Attempts
    from vllm_operator.planner.deletion_costs import DeletionCost
    from vllm_operator.planner.plan import Deletion, Plan, PodMark, Write

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Result:
    """What came of a plan."""

    attempts: dict[ObjectKey, Attempt] = field(default_factory=dict)
    """One for each write and deletion that was tried."""
    found: dict[ObjectKey, LiveObject] = field(default_factory=dict)
    """Objects of ours that no watch had shown: what was decided without them has to be decided again."""
    made: set[ObjectVersion] = field(default_factory=set)
    """What came of the writes that were answered."""
    failure: ApiError | None = None
    """What is to be tried again soon."""

    @property
    def complete(self) -> bool:
        """Whether every write went through."""
        return not self.found and all(attempt.problem is None for attempt in self.attempts.values())

    @property
    def name_taken(self) -> bool:
        """Whether a name turned out to be somebody else's."""
        taken = (Outcome.NAME_TAKEN, Outcome.OTHER_OPERATOR)
        return any(attempt.outcome in taken for attempt in self.attempts.values())


class PlanExecutor:
    """Carries out plans."""

    def __init__(self, client: Client, cache: Cache, release: str = "") -> None:
        self._client = client
        self._cache = cache
        self._release = release

    async def execute(
        self, plan: Plan, before: Attempts, now: datetime, *, ours: Callable[[LiveObject], bool]
    ) -> Result:
        """Write, wave after wave, and then delete where all was written.

        Args:
            plan: What to do.
            before: What came of earlier writes.
            now: When it is done.
            ours: Whether an object is the operator's.

        Raises:
            ApiEnding: the namespace is being deleted.
            ApiError: the API server is not there, or somebody else changes an object at the same time.
        """
        execution = _Execution(self._client, self._cache, before, now, ours, release=self._release)
        await _side_by_side(execution.release(live) for live in plan.releases)
        for wave in sorted({write.wave for write in plan.writes}):
            if wave is Wave.ENGINES:
                await _side_by_side(execution.set_cost(cost) for cost in plan.costs)
            await _side_by_side(execution.write(write) for write in plan.writes if write.wave is wave)
            if execution.result.name_taken:
                break  # half a model beside somebody else's object helps nobody
        if execution.result.complete:
            await _side_by_side(execution.delete(deletion) for deletion in plan.deletions)
        return execution.result

    async def mark(self, marks: Iterable[PodMark]) -> None:
        """Annotate pods. It is a wish: where it fails, what it was for comes later."""
        await _side_by_side(self._mark(one) for one in marks)

    async def _mark(self, mark: PodMark) -> None:
        pod = mark.pod
        try:
            live = await self._client.annotate(pod, mark.annotations)
        except ApiNotFound:
            return
        except ApiError as error:
            logger.warning("%s: cannot annotate %s: %s", pod.namespace, pod.name, error)
        else:
            self._cache.put(POD, live)


class _Execution:
    """One plan on its way."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        before: Attempts,
        now: datetime,
        ours: Callable[[LiveObject], bool],
        *,
        release: str,
    ) -> None:
        self._client = client
        self._cache = cache
        self._before = before
        self._now = now
        self._ours = ours
        self._release = release
        self.result = Result()

    async def write(self, write: Write) -> None:
        """Try a write, and note what came of it."""
        try:
            live = await self._apply(write)
        except ApiConflict:
            if write.ours:
                raise
            await self._look(write)
        except (ApiEnding, ApiSilent):
            raise
        except ApiRefused as refusal:
            self._note(write, Outcome.REFUSED, refusal.message)
        except (ApiUnavailable, ApiNotFound) as failure:  # not found: its namespace or its kind is on its way
            self._note(write, Outcome.UNAVAILABLE, failure.message)
            self.result.failure = failure
        else:
            self._cache.put(kind_of(live.kind), live)
            self.result.made.add(live.version)
            if live.leaving or holds(live.body, write.desired):
                self._note(write, Outcome.APPLIED)
            else:
                self._note(write, Outcome.OVERWRITTEN, reasons.reason(live.body, write.desired))
            _log("applied", live, write.reason)

    async def set_cost(self, cost: DeletionCost) -> None:
        """Set what a pod costs. It is a wish: where it fails, the Deployment is written all the same."""
        try:
            live = await self._client.annotate(cost.pod, cost.annotations)
        except ApiNotFound:
            return
        except ApiError as error:
            logger.warning("%s: cannot set the deletion cost of %s: %s", cost.pod.namespace, cost.pod.name, error)
        else:
            self._cache.put(POD, live)
            _log("annotated", live, "engines with the least to do go first")

    async def release(self, live: LiveObject) -> None:
        """Hand a claim over to whoever mounts it; that it is gone already is no error."""
        with self._noted(live):
            try:
                changed = await self._client.patch(live, handing_over(live))
            except ApiNotFound:
                self._cache.remove(kind_of(live.kind), live)
                return
            self._cache.put(kind_of(live.kind), changed)
            _log("handed over", live, "a spec mounts it")

    async def delete(self, deletion: Deletion) -> None:
        """Try a deletion, and note what came of it."""
        live = deletion.live
        with self._noted(live):
            await self._client.delete(live)
            self._cache.remove(kind_of(live.kind), live)
            _log("deleted", live, deletion.reason)

    @contextlib.contextmanager
    def _noted(self, live: LiveObject) -> Iterator[None]:
        """Note that the API server does not let a live object go, where that can be told."""
        try:
            yield
        except (ApiEnding, ApiSilent):
            raise
        except ApiRefused as refusal:
            self._note_deletion(live, Outcome.REFUSED, refusal.message)
        except ApiUnavailable as failure:
            self._note_deletion(live, Outcome.UNAVAILABLE, failure.message)
            self.result.failure = failure

    async def _apply(self, write: Write) -> LiveObject:
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
        live = await self._get(desired)
        obstacles = in_the_way(live.body, desired)
        if not obstacles:
            raise refusal
        cleared = await self._client.patch(live, obstacles)
        await self._client.patch(cleared, disowned(cleared.body))
        _log("cleared", live, "edits were in the way")

    async def _look(self, write: Write) -> None:
        """Whose object is it that was in the way? One of ours is repaired; another's is left alone."""
        live = await self._get(write.desired)
        if self._ours(live):
            self._cache.put(kind_of(live.kind), live)
            self.result.found[live.key] = live
        elif is_of_another_release(live, self._release):
            self._note(write, Outcome.OTHER_OPERATOR, changes.of_another_release(live, self._release).message)
        else:
            self._note(write, Outcome.NAME_TAKEN, changes.name_taken(live.key).message)

    async def _get(self, desired: Mapping[str, Any]) -> LiveObject:
        metadata = desired["metadata"]
        return await self._client.get(kind_of(desired["kind"]), metadata["namespace"], metadata["name"])

    def _note(self, write: Write, outcome: Outcome, message: str = "") -> None:
        key = key_of(write.desired)
        taken = outcome in (Outcome.NAME_TAKEN, Outcome.OTHER_OPERATOR)
        told = changes.told_of(key, message) if message and not taken else message
        self._keep(key, changes.attempt_of(write, self._now, outcome, told))

    def _note_deletion(self, live: LiveObject, outcome: Outcome, message: str) -> None:
        self._keep(live.key, changes.deletion_attempt(self._now, outcome, changes.told_of(live.key, message)))

    def _keep(self, key: ObjectKey, attempt: Attempt) -> None:
        self.result.attempts[key] = attempts.after(self._before.get(key), attempt)


def _log(done: str, live: LiveObject, reason: str) -> None:
    """Log what was done to an object, and why."""
    fields = logs.write(done, live, reason)
    logger.info("%s: %s %s %s (%s)", live.namespace, done, live.kind, live.name, reason, extra=fields)


async def _side_by_side(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all of them, and then raise the first error that one of them did not take as an outcome."""
    ended = await asyncio.gather(*calls, return_exceptions=True)
    errors = [error for error in ended if isinstance(error, BaseException)]
    for error in errors:
        raise error
