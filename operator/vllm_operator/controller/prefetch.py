"""Looking at the Jobs that fill claims, and making, sharing and deleting them.

No watch shows them: they are few, and each lasts for minutes once in the life of a model. A model that waits for one is
looked at every few seconds; of one whose Jobs are done nothing is asked but from time to time.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from vllm_operator.api import json_text
from vllm_operator.api.names import MANAGED_BY, MANAGER, PREFETCHED, release_of
from vllm_operator.api.resource import readable_resource
from vllm_operator.cluster.kinds import JOB
from vllm_operator.diagnosis.engines import status_url
from vllm_operator.errors import ApiConflict, ApiEnding, ApiError, ApiNotFound, ApiRefused
from vllm_operator.planner.prefetch import (
    LOOK_AGAIN_AFTER,
    JobAction,
    JobChange,
    JobSeen,
    PrefetchSeen,
    changes,
    is_complete,
    is_concerned,
    job_answer,
    last_words,
    newest_pod,
)
from vllm_operator.render.downloads import downloads
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from vllm_operator.api.live import LiveObject
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.cluster.cache import Key
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.engine_status import EngineStatusReader
    from vllm_operator.planner.prefetch import JobAnswer

logger = logging.getLogger(__name__)

SETTLED_FOR: Final = timedelta(minutes=10)
"""How long Jobs that are done count as done without being asked for."""

_PAUSE_FOR_EACH: Final = timedelta(milliseconds=50)
"""Of models that wait at the same time: all of them together are looked at 20 times a second at most."""

REFUSED_FOR: Final = timedelta(seconds=30)
"""How long the API server's no is not asked for again."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was seen of the Jobs of a model."""

    uid: str
    generation: int
    at: datetime
    seen: PrefetchSeen
    done: bool
    """Whether all are complete, and need nothing."""

    def holds(self, model: VLLMModel, now: datetime) -> bool:
        """Whether it is still so, as far as is known without asking."""
        same = (self.uid, self.generation) == (model.uid, model.generation)
        return same and self.at <= now < self.at + (SETTLED_FOR if self.done else self.seen.pause)


@dataclass(slots=True)
class _Refusals:
    """What the API server has refused a model, by the names of Jobs."""

    words: dict[str, tuple[datetime, str]] = field(default_factory=dict)

    def current(self, now: datetime) -> dict[str, str]:
        """What is not to be tried again yet."""
        self.words = {name: told for name, told in self.words.items() if told[0] <= now < told[0] + REFUSED_FOR}
        return {name: words for name, (_, words) in self.words.items()}


