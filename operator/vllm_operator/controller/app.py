"""The operator's process: kopf's watches, our workers, and the health of both."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import kopf
from kopf._cogs.clients import api as kopf_requests
from kopf._core.engines.peering import Identity

from vllm_operator.api import json_text
from vllm_operator.api.names import prefixed
from vllm_operator.cluster.cache import Cache
from vllm_operator.cluster.client import Client
from vllm_operator.cluster.engine_status import engine_status_reader
from vllm_operator.cluster.fence import LeaseFence
from vllm_operator.cluster.kinds import WATCHED
from vllm_operator.cluster.lease import Candidate, LeaderElector, Timing
from vllm_operator.cluster.queue import Queue
from vllm_operator.cluster.scope import Scope, not_waiting
from vllm_operator.cluster.session import CertificateFiles, open_session
from vllm_operator.cluster.watches import PatientWatch, Watches
from vllm_operator.controller.cancelling import cancel_and_wait, run_with_descendants
from vllm_operator.controller.follow import Components, Followed, follow, wait_until_served
from vllm_operator.controller.handlers import register, take_in
from vllm_operator.errors import LoginError, OperatorError
from vllm_operator.settings import Settings, from_environment
from vllm_operator.telemetry import Telemetry, logs, serve
from vllm_operator.telemetry.log_output import log_trouble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    import aiohttp

logger = logging.getLogger(__name__)

TOKEN_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

_WATCHER: Final = "watcher for "
"""How the names of kopf's tasks begin that list and watch a kind."""

_END_SECONDS: Final = 3.0

_NEVER_SECONDS: Final = 1e8
"""kopf's own limit of a quiet watch runs on while kopf hands events on: where it ends then, it cancels the task that
watches, and the kind is watched no more. `cluster/stream.py` has the limit that works."""


