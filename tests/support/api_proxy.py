"""A proxy between an operator and the API server that loses, delays, refuses and forges what passes, as a test wants.

with ApiProxy(cluster.kubeconfig) as proxy:
    proxy.fault = lambda call: TOO_MANY if call.writes else None
    OperatorProcess(proxy.kubeconfig(tmp_path), tmp_path).start()

It runs in a thread of its own, so that neither a test nor an operator in the test's process holds it up. Each operator
logs in at an address of its own (`generation`), and can be cut off alone: from then on nothing of it reaches the API
server, and nothing reaches it, as when it was killed.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import enum
import json
import re
import socket
import ssl
import tempfile
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from vllm_operator.cluster.watches import Place, watched_place

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path
    from types import TracebackType

START_SECONDS = 30.0
_HOP_BY_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding", "authorization"})
_FIRST_ERROR = 400


@dataclass(frozen=True, eq=False)
class Call:
    """One request of an operator; each is like no other."""

    generation: int
    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    token: str = ""

    @property
    def writes(self) -> bool:
        """Whether it may change something, beside the Lease that is renewed all the time."""
        return self.method != "GET" and not self.elects

    @property
    def elects(self) -> bool:
        """Whether it is about the Lease."""
        return "/leases" in self.path

    @property
    def watches(self) -> bool:
        """Whether it is a watch."""
        return "watch" in self.query

    @property
    def place(self) -> Place | None:
        """What it lists or watches."""
        return watched_place(self.path) if self.method == "GET" else None

    @property
    def lists(self) -> bool:
        """Whether it lists one of the operator's kinds whole."""
        return self.place is not None and not self.watches and self.query.get("limit") != "1"

    @property
    def streams_list(self) -> bool:
        """Whether it is a watch that begins with a list."""
        return self.watches and self.query.get("sendInitialEvents") == "true"

    @property
    def namespace(self) -> str:
        """In which it writes or reads; empty where in none or in all."""
        _, found, rest = self.path.partition("/namespaces/")
        return rest.partition("/")[0] if found else ""

    @property
    def event(self) -> bool:
        """Whether it writes a Kubernetes Event, which is a message and no state."""
        return self.path.endswith("/events")

    def json(self) -> dict[str, Any]:
        """What it sends."""
        found: dict[str, Any] = json.loads(self.body) if self.body else {}
        return found


@dataclass(frozen=True)
class Refusal:
    """An answer instead of the API server's."""

    status: int
    message: str = "by the proxy"
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    page: bytes = b""
    """A body that is none of an API server."""

    @property
    def body(self) -> bytes:
        """As API servers write it."""
        return (
            self.page
            or json.dumps(
                {
                    "kind": "Status",
                    "status": "Failure",
                    "code": self.status,
                    "message": self.message,
                    "reason": self.reason,
                }
            ).encode()
        )


class Loss(enum.Enum):
    """What is lost of a request."""

    REQUEST = enum.auto()
    """It never reaches the API server; the connection breaks."""
    ANSWER = enum.auto()
    """The API server does it, and the connection breaks."""
    SILENCE = enum.auto()
    """It never reaches the API server, and nothing is ever answered."""


Fault = Refusal | Loss | None
GONE = Refusal(410, "the provided continue parameter is too old", reason="Expired")
CONFLICT = Refusal(409, "the object has been modified", reason="Conflict")
TOO_MANY = Refusal(429, "too many requests", {"Retry-After": "1"}, reason="TooManyRequests")
UNAUTHORIZED = Refusal(401, "Unauthorized", reason="Unauthorized")
NO_STREAMED_LISTS = Refusal(422, "sendInitialEvents: Forbidden: for watch unless WatchList is on", reason="Invalid")
"""As API servers answer whose feature WatchList is off."""


@dataclass(frozen=True)
class Done:
    """A request that the API server answered."""

    call: Call
    status: int

    @property
    def succeeded(self) -> bool:
        """Whether it did what was asked."""
        return self.status < _FIRST_ERROR


