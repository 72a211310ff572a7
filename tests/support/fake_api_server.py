"""An API server of empty lists and silent watches that fails as a test wants: for what no real one does on demand."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from vllm_operator.cluster.kinds import (
    HORIZONTAL_POD_AUTOSCALER,
    LEADER_WORKER_SET,
    LEASE,
    MODEL,
    POD_MONITOR,
    SCALED_OBJECT,
    WATCHED,
    Kind,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

NAMESPACES = Kind("v1", "Namespace", "namespaces")
"""kopf watches nothing before it knows what namespaces are."""

Failure = tuple[int, dict[str, str], bytes]

GONE: Failure = (404, {}, b"404 page not found\n")
"""What is answered where the API server knows no such path."""

_LOOK_SECONDS = 0.05
"""How often a watch looks whether its client has gone: whatever still runs keeps kopf from ending."""


REFUSED: Failure = (422, {}, b'{"message":"sendInitialEvents: Forbidden: for watch unless WatchList is enabled"}')


class StreamedLists(enum.Enum):
    """What it makes of a watch that is to begin with a list (`sendInitialEvents`)."""

    SERVED = enum.auto()
    REFUSED = enum.auto()
    """As API servers do whose feature WatchList is off."""
    IGNORED = enum.auto()
    """What is there is sent, and no word that it was all; bookmarks come all the same."""
    ENDLESS = enum.auto()
    """As it is ignored, and nothing more comes; or a proxy holds back the end."""


class FakeApiServer:
    """What it serves, and what it was asked."""

    def __init__(self) -> None:
        self.streamed_lists = StreamedLists.SERVED
        self.served: set[Kind] = set(WATCHED)
        self.failures: defaultdict[tuple[Kind, str], list[Failure | None]] = defaultdict(list)
        """Answers to the next requests for a kind, by `check`, `list` and `watch`; None breaks the connection."""
        self.asked: list[tuple[Kind, str]] = []
        """By the same words; a watch that begins with a list is both."""
        self.pages = 0
        """How many lists were asked for as lists."""
        self.address = ""
        self.lease: dict[str, Any] | None = None
        self.lease_failures: list[Failure] = []
        """Answers to the next requests for the Lease."""
        self._streams: defaultdict[Kind, list[asyncio.Queue[Mapping[str, Any] | None]]] = defaultdict(list)

    def send(self, kind: Kind, event: Mapping[str, Any] | None) -> None:
        """Send an event to all who watch the kind; None ends the watches."""
        for stream in self._streams.pop(kind, []) if event is None else self._streams[kind]:
            stream.put_nowait(event)

    def drop(self, kind: Kind) -> None:
        """No longer serve a kind, as when its CustomResourceDefinition is deleted."""
        self.served.discard(kind)
        self.send(kind, None)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        kind = next((kind for kind in WATCHED if request.path == kind.path()), None)
        if kind is None:
            return self._unwatched(request.path)
        verbs = self._verbs(request)
        self.asked += [(kind, verb) for verb in verbs]
        failures = next((found for verb in verbs if (found := self.failures[kind, verb])), [])
        if failures or kind not in self.served:
            failure = failures.pop(0) if failures else GONE
            if failure is None:
                assert request.transport
                request.transport.close()
                return web.Response()
            status, headers, content = failure
            return web.Response(status=status, headers=headers, body=content)
        if "watch" in verbs:
            return await self._stream(request, kind, lists="list" in verbs)
        self.pages += "list" in verbs and kind in WATCHED and "!=" not in request.query.get("labelSelector", "")
        metadata = {"resourceVersion": "1"}
        return web.json_response({"kind": f"{kind.kind}List", "metadata": metadata, "items": []})

    async def handle_lease(self, request: web.Request) -> web.Response:
        """The one Lease, in whatever namespace; a write that names another version than the last is refused."""
        if self.lease_failures:
            status, headers, content = self.lease_failures.pop(0)
            return web.Response(status=status, headers=headers, body=content)
        if request.method != "GET":
            body = await request.json()
            last = self.lease and self.lease["metadata"]["resourceVersion"]
            if body["metadata"].get("resourceVersion") != last:
                return web.json_response({"message": "the object has been modified"}, status=409)
            metadata = {**body["metadata"], "uid": "u", "resourceVersion": str(int(last or 0) + 1)}
            self.lease = {**body, "metadata": metadata}
        if self.lease is None:
            return web.json_response({"message": "not found", "details": {"name": "vllm-operator"}}, status=404)
        return web.json_response(self.lease)

    def _unwatched(self, path: str) -> web.Response:
        """What there is beside the kinds that are watched: one list without items, and what is told of all kinds."""
        if path in {POD_MONITOR.path(), SCALED_OBJECT.path(), LEADER_WORKER_SET.path()}:
            return web.Response(status=404)
        if path == HORIZONTAL_POD_AUTOSCALER.path():
            return web.json_response({"kind": "HorizontalPodAutoscalerList", "metadata": {}, "items": []})
        return web.json_response(self._discovery(path))

    def _discovery(self, path: str) -> dict[str, Any]:
        if path == "/api":
            return {"versions": ["v1"]}
        if path == "/apis":
            found = {kind.api_version for kind in self.served if "/" in kind.api_version}
            groups = [version.split("/") for version in sorted(found)]
            return {
                "groups": [
                    {"name": group, "versions": [{"version": version}], "preferredVersion": {"version": version}}
                    for group, version in groups
                ]
            }
        here = [kind for kind in (*self.served, NAMESPACES) if kind.root == path]
        verbs = ["list", "watch", "patch"]
        return {
            "resources": [
                {"name": kind.plural, "kind": kind.kind, "singularName": "", "namespaced": True, "verbs": verbs}
                for kind in here
            ]
        }

    @staticmethod
    def _verbs(request: web.Request) -> tuple[str, ...]:
        """What is asked for."""
        if "watch" not in request.query:
            return ("check",) if request.query.get("limit") == "1" else ("list",)
        return ("list", "watch") if request.query.get("sendInitialEvents") == "true" else ("watch",)

    async def _stream(self, request: web.Request, kind: Kind, *, lists: bool) -> web.StreamResponse:
        if lists and self.streamed_lists is StreamedLists.REFUSED:
            status, headers, content = REFUSED
            return web.Response(status=status, headers=headers, body=content)
        stream: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        self._streams[kind].append(stream)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if lists and self.streamed_lists is not StreamedLists.ENDLESS:
            ends = {"k8s.io/initial-events-end": "true"} if self.streamed_lists is StreamedLists.SERVED else {}
            metadata = {"resourceVersion": "1", "annotations": ends}
            stream.put_nowait({"type": "BOOKMARK", "object": {"kind": kind.kind, "metadata": metadata}})
        while request.transport is not None and not request.transport.is_closing():
            with contextlib.suppress(TimeoutError):
                event = await asyncio.wait_for(stream.get(), _LOOK_SECONDS)
                if event is None:
                    break
                await response.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
        return response


@contextlib.asynccontextmanager
async def fake_api_server() -> AsyncIterator[FakeApiServer]:
    """One on loopback, ended with the block."""
    fake = FakeApiServer()
    application = web.Application()
    application.router.add_route("*", f"{LEASE.root}/{{tail:.+}}", fake.handle_lease)
    application.router.add_route("*", "/{tail:.*}", fake.handle)
    async with TestServer(application) as server:
        fake.address = str(server.make_url("/")).rstrip("/")
        yield fake
        for kind in (MODEL, *WATCHED):
            fake.send(kind, None)
