"""Following the cluster: look at everything once when the cache is whole, and then at whatever changes."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.cluster.kinds import OPTIONAL
from vllm_operator.cluster.queue import NamespaceKey
from vllm_operator.cluster.sync import ghosts, listed, wait_until_synced
from vllm_operator.controller.announce import Announcer
from vllm_operator.controller.intake import Intake
from vllm_operator.controller.namespace import NamespaceReconciler
from vllm_operator.controller.reconcile import ModelReconciler
from vllm_operator.errors import ApiError, ApiNotFound, OperatorError

if TYPE_CHECKING:
    from vllm_operator.cluster.cache import Cache
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.queue import Queue, QueueKey
    from vllm_operator.settings import Settings
    from vllm_operator.telemetry import Telemetry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the process is made of."""

    settings: Settings
    client: Client
    cache: Cache
    queue: Queue
    telemetry: Telemetry

    @property
    def intake(self) -> Intake:
        """The way in for changes."""
        return Intake(self.cache, self.queue)


@dataclass(frozen=True, slots=True)
class Reconcilers:
    """One for each kind of key."""

    model: ModelReconciler
    namespace: NamespaceReconciler

    @classmethod
    def of(cls, parts: Parts) -> Reconcilers:
        """Those of a process: they announce through the same announcer, so that nobody is told twice."""
        announcer = Announcer(parts.client)
        return cls(
            ModelReconciler(parts.client, parts.cache, announcer, parts.telemetry.census, parts.queue.add),
            NamespaceReconciler(parts.client, parts.cache, announcer),
        )

    async def reconcile(self, key: QueueKey) -> float | None:
        """Look at what a key names. Returns in how many seconds to look again.

        Raises:
            OperatorError: it is to be tried again.
        """
        if isinstance(key, NamespaceKey):
            return await self.namespace.reconcile(key)
        return await self.model.reconcile(key)


async def follow(parts: Parts, ready: asyncio.Event) -> None:
    """Run the workers until cancelled. `ready` is set when every object that exists is known.

    Raises:
        OperatorError: the API server does not list what exists; most often the CRD is not installed.
    """
    try:
        await wait_until_synced(parts.client, parts.cache)
    except ApiNotFound as error:
        raise OperatorError(
            f"{error}: install the CustomResourceDefinition, as the manifests and the chart do"
        ) from error
    await _list_optional(parts)
    parts.intake.everything()
    ready.set()
    logger.info("following the cluster with %d workers", parts.settings.workers)
    reconcilers = Reconcilers.of(parts)
    async with asyncio.TaskGroup() as group:
        for number in range(parts.settings.workers):
            group.create_task(_work(parts, reconcilers), name=f"worker {number}")
        group.create_task(_resync(parts), name="resync")


async def _work(parts: Parts, reconcilers: Reconcilers) -> None:
    """One worker: takes a key, reconciles it, gives it back, for ever."""
    while True:
        key = await parts.queue.get()
        started = time.monotonic()
        try:
            await _reconcile(parts, reconcilers, key)
        finally:
            parts.queue.done(key)
        parts.telemetry.reconcile_seconds.observe(time.monotonic() - started)


async def _reconcile(parts: Parts, reconcilers: Reconcilers, key: QueueKey) -> None:
    """One key. A failure costs this key a delay and leaves all others alone."""
    parts.queue.forget_appointment(key)
    try:
        delay = await reconcilers.reconcile(key)
    except OperatorError as error:
        logger.warning("%s: %s; again in %.1f s", key, error, parts.queue.failed(key))
        parts.telemetry.failures.inc()
    except Exception:  # a mistake of ours with one model must not end the service of all others
        logger.exception("%s: unexpected; again in %.1f s", key, parts.queue.failed(key))
        parts.telemetry.failures.inc()
    else:
        parts.queue.succeeded(key)
        if delay is not None:
            parts.queue.add_after(key, delay)


async def _resync(parts: Parts) -> None:
    """From time to time, ask for what no watch brings."""
    while True:
        await asyncio.sleep(parts.settings.resync_seconds)
        await _lay_ghosts(parts)
        await _list_optional(parts)
        parts.intake.everything()


async def _lay_ghosts(parts: Parts) -> None:
    """Find the deletions that a broken watch has lost."""
    try:
        found = await ghosts(parts.client, parts.cache)
    except ApiError as error:
        logger.warning("cannot list what exists, again in %.0f s: %s", parts.settings.resync_seconds, error)
        return
    for kind, key, uid in found:
        live = parts.cache.get(kind, key)
        if live is not None and live.uid == uid:
            logger.info("%s %s/%s is gone, and no watch said so", kind.kind, key.namespace, key.name)
            parts.intake.deleted(kind, live)


async def _list_optional(parts: Parts) -> None:
    """List the objects of kinds that need not exist. Where that fails, what was known before stays true."""
    for kind in OPTIONAL:
        known = {live.uid for _, live in parts.cache.items(kind)}
        try:
            found = await listed(parts.client, kind)
        except ApiError as error:
            logger.warning("cannot list %s, again in %.0f s: %s", kind.plural, parts.settings.resync_seconds, error)
            continue
        parts.intake.listed(kind, found, known)
