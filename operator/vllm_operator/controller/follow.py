"""Following the cluster: look at everything once when the cache is whole, and then at whatever changes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from vllm_operator.cluster.backoff import delay_seconds
from vllm_operator.cluster.fence import Fence
from vllm_operator.cluster.foreign import Concerning, ForeignObjects
from vllm_operator.cluster.kinds import (
    CUSTOM_METRICS,
    HORIZONTAL_POD_AUTOSCALER,
    MODEL,
    NETWORK_POLICY,
    OPTIONAL,
    POD_DISRUPTION_BUDGET,
    SCALED_OBJECT,
    WATCHED,
    WORKLOADS,
    kind_of,
)
from vllm_operator.cluster.patience import patiently
from vllm_operator.cluster.queue import NamespaceKey
from vllm_operator.cluster.remedies import Outage, outage_of, with_remedy
from vllm_operator.cluster.sync import drift, listed, read_missed, wait_until_synced
from vllm_operator.controller.announce import Announcer
from vllm_operator.controller.cancelling import cancel_and_wait
from vllm_operator.controller.intake import Intake
from vllm_operator.controller.namespace import NamespaceReconciler
from vllm_operator.controller.reconcile import ModelReconciler
from vllm_operator.errors import ApiError, ApiRefused, ApiUnavailable, NotLeading, OperatorError
from vllm_operator.planner.autoscalers import Rival, rival_of
from vllm_operator.planner.budgets import Budget, budget_of
from vllm_operator.planner.policies import Policy, policy_of
from vllm_operator.telemetry.metrics import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vllm_operator.cluster.cache import Cache
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.engine_status import EngineStatusReader
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.cluster.queue import Queue, QueueKey
    from vllm_operator.cluster.scope import Scope
    from vllm_operator.cluster.watches import Watches
    from vllm_operator.settings import Settings
    from vllm_operator.telemetry import Telemetry

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Concerning)

_BEGUN_WITHIN_SECONDS: Final = 90.0
"""kopf asks which kinds there are for up to a minute, and then begins at once to watch them."""

_POLL_SECONDS: Final = 0.05
_JOIN_AGAIN_SECONDS: Final = 5.0
"""Longest pause between two looks whether a namespace of the list can be followed."""

_ASK_FOR_RIGHTS_SECONDS: Final = 5.0
"""From a refusal to the question whether the right is there by now, and from one such question to the next."""

_LIST_AGAIN_SECONDS: Final = 30.0
"""After a list that failed; a resync is due much later."""

_FOREIGN_SECONDS, _FOREIGN_SHARE = 15.0, 50.0
"""The shortest pause between two looks at what others have made, in seconds; and how many times as long as the last
look it is at least. So a cluster in which a look takes a second is asked once a minute."""


@dataclass(slots=True)
class Followed:
    """Which namespaces of the list the cache holds whole.

    In the others nothing is decided: what the cache does not have yet would be taken for missing.
    """

    namespaces: frozenset[str] = frozenset()
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is one less."""

    def add(self, namespace: str) -> None:
        """Take in that the cache holds everything of a namespace."""
        self.namespaces |= {namespace}

    def discard(self, namespace: str) -> None:
        """Take in that a namespace lets nobody list it any more: it was deleted, or the rights there were."""
        self.namespaces -= {namespace}
        self.lost.set()


@dataclass(frozen=True, slots=True)
class Components:
    """What the process is made of."""

    settings: Settings
    client: Client
    managers: EngineStatusReader
    cache: Cache
    queue: Queue
    telemetry: Telemetry
    watches: Watches
    fence: Fence = field(default_factory=Fence)
    """Says when this process leads; that of the client."""
    followed: Followed = field(default_factory=Followed)
    budgets: ForeignObjects[Budget] = field(default_factory=ForeignObjects[Budget])
    policies: ForeignObjects[Policy] = field(default_factory=ForeignObjects[Policy])
    rivals: ForeignObjects[Rival] = field(default_factory=ForeignObjects[Rival])

    @property
    def scope(self) -> Scope:
        """What of the cluster is followed; that of the client."""
        return self.client.scope

    @property
    def unfollowed(self) -> list[str]:
        """The namespaces of the list that cannot be followed yet."""
        return [name for name in self.scope.namespaces if name not in self.followed.namespaces]

    def follows(self, namespace: str) -> bool:
        """Whether everything of a namespace is known."""
        return self.scope.is_clusterwide or namespace in self.followed.namespaces

    @property
    def intake(self) -> Intake:
        """The way in for changes."""
        return Intake(self.cache, self.queue)


