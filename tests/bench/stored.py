"""An API server in memory, fast enough to leave the machine to the operator: for profiles, not for proofs.

It stores what is applied and merged, adds what a real one adds (uid, versions, managedFields), lists in pages, streams
watches (also initial events, as KEP-3157 has them), and knows nothing else: no admission, no defaults, no garbage
collection. What it answers costs the client about what the answers of a real one do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from tests.bench.bodies import works
from vllm_operator.api.live import live_object
from vllm_operator.api.names import MANAGED_BY, MANAGED_SELECTOR, MANAGER
from vllm_operator.cluster.kinds import MODEL, POD_MONITOR, WATCHED, Kind, kind_of
from vllm_operator.planner.decide import decide
from vllm_operator.planner.plan import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_NAMESPACES: Final = Kind("v1", "Namespace", "namespaces")
_EVENTS: Final = Kind("v1", "Event", "events")
_BOOKMARK_SECONDS: Final = 60.0
_NAMESPACED_PARTS: Final = 4
"""Parts of a path behind its group and version: `namespaces`, the namespace, the plural, the name."""

_Stream = asyncio.Queue[bytes]


class StoredObjects:
    """Objects of one kind, what happened to them, and who watches."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.found: dict[tuple[str, str], dict[str, Any]] = {}
        self.history: list[tuple[int, bytes]] = []
        self.streams: list[_Stream] = []

    def changed(self, event: str, body: Mapping[str, Any]) -> None:
        """Tell all who watch."""
        line = orjson.dumps({"type": event, "object": body}) + b"\n"
        self.history.append((int(body["metadata"]["resourceVersion"]), line))
        for stream in self.streams:
            stream.put_nowait(line)


class StoredApiServer:
    """All kinds that the operator works with."""

    def __init__(self) -> None:
        self.version = 1
        self.writes: Counter[str] = Counter()
        self.stores = {kind: StoredObjects(kind) for kind in WATCHED}
        self._roots: defaultdict[str, list[Kind]] = defaultdict(list)
        for kind in (*WATCHED, _NAMESPACES):
            self._roots[kind.root].append(kind)

    def apply(self, kind: Kind, desired: Mapping[str, Any]) -> dict[str, Any]:
        """Take the desired object for the whole one, but for its status."""
        metadata = desired["metadata"]
        key = (metadata["namespace"], metadata["name"])
        known = self.stores[kind].found.get(key)
        new = {**desired, "metadata": {**metadata, "managedFields": _managed_fields(desired)}}
        if known is not None and known.get("status"):
            new["status"] = known["status"]
        return self._keep(kind, key, known, new)

    def merge(self, kind: Kind, key: tuple[str, str], changes: Mapping[str, Any], *, spec: bool) -> dict[str, Any]:
        """Merge changes into an object, as RFC 7386 has it."""
        known = self.stores[kind].found[key]
        merged = _merged(known, {name: value for name, value in changes.items() if name != "metadata"})
        return self._keep(kind, key, known, merged, spec=spec)

    def _keep(
        self,
        kind: Kind,
        key: tuple[str, str],
        known: Mapping[str, Any] | None,
        new: dict[str, Any],
        *,
        spec: bool = True,
    ) -> dict[str, Any]:
        self.version += 1
        before = known["metadata"] if known else {"uid": f"00000000-0000-4000-8000-{self.version:012}", "generation": 0}
        generation = before["generation"] + (known is None or (spec and known.get("spec") != new.get("spec")))
        server = {
            "uid": before["uid"],
            "resourceVersion": str(self.version),
            "generation": generation,
            "creationTimestamp": "2026-11-26T00:00:00Z",
        }
        new["metadata"] = {**new["metadata"], **server}
        self.stores[kind].found[key] = new
        self.stores[kind].changed("MODIFIED" if known else "ADDED", new)
        return new

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        if request.path in {"/api", "/apis"}:
            return web.json_response(self._groups(request.path))
        if request.path in self._roots:
            return web.json_response({"resources": [_described(kind) for kind in self._roots[request.path]]})
        if request.path == "/writes":
            return web.json_response(self.writes)
        if request.path == POD_MONITOR.path() or request.path.startswith(POD_MONITOR.root):
            return web.Response(status=404)
        if request.path.endswith("/" + _EVENTS.plural):
            return web.json_response({"items": []})
        kind = next((kind for kind in WATCHED if request.path == kind.path()), None)
        if kind is None:
            return await self._one(request)
        if "watch" in request.query:
            return await self._watch(request, self.stores[kind])
        return self._list(request, self.stores[kind])

    async def _one(self, request: web.Request) -> web.Response:
        root, _, rest = request.path.partition("/namespaces/")
        namespace, plural, name, *sub = rest.split("/")
        kind = next(kind for kind in WATCHED if kind.root == root and kind.plural == plural)
        key = (namespace, name)
        if request.method == "PATCH":
            body = orjson.loads(await request.read())
            self.writes["/".join([plural, *sub])] += 1
            if "apply" in request.content_type:
                return _answer(self.apply(kind, body))
            return _answer(self.merge(kind, key, body, spec=not sub))
        found = self.stores[kind].found.get(key)
        if found is None:
            return _answer({"message": "not found", "details": {"name": name}}, status=404)
        return _answer(found)

    def _groups(self, path: str) -> dict[str, Any]:
        if path == "/api":
            return {"versions": ["v1"]}
        found = sorted({kind.api_version for kind in WATCHED if "/" in kind.api_version})
        versions = [(text.split("/")[0], {"version": text.split("/")[1]}) for text in found]
        return {"groups": [{"name": name, "versions": [one], "preferredVersion": one} for name, one in versions]}

    def _selected(self, request: web.Request, store: StoredObjects) -> Iterator[dict[str, Any]]:
        ours = request.query.get("labelSelector", "").startswith(MANAGED_SELECTOR)
        for body in store.found.values():
            if not ours or body["metadata"].get("labels", {}).get(MANAGED_BY) == MANAGER:
                yield body

    def _list(self, request: web.Request, store: StoredObjects) -> web.Response:
        found = list(self._selected(request, store))
        if "PartialObjectMetadataList" in request.headers.get("Accept", ""):
            found = [{"metadata": body["metadata"]} for body in found]
        limit, start = int(request.query.get("limit", "0")), int(request.query.get("continue", "0"))
        end = start + limit if limit else len(found)
        metadata = {"resourceVersion": str(self.version)} | ({"continue": str(end)} if end < len(found) else {})
        items = [
            {name: value for name, value in body.items() if name not in {"kind", "apiVersion"}}
            for body in found[start:end]
        ]
        return _answer(
            {
                "kind": f"{store.kind.kind}List",
                "apiVersion": store.kind.api_version,
                "metadata": metadata,
                "items": items,
            }
        )

    async def _watch(self, request: web.Request, store: StoredObjects) -> web.StreamResponse:
        stream: _Stream = asyncio.Queue()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        store.streams.append(stream)
        version = self.version
        if request.query.get("sendInitialEvents") == "true":
            for body in list(self._selected(request, store)):
                await response.write(orjson.dumps({"type": "ADDED", "object": body}) + b"\n")
            await response.write(_bookmark(store.kind, version, initial=True))
        elif "resourceVersion" in request.query:
            since = int(request.query["resourceVersion"])
            for number, line in list(store.history):
                if since < number <= version:
                    await response.write(line)
        try:
            while request.transport is not None and not request.transport.is_closing():
                try:
                    line = await asyncio.wait_for(stream.get(), _BOOKMARK_SECONDS)
                except TimeoutError:
                    line = _bookmark(store.kind, self.version)
                while not stream.empty():
                    line += stream.get_nowait()
                await response.write(line)
        finally:
            store.streams.remove(stream)
        return response