class NothingRemembered(kopf.DiffBaseStorage):
    """kopf's memory of earlier states, which only its change handlers read: constant, since we register none.

    Building it costs a deep copy of every object of every event.
    """

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:  # noqa: ARG002 # kopf's signature
        """Nothing to compare with."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002 # kopf's signature
        """Nothing was stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing to store."""


class NoProgress(kopf.ProgressStorage):
    """kopf's memory of half-done handlers, constant for the same reason."""

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> Any:  # noqa: ARG002 # kopf's signature
        """Nothing was stored."""
        return None

    def store(self, *, key: kopf.HandlerId, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing to store."""

    def purge(self, *, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing to purge."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Nothing to touch."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Nothing of ours is in it."""
        return essence


def kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    """Use kopf as a pure watcher: it writes nothing, posts nothing, and looks only at what carries our label."""
    scope = Scope.of(settings)
    configured = kopf.OperatorSettings()
    configured.scanning.disabled = True
    configured.peering.standalone = True
    configured.posting.enabled = False
    configured.networking.request_timeout = settings.request_timeout_seconds
    configured.networking.connect_timeout = 5.0
    configured.queueing.worker_limit = 64
    configured.queueing.idle_timeout = 0.01
    configured.watching.chunk_size = 100  # pages of 500 of all kinds at once took 50 MB more at the start
    configured.watching.inactivity_timeout = _NEVER_SECONDS
    configured.persistence.diffbase_storage = NothingRemembered()
    configured.persistence.progress_storage = NoProgress()
    for kind in WATCHED:
        group, _, version = kind.api_version.rpartition("/")
        if selector := scope.selector(kind):
            configured.watching.label_selectors[group, version, kind.plural] = selector
    return configured


def connection(settings: kopf.OperatorSettings) -> kopf.ConnectionInfo:
    """Where the API server is, and who we are there: from the pod's service account, or from the kubeconfig.

    Raises:
        LoginError: there is neither.
    """
    info = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if info is None:
        raise LoginError("no service account token and no kubeconfig: run in a pod, or set KUBECONFIG")
    return info


def read_events_of_any_depth() -> None:
    """Have kopf parse the events of its watches as the operator parses everything else.

    It has no setting for that. Its own parser raises where a resource is nested a thousand levels deep, which the API
    server takes: then the watch of all namespaces is dead, because of one resource.
    """
    kopf_requests.json = SimpleNamespace(loads=json_text.parsed)  # type: ignore[attr-defined, assignment] # all it uses


async def run(settings: Settings, *, ready: asyncio.Event | None = None, stop: asyncio.Event | None = None) -> None:
    """Run the operator until it is told to stop, by signal or by `stop`. `ready` is set when it follows the cluster.

    Raises:
        ExceptionGroup: of OperatorErrors; the API server cannot be reached, does not know the resource, or sent what
            ends the watches.
    """
    read_events_of_any_depth()
    configured, stop = kopf_settings(settings), stop or asyncio.Event()
    info = connection(configured)
    watches, fence, scope, followed = Watches(), _fence(settings), Scope.of(settings), Followed()
    telemetry = Telemetry(
        ready or asyncio.Event(),
        lambda: not_waiting(watches.troubles, scope, followed.namespaces),
        election_trouble=lambda: elector.trouble,
        silent=lambda: watches.silent,
        obstacles=lambda: (client.rights.trouble_in(followed.namespaces), log_trouble()),
    )
    token_file = TOKEN_FILE if TOKEN_FILE.exists() else None
    connect = functools.partial(
        open_session,
        info.as_ssl_context(),
        {} if token_file else info.as_http_headers(),
        token_file,
        certificates=_certificates(info),
        observe=telemetry.requests.observe,
    )
    async with (
        connect(unacknowledged_seconds=fence.unacknowledged_seconds) as session,
        connect([PatientWatch(watches)]) as watching,
        engine_status_reader() as managers,
        asyncio.TaskGroup() as group,
    ):
        timeout = settings.request_timeout_seconds
        client = Client(session, info.server, timeout_seconds=timeout, fence=fence, scope=scope)
        elector = _elector(settings, session, info.server, fence)
        queue = Queue(waited=telemetry.queue_seconds.observe)
        components = Components(settings, client, managers, Cache(), queue, telemetry, watches, fence, followed)
        telemetry.watch_queue(queue)
        telemetry.watch_ages(lambda: watches.ages)
        telemetry.watch_namespaces(lambda: len(components.unfollowed))
        registry = _registry(components, info.server, watching)
        await _work(components, group, elector, functools.partial(_watch, configured, registry), stop)


async def _work(
    components: Components,
    group: asyncio.TaskGroup,
    elector: LeaderElector,
    watch: Callable[..., Awaitable[None]],
    stop: asyncio.Event,
) -> None:
    """Serve health and metrics, follow the cluster and stand for election for as long as `watch` runs."""
    telemetry = components.telemetry
    tasks = [group.create_task(serve(components.settings, telemetry), name="telemetry")]
    if await _served_before_stop(components, stop):
        tasks.append(group.create_task(follow(components, telemetry.synced), name="follow"))
        tasks.append(group.create_task(_stand(elector, telemetry.synced), name="election"))
        try:
            await watch(elector, tasks, stop, scope=components.client.scope)
        finally:
            await elector.stand_down()  # where kopf was cancelled, it calls nobody
    for task in tasks:
        task.cancel()


def _certificates(info: kopf.ConnectionInfo) -> CertificateFiles | None:
    """The files that certificates are read from again when they are replaced; None where there are none."""
    paths = (info.ca_path, info.certificate_path, info.private_key_path)
    files = CertificateFiles(*(Path(os.fsdecode(path)) if path else None for path in paths))
    return files if files.read() else None


def _fence(settings: Settings) -> LeaseFence:
    return LeaseFence(lease_duration=settings.lease_duration_seconds, renew_deadline=settings.renew_deadline_seconds)


def _elector(settings: Settings, session: aiohttp.ClientSession, server: str, fence: LeaseFence) -> LeaderElector:
    """Who stands for election: by a client of its own, since a renewal must not wait for other requests.

    A renewal that gets no answer is given up while there is time for another one, as client-go does it.
    """
    timing = Timing(settings.lease_duration_seconds, settings.renew_deadline_seconds, settings.retry_period_seconds)
    return LeaderElector(
        Client(session, server, timeout_seconds=settings.renew_deadline_seconds / 2),
        fence,
        namespace=settings.namespace,
        name=prefixed(settings.name, settings.lease_name),
        candidate=Candidate.of(settings.pod),
        timing=timing,
    )


async def _stand(elector: LeaderElector, synced: asyncio.Event) -> None:
    """Stand for election as soon as every object that exists is known: a leader decides at once."""
    await synced.wait()
    await elector.run()


async def _served_before_stop(components: Components, stop: asyncio.Event) -> bool:
    """Wait until the API server serves all that is watched; false where the operator shall stop before.

    kopf handles signals once it runs; until then this does: the first process of a container gets no default handlers.

    Raises:
        OperatorError: it does not serve it in time.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait(), name="stop")
    serving = asyncio.create_task(wait_until_served(components), name="wait until served")
    try:
        await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        return not stop.is_set()
    finally:
        for task in (stopping, serving):
            task.cancel()


async def _watch(
    configured: kopf.OperatorSettings,
    registry: kopf.OperatorRegistry,
    elector: LeaderElector,
    tasks: Sequence[asyncio.Task[None]],
    stop: asyncio.Event,
    *,
    scope: Scope,
) -> None:
    """Run kopf until it is told to stop; `tasks` end with it.

    Raises:
        OperatorError: kopf has ended by itself.
    """

    async def end_all(**_: Any) -> None:
        stop.set()  # kopf would wait 5 s for its own task that waits for this
        await elector.stand_down()  # before the tasks are cancelled: what was sent is to be answered
        for task in tasks:  # kopf would wait 5 s for our workers, which never end
            task.cancel()
        await _end_left_watches()

    kopf.on.cleanup(registry=registry)(end_all)
    try:
        await run_with_descendants(
            kopf.operator(
                identity=Identity(socket.gethostname()),  # kopf would look up the user's name, which an image may lack
                registry=registry,
                settings=configured,
                clusterwide=scope.is_clusterwide,
                namespaces=scope.namespaces,
                stop_flag=stop,
            )
        )
    except OperatorError:
        raise
    except Exception as error:
        logger.exception("the watches have ended")
        raise OperatorError(f"the watches have ended, and the operator with them: {error!r}") from error


async def _end_left_watches() -> None:
    """End the watches that still run when one of them has failed.

    kopf closes their session, and one that is cancelled after that swallows it and waits for another session for ever:
    the process would stay, without health endpoint and without work, until kubelet kills it.
    """
    left = [task for task in asyncio.all_tasks() if task.get_name().startswith(_WATCHER)]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            await cancel_and_wait(left)


def _registry(components: Components, server: str, session: aiohttp.ClientSession) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    register(registry)
    take_in(components.intake)

    async def share_session(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=server, aiohttp_session=session)

    kopf.on.login(registry=registry)(share_session)
    return registry


_MOST_NEW_OBJECTS: Final = 5000
"""Containers that are made before the garbage collector looks at those that are young; Python's own 700 are those of
two models."""


def leave_imports_to_the_end() -> None:
    """Have the garbage collector pass over what was imported.

    That are a hundred thousand objects, which live as long as the process: each full collection would walk through all
    of them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_MOST_NEW_OBJECTS)


def main() -> None:
    """Run as a command."""
    try:
        settings = from_environment()
        logs.configure(settings)
        leave_imports_to_the_end()
        asyncio.run(run(settings))
    except* OperatorError as errors:
        for error in _each(errors):
            sys.stderr.write(f"vllm-operator: {error}\n")
        sys.exit(1)


def _each(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, however deep they are in it: each task group makes one more of them."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for one in error.exceptions:
        yield from _each(one)


if __name__ == "__main__":
    main()