async def wait_until_served(components: Components) -> None:
    """Wait until the API server serves all that is watched, and lets the operator list it.

    Raises:
        OperatorError: it does not within the time that the settings give it; with what to do.
    """
    patience = components.settings.start_timeout_seconds
    for kind, namespace in itertools.product(WATCHED, components.scope.each):
        attempt = functools.partial(components.client.check_served, kind, namespace)
        try:
            await patiently(
                attempt, seconds=patience, waiting=components.telemetry.wait_for, of_definition=kind is MODEL
            )
        except ApiError as error:
            known = outage_of(error.message, of_definition=kind is MODEL)
            outage = known or (Outage.NO_RIGHT if isinstance(error, ApiRefused) else None)
            raise OperatorError(with_remedy(str(error), outage)) from error
    components.telemetry.wait_for("")


@dataclass(frozen=True, slots=True)
class Reconcilers:
    """One for each kind of key."""

    model: ModelReconciler
    namespace: NamespaceReconciler

    @classmethod
    def of(cls, components: Components) -> Reconcilers:
        """The two reconcilers of a process, with one writer of Events."""
        announcer = Announcer(components.client)
        return cls(
            ModelReconciler(
                components.client,
                components.cache,
                announcer,
                components.telemetry.models,
                components.queue.add,
                managers=components.managers,
                operator_namespace=components.settings.namespace,
                release=components.scope.release,
                budgets=components.budgets,
                policies=components.policies,
                rivals=components.rivals,
                prometheus_address=components.settings.prometheus_address,
                take_in=components.intake.changed,
                made=components.queue.made,
            ),
            NamespaceReconciler(components.client, components.cache, announcer, release=components.scope.release),
        )

    async def reconcile(self, key: QueueKey) -> float | None:
        """Look at what a key names. Returns in how many seconds to look again.

        Raises:
            OperatorError: it is to be tried again.
        """
        if isinstance(key, NamespaceKey):
            return await self.namespace.reconcile(key)
        return await self.model.reconcile(key)


async def follow(components: Components, ready: asyncio.Event) -> None:
    """Keep the cache whole until cancelled, and work while this process leads.

    `ready` is set when every object that exists is known: one that stands by is as ready as the leader.

    Raises:
        OperatorError: the API server does not list what exists, or its store went back in time, or nobody watches it.
    """
    await _wait_for_watches(components.watches)
    await _sync(components)
    await _list_unwatched(components)
    if components.scope.is_clusterwide or components.followed.namespaces:
        ready.set()
    logger.info("following the cluster")
    async with asyncio.TaskGroup() as group:
        beside = [
            group.create_task(_resync(components), name="resync"),
            group.create_task(_follow_foreign(components), name="what others make"),
            group.create_task(_join(components, ready), name="join"),
            group.create_task(_wait_for_rights(components), name="rights"),
        ]
        try:
            while True:
                over = await components.fence.term()
                await _lead(components, over)
        finally:
            await cancel_and_wait(beside)


async def _lead(components: Components, over: asyncio.Event) -> None:
    """Look at everything that exists, and then at whatever changes, until this process leads no longer.

    What an earlier term remembers of its writes is forgotten: another leader may have made others meanwhile.
    """
    reconcilers = Reconcilers.of(components)
    components.intake.everything()
    components.telemetry.leader.set(1)
    logger.info("leading with %d workers", components.settings.workers)
    try:
        async with asyncio.TaskGroup() as group:
            names = [f"worker {number}" for number in range(components.settings.workers)]
            workers = [group.create_task(_work(components, reconcilers), name=name) for name in names]
            try:
                await over.wait()
            finally:
                components.telemetry.leader.set(0)
                await cancel_and_wait(workers)
    finally:
        components.telemetry.models.clear()
        await reconcilers.model.lookups.close()


async def _sync(components: Components) -> None:
    """Wait until everything is known; of a list of namespaces, what is in those that can be listed now.

    Raises:
        ApiError: without such a list, the API server does not list what exists.
    """
    if components.scope.is_clusterwide:
        patience = components.settings.start_timeout_seconds
        await wait_until_synced(components.client, components.cache, patience_seconds=patience)
        return
    await asyncio.gather(*(_try_to_join(components, namespace) for namespace in components.scope.namespaces))


async def _try_to_join(components: Components, namespace: str) -> ApiError | None:
    """Wait until everything of a namespace is known; returns why it cannot be listed, if it cannot."""
    try:
        await wait_until_synced(components.client, components.cache, namespace)
    except ApiError as error:
        return error
    components.followed.add(namespace)
    return None