class ApiProxy:
    """Use it as a `with` block."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server: str = server["server"]
        self._tls = ssl.create_default_context(cadata=base64.b64decode(server["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile(suffix=".pem") as pair:  # the ssl module reads files only
            pair.write(b"\n".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))
            pair.flush()
            self._tls.load_cert_chain(pair.name)
        self.fault: Callable[[Call], Fault] = lambda _: None
        """What happens to a request. It is called in the proxy's thread, once for each request, in their order."""
        self.event: Callable[[Call, bytes], bytes | None] = lambda _, line: line
        """What becomes of one event of a watch, a line; None loses it."""
        self.answered: Callable[[Done], None] = lambda _: None
        """Told of each request that the API server answered, before the operator is."""
        self.page_size = 0
        """Of lists, instead of what operators ask for; 0 leaves it as it is."""
        self.tls: ssl.SSLContext | None = None
        """How it speaks to operators, where it has a certificate of its own; to be set before it starts."""
        self.asked = 0
        """Requests so far, without those about the Lease."""
        self.done: list[Done] = []
        """The writes that the API server answered."""
        self._sockets = weakref.WeakSet[socket.socket]()
        self.calls: collections.Counter[tuple[str, str]] = collections.Counter()
        """How often each kind was listed and watched, by its plural and `list` or `watch`."""
        self.generation = 1
        self._cut: set[int] = set()
        self._tasks: dict[asyncio.Task[Any], Call] = {}
        self._streams: dict[asyncio.Task[Any], asyncio.Queue[bytes | None]] = {}
        self._started = threading.Event()
        self._port = 0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(START_SECONDS), "the proxy does not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(START_SECONDS)

    @property
    def url(self) -> str:
        """Where the operator of this generation finds the API server."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._port}/generation-{self.generation}"

    @property
    def busy(self) -> bool:
        """Whether a request is on its way that is no watch, and not about the Lease."""
        return any(not (call.watches or call.elects) for call in list(self._tasks.values()))

    def kubeconfig(self, folder: Path) -> Path:
        """Written for the operator of this generation."""
        path = folder / f"kubeconfig-{self.generation}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
            "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
            "users": [{"name": "operator", "user": {"token": "proxied"}}],
        }
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def cut_off(self) -> None:
        """Let nothing of the operator through any more, from now on and in either direction; another may begin."""
        if threading.current_thread() is self._thread:
            self._cut_off_here()
        else:
            self._run(self._async(self._cut_off_here))

    def end_watches(self, place: Place | None = None) -> None:
        """End the watches that there are, as API servers do from time to time."""
        self.send(None, place)

    def send(self, event: Mapping[str, Any] | None, place: Place | None = None) -> None:
        """Put an event into the watches that there are; None ends them."""
        line = None if event is None else json.dumps(event, separators=(",", ":")).encode() + b"\n"

        def put() -> None:
            for task, stream in self._streams.items():
                if place in (None, self._tasks[task].place):
                    stream.put_nowait(line)

        self._run(self._async(put))

    def streams(self) -> list[Call]:
        """The watches that there are."""
        return [self._tasks[task] for task in list(self._streams)]

    def break_connections(self) -> None:
        """Break every connection in the middle of what it carries."""
        self._run(self._async(self._break))

    def applied(self, namespace: str) -> list[Done]:
        """The writes in a namespace that changed something or might have, without Events."""
        return [
            done for done in self.done if done.call.namespace == namespace and done.succeeded and not done.call.event
        ]

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/generation-{generation}/{tail:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls, socket_factory=self._new_socket)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
        ) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.tls)
            await site.start()
            self._port = runner.addresses[0][1]
            self._started.set()
            await self._end.wait()
            self._break()
            await runner.cleanup()
        await self._part()

    def _new_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made

    async def _part(self) -> None:
        """Close what is left without the API server's answer: TLS waits for it, also beyond the end of the loop."""
        for left in self._sockets:
            with contextlib.suppress(OSError):  # closed by now, or by the other end
                left.shutdown(socket.SHUT_RDWR)
        async with asyncio.timeout(START_SECONDS):
            while any(left.fileno() != -1 for left in self._sockets):  # noqa: ASYNC110 # no socket tells that it is closed
                await asyncio.sleep(0.01)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)

    @staticmethod
    async def _async(work: Callable[[], None]) -> None:
        work()

    def _break(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def _cut_off_here(self) -> None:
        generation, self.generation = self.generation, self.generation + 1
        self._cut.add(generation)
        current = asyncio.current_task()
        for task, call in self._tasks.items():
            if call.generation == generation and task is not current:
                task.cancel()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        generation = int(request.match_info["generation"])
        call = Call(
            generation=generation,
            method=request.method,
            path="/" + request.match_info["tail"],
            query=dict(parse_qsl(request.query_string, keep_blank_values=True)),
            body=await request.read(),
            token=request.headers.get("Authorization", "").removeprefix("Bearer "),
        )
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = call
        try:
            return await self._answer(request, call, task)
        except (asyncio.CancelledError, ConnectionError):
            return _broken(request)
        finally:
            del self._tasks[task]

    async def _answer(self, request: web.Request, call: Call, task: asyncio.Task[Any]) -> web.StreamResponse:
        if call.generation in self._cut:
            return _broken(request)
        self.asked += not call.elects
        if call.place is not None:
            self.calls[call.place.kind.plural, "watch" if call.watches else "list"] += 1
        fault = self.fault(call)
        if fault is Loss.REQUEST or call.generation in self._cut:
            return _broken(request)
        if fault is Loss.SILENCE:
            await asyncio.Event().wait()
        if isinstance(fault, Refusal):
            headers = {"Content-Type": "application/json", **fault.headers}
            return web.Response(status=fault.status, headers=headers, body=fault.body)
        if call.watches:
            async with self._upstream(request, call) as found:
                return await self._stream(request, call, found, task)
        # what is on its way is done, whether or not somebody waits for the answer
        status, kept, content = await asyncio.shield(asyncio.create_task(self._forward(request, call)))
        if fault is Loss.ANSWER or call.generation in self._cut:
            return _broken(request)
        return web.Response(status=status, headers=kept, body=content)

    def _upstream(self, request: web.Request, call: Call) -> Any:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        url = f"{self._server}{request.raw_path.partition(f'/generation-{call.generation}')[2]}"
        if self.page_size and call.lists:
            url = re.sub(r"\blimit=\d+", f"limit={self.page_size}", url)
        return self._session.request(call.method, URL(url, encoded=True), headers=headers, data=call.body or None)

    async def _forward(self, request: web.Request, call: Call) -> tuple[int, dict[str, str], bytes]:
        async with self._upstream(request, call) as found:
            content = await found.read()
            done = Done(call, found.status)
            if call.writes:
                self.done.append(done)
            self.answered(done)
            kept = {name: value for name, value in found.headers.items() if name.lower() not in _HOP_BY_HOP}
            return found.status, kept, content

    async def _stream(
        self, request: web.Request, call: Call, found: aiohttp.ClientResponse, task: asyncio.Task[Any]
    ) -> web.StreamResponse:
        if not found.ok:
            return web.Response(status=found.status, content_type="application/json", body=await found.read())
        response = web.StreamResponse(headers={"Content-Type": found.headers["Content-Type"]})
        await response.prepare(request)
        stream: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._streams[task] = stream
        reader = asyncio.create_task(_read(found, stream))
        try:
            while (line := await stream.get()) is not None:
                kept = self.event(call, line)
                if kept is not None:
                    await response.write(kept)
            await response.write_eof()
        finally:
            reader.cancel()
            del self._streams[task]
        return response


async def _read(found: aiohttp.ClientResponse, stream: asyncio.Queue[bytes | None]) -> None:
    """Line by line, however long they are, until it ends."""
    rest = b""
    with contextlib.suppress(aiohttp.ClientError):
        async for news in found.content.iter_any():
            *lines, rest = (rest + news).split(b"\n")
            for line in lines:
                stream.put_nowait(line + b"\n")
    stream.put_nowait(None)


def _broken(request: web.Request) -> web.Response:
    """Break the connection; what is returned reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
