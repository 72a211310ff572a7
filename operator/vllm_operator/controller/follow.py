"""Following the cluster: look at everything once when the cache is whole, and then at whatever changes."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.cluster.kinds import OPTIONAL
from vllm_operator.cluster.sync import ghosts, listed, wait_until_synced
from vllm_operator.controller.intake import Intake
from vllm_operator.controller.reconcile import Reconciler
from vllm_operator.errors import ApiError, ApiNotFound, OperatorError

if TYPE_CHECKING:
    from vllm_operator.cluster.cache import Cache, Key
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.queue import Queue
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
    reconciler = Reconciler(parts.client, parts.cache, parts.telemetry.engines, parts.queue.add)
    async with asyncio.TaskGroup() as group:
        for number in range(parts.settings.workers):
            group.create_task(_work(parts, reconciler), name=f"worker {number}")
        group.create_task(_resync(parts), name="resync")


async def _work(parts: Parts, reconciler: Reconciler) -> None:
    """One worker: takes a key, reconciles it, gives it back, for ever."""
    while True:
        key = await parts.queue.get()
        started = time.monotonic()
        try:
            await _reconcile(parts, reconciler, key)
        finally:
            parts.queue.done(key)
        parts.telemetry.reconcile_seconds.observe(time.monotonic() - started)


async def _reconcile(parts: Parts, reconciler: Reconciler, key: Key) -> None:
    """One key. A failure costs this key a delay and leaves all others alone."""
    parts.queue.forget_appointment(key)
    try:
        delay = await reconciler.reconcile(key)
    except OperatorError as error:
        logger.warning("%s/%s: %s; again in %.1f s", key.namespace, key.name, error, parts.queue.failed(key))
        parts.telemetry.failures.inc()
    except Exception:  # a mistake of ours with one model must not end the service of all others
        logger.exception("%s/%s: unexpected; again in %.1f s", key.namespace, key.name, parts.queue.failed(key))
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


async def _lay_ghosts(parts: Parts) -> None:
    """Find the deletions that a broken watch has lost."""
    try:
        found = await ghosts(parts.client, parts.cache)
    except ApiError as error:
        logger.warning("cannot list what exists, again in %.0f s: %s", parts.settings.resync_seconds, error)
        return
    for kind, key, uid in found:
        live = parts.cache.get(kind, key)
        if live is not None and live["metadata"]["uid"] == uid:
            logger.info("%s %s/%s is gone, and no watch said so", kind.kind, key.namespace, key.name)
            parts.intake.deleted(kind, live)


async def _list_optional(parts: Parts) -> None:
    """List the objects of kinds that need not exist. Where that fails, what was known before stays true."""
    for kind in OPTIONAL:
        known = {str(live["metadata"]["uid"]) for _, live in parts.cache.items(kind)}
        try:
            found = await listed(parts.client, kind)
        except ApiError as error:
            logger.warning("cannot list %s, again in %.0f s: %s", kind.plural, parts.settings.resync_seconds, error)
            continue
        parts.intake.listed(kind, found, known)