async def _join(components: Components, ready: asyncio.Event) -> None:
    """Follow each namespace of the list as soon as it can be.

    It may be made later than the operator, or be deleted and made again, and its Role comes later still.
    """
    failures, told = 0, dict[str, str]()
    while True:
        if not components.unfollowed:
            failures = 0
            components.followed.lost.clear()
            await components.followed.lost.wait()
        for namespace in components.unfollowed:
            error = await _try_to_join(components, namespace)
            if error is None:
                told.pop(namespace, None)
                await _begin(components, namespace, ready)
                continue
            if told.get(namespace) != error.message:
                told[namespace] = error.message
                logger.warning("cannot follow namespace %s, tries again until it can: %s", namespace, error)
            components.telemetry.wait_for(f"cannot follow namespace {namespace}: {error}")
        await asyncio.sleep(delay_seconds(failures, first=_POLL_SECONDS, longest=_JOIN_AGAIN_SECONDS))
        failures += 1


async def _begin(components: Components, namespace: str, ready: asyncio.Event) -> None:
    """Look at all that is in a namespace, now that it is known."""
    await _list_unwatched(components)
    components.intake.everything(namespace)
    ready.set()
    logger.info("following namespace %s", namespace)


async def _wait_for_watches(watches: Watches) -> None:
    """Wait until each kind is watched. kopf leaves a kind out, for good, that is not there at the moment it looks.

    Raises:
        OperatorError: a kind is left out.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + _BEGUN_WITHIN_SECONDS
    while left_out := [kind.plural for kind in WATCHED if not watches.has_begun(kind)]:
        if clock() > deadline:
            raise OperatorError(f"nothing watches {', '.join(left_out)}: start the operator again")
        await asyncio.sleep(_POLL_SECONDS)


async def _work(components: Components, reconcilers: Reconcilers) -> None:
    """One worker: takes a key, reconciles it, gives it back, for ever."""
    while True:
        key = await components.queue.get()
        started = time.monotonic()
        try:
            await _reconcile(components, reconcilers, key)
        finally:
            components.queue.done(key)
        components.telemetry.reconcile_seconds.observe(time.monotonic() - started)


async def _reconcile(components: Components, reconcilers: Reconcilers, key: QueueKey) -> None:
    """One key. A failure costs this key a delay and leaves all others alone."""
    components.queue.cancel_delayed(key)
    looked = components.telemetry.looked
    if not components.follows(key.namespace):
        components.telemetry.models.forget_namespace(key.namespace)
        looked(Outcome.NOT_FOLLOWED)
        return  # it is looked at when its namespace can be
    try:
        delay = await reconcilers.reconcile(key)
    except NotLeading as error:
        logger.debug("%s: %s", key, error)
        components.queue.failed(key)  # its term may go on: the Lease was renewed late, and nobody had taken it
        looked(Outcome.NOT_LEADING)
    except OperatorError as error:
        asked = error.retry_after_seconds if isinstance(error, ApiUnavailable) else 0.0
        delay = components.queue.failed(key, at_least_seconds=asked)
        logger.warning("%s: %s; again in %.1f s", key, error, delay)
        looked(Outcome.ERROR)
    except Exception:  # a mistake of ours with one model must not end the service of all others
        logger.exception("%s: unexpected; again in %.1f s", key, components.queue.failed(key))
        looked(Outcome.UNEXPECTED)
    else:
        components.queue.succeeded(key)
        looked(Outcome.SUCCESS if delay is None else Outcome.REQUEUE_AFTER)
        if delay is not None:
            components.queue.add_after(key, delay)


async def _resync(components: Components) -> None:
    """From time to time, and after a time without a watch, ask for what no watch brings, or has lost.

    Raises:
        StoreWentBack: the cache cannot be mended.
    """
    delay = components.settings.resync_seconds
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await components.watches.recovered.wait()
        components.watches.recovered.clear()
        complete = await _hold_against_the_truth(components)
        await _list_unwatched(components)
        if complete:
            components.intake.everything()
        delay = (
            components.settings.resync_seconds
            if complete
            else min(_LIST_AGAIN_SECONDS, components.settings.resync_seconds)
        )


async def _wait_for_rights(components: Components) -> None:
    """Ask for rights that were refused until they are there, and then look at everything again."""
    rights = components.client.rights
    while True:
        await rights.found.wait()
        await asyncio.sleep(_ASK_FOR_RIGHTS_SECONDS)
        for right in rights.missing:
            try:
                if await components.client.may(right):
                    rights.granted(right)
            except ApiError as error:
                logger.debug("cannot ask for the right to %s: %s", right, error)
        if not rights.missing:
            components.intake.everything()


async def _hold_against_the_truth(components: Components) -> bool:
    """Find what the watches have lost. Returns whether all of it was found.

    Raises:
        StoreWentBack: the cache cannot be mended.
    """
    complete = True
    for namespace in components.scope.each:
        try:
            complete &= await _mend(components, namespace)
        except ApiError as error:
            logger.warning("cannot list what exists, tries again: %s", error)
            if namespace is None or not isinstance(error, ApiRefused):
                return False
            components.followed.discard(namespace)
            components.telemetry.models.forget_namespace(namespace)
    return complete


async def _mend(components: Components, namespace: str | None) -> bool:
    """Take in what the watches have lost of one namespace, or of all. Returns whether that is all of it.

    Raises:
        StoreWentBack: the cache cannot be mended.
        ApiError: the API server does not list the objects.
    """
    if namespace in components.unfollowed:
        return True
    found = await drift(components.client, components.cache, namespace)
    for kind, key, uid in ((one.kind, *gone) for one in found for gone in one.gone):
        live = components.cache.get(kind, key)
        if live is not None and live.uid == uid:
            logger.info("%s %s is gone, and no watch said so", kind.kind, key)
            components.intake.deleted(kind, live)
    read, complete = await read_missed(components.client, components.cache, found)
    for live in read:
        if components.intake.found(kind_of(live.kind), live):
            logger.info("%s %s/%s is another than a watch said", live.kind, live.namespace, live.name)
    return complete and len(found) == len(WATCHED)


async def _list_unwatched(components: Components) -> None:
    """Ask for what no watch brings. Where that fails, what was known before stays true."""
    await _list_optional(components)
    await _look_for_groups(components)
    await _list_all_foreign(components)


async def _list_all_foreign(components: Components) -> frozenset[str]:
    """See what others have made that concerns models. Returns the namespaces in which that has changed."""
    budgets = await _list_foreign(components, POD_DISRUPTION_BUDGET, budget_of, components.budgets)
    policies = await _list_foreign(components, NETWORK_POLICY, policy_of, components.policies)
    rivals = await _list_foreign(components, HORIZONTAL_POD_AUTOSCALER, rival_of, components.rivals)
    return budgets | policies | rivals


async def _follow_foreign(components: Components) -> None:
    """See soon what others make or change."""
    longest = components.settings.resync_seconds
    pause = _FOREIGN_SECONDS
    while True:
        await asyncio.sleep(min(pause, longest))
        began = time.monotonic()
        await _take_in_foreign(components)
        pause = max(_FOREIGN_SECONDS, _FOREIGN_SHARE * (time.monotonic() - began))


async def _take_in_foreign(components: Components) -> None:
    """Have the models of each namespace looked at in which others have made or changed something.

    The autoscalers of models are listed as often: others write in them how they do.
    """
    await _list_autoscalers(components)
    for namespace in sorted(await _list_all_foreign(components)):
        components.intake.everything(namespace)


async def _list_foreign(
    components: Components, kind: Kind, read: Callable[[Mapping[str, Any]], T | None], known: ForeignObjects[T]
) -> frozenset[str]:
    """See which objects of a kind others have made. Whoever is concerned is looked at by who calls this.

    Returns the namespaces in which there are others than before.
    """
    changed = frozenset[str]()
    for namespace in components.scope.each:
        if namespace in components.unfollowed:
            continue
        everyone = components.client.others(kind, namespace)
        try:
            found = [(raw["metadata"]["namespace"], one) async for raw in everyone if (one := read(raw))]
        except ApiError as error:
            logger.warning("cannot list the %s of others, tries again later: %s", kind.plural, error)
            continue
        changed |= known.replace(namespace, found)
    return changed


async def _look_for_groups(components: Components) -> None:
    """See whether autoscalers can go by custom metrics, and whether Kueue is there.

    A group is there as long as somebody has announced it: that its server does not answer for a while takes no
    autoscaler away.
    """
    try:
        served = await components.client.served_groups()
    except ApiError as error:
        logger.warning("cannot see which API groups are served, tries again later: %s", error)
        return
    for kind in (CUSTOM_METRICS, WORKLOADS[0]):
        group, _, _ = kind.api_version.partition("/")
        if components.cache.set_served(kind, served=group in served):
            components.intake.everything()


async def _list_autoscalers(components: Components) -> None:
    """List the autoscalers of models and those that KEDA makes of them, where there are any: they tell how they do."""
    kinds = [kind for kind in (SCALED_OBJECT, HORIZONTAL_POD_AUTOSCALER) if any(components.cache.items(kind))]
    await _list_optional(components, kinds)


async def _list_optional(components: Components, kinds: Sequence[Kind] = OPTIONAL) -> None:
    """List the objects of kinds that need not exist. Where that fails, what was known before stays true."""
    for kind, namespace in itertools.product(kinds, components.scope.each):
        if namespace in components.unfollowed:
            continue
        here = (live for _, live in components.cache.items(kind) if namespace in (None, live.namespace))
        known = {live.uid for live in here}
        try:
            found = await listed(components.client, kind, namespace)
        except ApiError as error:
            logger.warning("cannot list %s, tries again later: %s", kind.plural, error)
            continue
        components.intake.listed(kind, found, known)