class PrefetchJobs:
    """Knows and changes the Jobs of all models."""

    def __init__(self, client: Client, managers: EngineStatusReader, release: str = "") -> None:
        self._client = client
        self._managers = managers
        self._release = release
        self._known: dict[Key, _Known] = {}
        self._refusals: dict[Key, _Refusals] = {}
        self._owned: dict[Key, set[str]] = {}
        """Names of the Jobs that each model is an owner of: its status may not tell them, or no longer."""

    async def seen(self, key: Key, model: LiveObject | None, now: datetime) -> PrefetchSeen | None:
        """The Jobs that concern a model; None where none do, or its spec cannot be followed."""
        concerned = model is not None and not model.leaving and (is_concerned(model.body) or key in self._owned)
        parsed = readable_resource(model.body) if model is not None and concerned else None
        if model is None or parsed is None:
            self._known.pop(key, None)
            self._refusals.pop(key, None)
            self._owned.pop(key, None)
            return None
        known = self._known.get(key)
        if known is not None and known.holds(parsed, now):
            return known.seen
        told = {str(one.get("job")) for one in items(model.body, "status", "prefetch")}
        found = await self._look(key, parsed, told | self._owned.get(key, set()), now)
        self._remember_owned(key, parsed.uid, found.jobs)
        done = is_complete(parsed, found, self._release) and not changes(parsed, found, self._release)
        self._known[key] = _Known(parsed.uid, parsed.generation, now, found, done)
        waiting = sum(not one.done for one in self._known.values())
        pause = max(LOOK_AGAIN_AFTER, waiting * _PAUSE_FOR_EACH)
        self._known[key] = replace(self._known[key], seen=replace(found, pause=pause))
        return self._known[key].seen

    async def execute(
        self, key: Key, wanted: Iterable[JobChange], seen: PrefetchSeen | None, now: datetime
    ) -> PrefetchSeen | None:
        """Make the changes; returns what is there then.

        Raises:
            ApiEnding: the namespace is being deleted.
            ApiError: the API server is not there, or somebody else changes a Job at the same time.
        """
        known = dict(seen.jobs) if seen else {}
        refusals = self._refusals.setdefault(key, _Refusals())
        self._known.pop(key, None)
        for change in wanted:
            try:
                live = await self._change(change)
            except ApiEnding:
                raise
            except ApiRefused as refusal:
                refusals.words[change.name] = (now, f"Job {change.name}: {refusal.message}")
                continue
            known.pop(change.name, None)
            if live is not None:
                known[change.name] = JobSeen(live)
                self._owned.setdefault(key, set()).add(change.name)
            logger.info("%s: Job %s: %s (%s)", key, change.name, change.action.name.lower(), change.reason)
        return replace(seen or PrefetchSeen(), jobs=known, refusals=refusals.current(now))

    def _remember_owned(self, key: Key, uid: str, found: Mapping[str, JobSeen]) -> None:
        owned = {name for name, job in found.items() if uid in [one.get("uid") for one in job.owners]}
        if owned:
            self._owned[key] = owned
        else:
            self._owned.pop(key, None)

    async def _change(self, change: JobChange) -> LiveObject | None:
        if change.live is None:
            return await self._make(change)
        if change.action is JobAction.DELETE:
            await self._client.delete(change.live)
            return None
        try:
            return await self._client.patch(change.live, change.body)
        except ApiNotFound:
            return None

    async def _make(self, change: JobChange) -> LiveObject | None:
        """Make a Job; one that another model has made just now is as good.

        Raises:
            ApiRefused: the name belongs to somebody else's Job, or the API server will not have it.
        """
        try:
            return await self._client.create(JOB, change.body)
        except ApiConflict:
            namespace = change.body["metadata"]["namespace"]
            live = await self._client.get(JOB, namespace, change.name)
        if self._is_ours(live):
            return live
        raise ApiRefused(f"POST {JOB.path(namespace)}", "it exists and is not the operator's: delete or rename it")

    async def _look(self, key: Key, model: VLLMModel, told: set[str], now: datetime) -> PrefetchSeen:
        """The Jobs that the model wants, and those that it was told to have."""
        refusals = self._refusals.setdefault(key, _Refusals()).current(now)
        wanted = {one.job_name(self._release) for one in downloads(model.spec, model.instance)}
        try:
            found = await asyncio.gather(*(self._get(key.namespace, name) for name in sorted(wanted | told)))
        except ApiRefused as refusal:
            advice = "give the operator the rights of its ClusterRole, as the manifests and the chart do"
            return PrefetchSeen(refusals=refusals, unreadable=f"Jobs cannot be read: {refusal.message}: {advice}")
        port = model.spec.gates.port
        asked = await asyncio.gather(*(self._job(live, port, ask=live.name in wanted) for live in found if live))
        return PrefetchSeen({job.live.name: job for job in asked}, refusals)

    async def _get(self, namespace: str, name: str) -> LiveObject | None:
        """A Job of the operator's; None where there is none of that name."""
        try:
            live = await self._client.get(JOB, namespace, name)
        except ApiNotFound:
            return None
        return live if self._is_ours(live) else None

    def _is_ours(self, live: LiveObject) -> bool:
        return live.labels.get(MANAGED_BY) == MANAGER and release_of(live.labels) == self._release

    async def _job(self, live: LiveObject, port: int, *, ask: bool) -> JobSeen:
        """A Job, with its pod and what its program says where that is asked for, as far as anything is heard."""
        job = JobSeen(live)
        if not ask or live.leaving:
            return job
        try:
            pods = await self._client.labelled_pods(live.namespace, f"{PREFETCHED}={live.labels.get(PREFETCHED, '')}")
        except ApiError as error:
            logger.warning("%s: cannot read the pods of Job %s: %s", live.namespace, live.name, error)
            return job
        pod = newest_pod(pods)
        return job if pod is None else replace(job, pod=pod, answer=await self._answer(pod, port))

    async def _answer(self, pod: Mapping[str, object], port: int) -> JobAnswer | None:
        words = next(iter(last_words(pod)), None)
        if words is not None:
            try:
                return job_answer(json_text.loads(words.encode()))
            except ValueError:
                return None
        status = part(pod, "status")
        url = status_url(str(status.get("podIP") or ""), port)
        if not url or status.get("phase") != "Running":
            return None
        return job_answer(await self._managers.document(url))