def _answer(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json", status=status)


def _bookmark(kind: Kind, version: int, *, initial: bool = False) -> bytes:
    metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
    if initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    body = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    return orjson.dumps({"type": "BOOKMARK", "object": body}) + b"\n"


def _described(kind: Kind) -> dict[str, Any]:
    verbs = ["list", "watch", "patch"]
    return {"name": kind.plural, "kind": kind.kind, "singularName": "", "namespaced": True, "verbs": verbs}


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {f"f:{name}": _fields(part) for name, part in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict) and "name" in value[0]:
        return {f'k:{{"name":"{part["name"]}"}}': {".": {}, **_fields(part)} for part in value}
    return {}


def _managed_fields(desired: Mapping[str, Any]) -> list[dict[str, Any]]:
    fields = _fields({name: value for name, value in desired.items() if name not in {"kind", "apiVersion"}})
    return [
        {
            "manager": MANAGER,
            "operation": "Apply",
            "apiVersion": desired["apiVersion"],
            "time": "2026-11-26T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
    ]


def _merged(known: Any, changes: Any) -> Any:
    if not isinstance(changes, dict) or not isinstance(known, dict):
        return changes
    whole = {name: _merged(known.get(name), value) for name, value in changes.items() if value is not None}
    return {**{name: value for name, value in known.items() if name not in changes}, **whole}


def filled(server: StoredApiServer, namespace: str, models: int) -> None:
    """Put in models with all that the operator makes of them."""
    now = datetime.now(UTC)
    for work in works(namespace, models):
        made = server.apply(MODEL, work.resource)
        plan = decide(Observation(model=live_object(made), children={}, pods=(), now=now))
        for write in plan.writes:
            server.apply(kind_of(write.desired["kind"]), write.desired)
        server.merge(MODEL, (namespace, work.name), {"status": plan.status}, spec=False)


async def serve(server: StoredApiServer, ready: Callable[[int], None]) -> None:
    """Serve on loopback for ever."""
    application = web.Application(client_max_size=2**24)
    application.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    ready(runner.addresses[0][1])
    await asyncio.Event().wait()


def main() -> None:
    """Serve, and say where on standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=0)
    parser.add_argument("--namespaces", type=int, default=1)
    given = parser.parse_args()
    server = StoredApiServer()
    for number in range(given.namespaces):
        filled(server, f"team-{number}", given.models // given.namespaces)
    asyncio.run(serve(server, lambda port: print(json.dumps({"port": port}), flush=True)))


if __name__ == "__main__":
    sys.exit(main())
