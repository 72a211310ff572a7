"""Looking up pods that do not say themselves why they are not ready: seldom, beside the reconciling, and remembered.

A lookup may take its whole deadline, and there may be many: a NetworkPolicy that drops packets makes each of them last.
So no worker waits for one. What it brings is remembered, and where that is news its model is looked at again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.controller.placements import PlacementLookup
from vllm_operator.controller.workloads import WorkloadLookup
from vllm_operator.diagnosis import lookups
from vllm_operator.diagnosis.cause import Lookup
from vllm_operator.diagnosis.engines import manager_url
from vllm_operator.diagnosis.events import latest_message
from vllm_operator.diagnosis.facts import pod_facts, set_up_since
from vllm_operator.diagnosis.lookups import SCHEDULES, LookupBudget, Turn
from vllm_operator.diagnosis.placement import Placement
from vllm_operator.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.cache import Key
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.engine_status import EngineStatusReader
    from vllm_operator.cluster.queue import QueueKey
    from vllm_operator.diagnosis.facts import Finding
    from vllm_operator.diagnosis.lookups import PlannedLookup, PodLookup

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KnownLookups:
    """What lookups of one model's pods have brought."""

    by_uid: Mapping[str, PodLookup]
    turns: Mapping[Lookup, datetime]
    """When the budgets let more of them be made, by the kind of the lookups that wait for it."""


class PodLookups:
    """Looks up the pods of all models. `look_at` has a model looked at again once there is news of its pods."""

    def __init__(
        self,
        client: Client,
        managers: EngineStatusReader,
        look_at: Callable[[QueueKey], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._managers = managers
        self._placements = PlacementLookup(client, clock)
        self._workloads = WorkloadLookup(client)
        self._look_at = look_at
        self._clock = clock
        self._known: dict[Key, dict[str, PodLookup]] = {}
        self._budgets = {kind: LookupBudget(schedule.rate) for kind, schedule in SCHEDULES.items()}
        self._running: dict[Key, dict[str, asyncio.Task[None]]] = {}

    def known(self, key: Key, pods: Sequence[LiveObject], now: datetime, *, adapters: str = "") -> KnownLookups:
        """What is known of a model's pods that do not say themselves why they are not ready.

        What is due is begun, as far as the budget of all models allows.

        Args:
            key: The model.
            pods: Of its engines.
            now: The time.
            adapters: Version of the list of adapters that their managers are to follow; empty where there is none.
        """
        by_uid = {pod.uid: pod for pod in pods}
        before = {
            uid: lookups.still_true(by_uid[uid].body, lookup)
            for uid, lookup in self._known.pop(key, {}).items()
            if uid in by_uid
        }
        bodies = [pod.body for pod in pods]
        planned = lookups.planned(bodies, before, adapters=adapters)
        unexplained = {lookups.uid(one.pod) for one in planned}
        known = {uid: lookup for uid, lookup in before.items() if uid in unexplained}
        self._end_others(key, unexplained)
        turns: dict[Lookup, datetime] = {}
        due = [one for one in lookups.due(planned, now) if lookups.uid(one.pod) not in self._running.get(key, {})]
        for kind in SCHEDULES:
            waiting = [one for one in due if one.kind is kind]
            turn = self._turn(kind, key, len(waiting), now)
            if turn.at > now:
                turns[kind] = turn.at
                continue
            for one in waiting[: turn.lookups]:
                pod = by_uid[lookups.uid(one.pod)]
                self._begin(key, pod, one, known.get(pod.uid))
                known[pod.uid] = lookups.begun(pod.body, known.get(pod.uid), now)
        if known:
            self._known[key] = known
        return KnownLookups(dict(known), turns)

    async def settled(self) -> None:
        """Wait until every lookup that was begun has ended."""
        while running := [task for tasks in self._running.values() for task in tasks.values()]:
            await asyncio.wait(running)

    async def close(self) -> None:
        """End what runs."""
        running = [task for tasks in self._running.values() for task in tasks.values()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _turn(self, kind: Lookup, key: Key, wanted: int, now: datetime) -> Turn:
        """When the pods of a model that wait for a kind of lookup may have it, and how many of them."""
        if not wanted:
            self._budgets[kind] = self._budgets[kind].release(key)
            return Turn(now, 0)
        self._budgets[kind], turn = self._budgets[kind].reserve(key, wanted, now)
        return turn

    def _begin(self, key: Key, pod: LiveObject, planned: PlannedLookup, before: PodLookup | None) -> None:
        task = asyncio.create_task(self._look_up(key, pod, planned.kind, before), name=f"lookup of {pod.name}")
        self._running.setdefault(key, {})[pod.uid] = task
        task.add_done_callback(lambda done: self._ended(key, pod.uid, done))

    def _ended(self, key: Key, uid: str, task: asyncio.Task[None]) -> None:
        running = self._running[key]
        del running[uid]
        if not running:
            del self._running[key]
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a mistake of ours: the pod is looked up again when its pause is over
            logger.error("unexpected, in a lookup of a pod of %s", key, exc_info=error)

    def _end_others(self, key: Key, wanted: set[str]) -> None:
        """End the lookups of pods that need none any more."""
        for uid, task in self._running.get(key, {}).items():
            if uid not in wanted:
                task.cancel()

    async def _look_up(self, key: Key, pod: LiveObject, kind: Lookup, before: PodLookup | None) -> None:
        """Look up one pod, and remember what that brought."""
        known = before.finding if before else None
        finding = await self._finding(pod, kind, known)
        self._known.setdefault(key, {})[pod.uid] = lookups.after_lookup(pod.body, before, finding, self._clock())
        if finding != known:
            self._look_at(key)

    async def _finding(self, pod: LiveObject, kind: Lookup, known: Finding | None) -> Finding | None:
        match kind:
            case Lookup.EVENTS:
                return await self._events(pod, known)
            case Lookup.PLACEMENT:
                return await self._placement(pod, known)
            case Lookup.QUEUE:
                return await self._workloads.look(pod, known)
            case _:
                return await self._status(pod)

    async def _placement(self, pod: LiveObject, known: Finding | None) -> Finding | None:
        """Why no node takes it. Where that cannot be read, what was known before stays."""
        try:
            return await self._placements.look(pod)
        except ApiError as error:
            logger.warning("cannot look at what keeps a pod from every node: %s", error)
            return known or Placement(remark="what nodes and claims show cannot be read now")

    async def _status(self, pod: LiveObject) -> Finding:
        return await self._managers.read(manager_url(pod_facts(pod.body)))

    async def _events(self, pod: LiveObject, known: Finding | None) -> Finding | None:
        """What kubelet's Events say. Where they cannot be read, what was known before stays."""
        since = set_up_since(pod.body)
        try:
            events = await self._client.warnings_about(pod)
        except ApiError as error:
            logger.warning("cannot read the Events of a pod that is not ready: %s", error)
            return known
        return latest_message(events, since) if since else None
