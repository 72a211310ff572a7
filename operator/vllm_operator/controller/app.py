"""The operator's process: kopf's watches, our workers, and the health of both."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import kopf
from kopf._cogs.clients import api as kopf_requests

from vllm_operator.api import json_text
from vllm_operator.api.names import MANAGED_SELECTOR
from vllm_operator.cluster.cache import Cache
from vllm_operator.cluster.client import Client
from vllm_operator.cluster.kinds import CHILDREN, POD
from vllm_operator.cluster.queue import Queue
from vllm_operator.cluster.session import open_session
from vllm_operator.controller.follow import Parts, follow
from vllm_operator.controller.handlers import register
from vllm_operator.errors import LoginError, OperatorError
from vllm_operator.settings import Settings, from_environment
from vllm_operator.telemetry import Telemetry, serve

if TYPE_CHECKING:
    from collections.abc import Iterable

    import aiohttp

TOKEN_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


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
    configured = kopf.OperatorSettings()
    configured.scanning.disabled = True
    configured.peering.standalone = True
    configured.posting.enabled = False
    configured.networking.request_timeout = settings.request_timeout_seconds
    configured.networking.connect_timeout = 5.0
    configured.queueing.worker_limit = 64
    configured.queueing.idle_timeout = 0.01
    configured.watching.chunk_size = 500
    configured.persistence.diffbase_storage = NothingRemembered()
    configured.persistence.progress_storage = NoProgress()
    for kind in (*CHILDREN, POD):
        group, _, version = kind.api_version.rpartition("/")
        configured.watching.label_selectors[group, version, kind.plural] = MANAGED_SELECTOR
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
    kopf_requests.json = json_text  # type: ignore[attr-defined] # of json, kopf uses loads alone


async def run(settings: Settings, *, ready: asyncio.Event | None = None, stop: asyncio.Event | None = None) -> None:
    """Run the operator until it is told to stop, by signal or by `stop`. `ready` is set when it follows the cluster.

    Raises:
        ExceptionGroup: of OperatorErrors; the API server cannot be reached, or does not know the resource.
    """
    read_events_of_any_depth()
    configured = kopf_settings(settings)
    info = connection(configured)
    telemetry = Telemetry(ready or asyncio.Event())
    token_file = TOKEN_FILE if TOKEN_FILE.exists() else None
    headers = {} if token_file else info.as_http_headers()
    async with open_session(info.as_ssl_context(), headers, token_file) as session, asyncio.TaskGroup() as group:
        client = Client(session, info.server, timeout_seconds=settings.request_timeout_seconds)
        parts = Parts(settings, client, Cache(), Queue(), telemetry)
        telemetry.watch_queue(lambda: len(parts.queue))
        tasks = [
            group.create_task(serve(settings, telemetry), name="telemetry"),
            group.create_task(follow(parts, telemetry.synced), name="follow"),
        ]
        registry = _registry(parts, info.server, session)

        async def cancel_ours(**_: Any) -> None:
            for task in tasks:
                task.cancel()

        kopf.on.cleanup(registry=registry)(cancel_ours)  # kopf would wait 5 s for our workers, which never end
        await kopf.operator(registry=registry, settings=configured, clusterwide=True, stop_flag=stop)


def _registry(parts: Parts, server: str, session: aiohttp.ClientSession) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    register(registry, parts.intake)

    async def share_session(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=server, aiohttp_session=session)

    kopf.on.login(registry=registry)(share_session)
    return registry


def main() -> None:
    """Run as a command."""
    try:
        settings = from_environment()
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("kopf").setLevel(logging.WARNING)
        asyncio.run(run(settings))
    except* OperatorError as errors:
        for error in errors.exceptions:
            sys.stderr.write(f"vllm-operator: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
