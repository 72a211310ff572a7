"""A Hugging Face hub, as far as huggingface_hub asks it for files: their names, their metadata, and parts of them.

It needs nothing but the standard library, so a pod can run it from its text.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Models by name, each with its files; all revisions are the same but those that are gone."""

    files: dict[str, dict[str, bytes]]
    gated: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset({"gone"})
    address: str = ""
    tokens: list[str] = field(default_factory=list)
    """What callers have sent."""

    def environment(self, home: str) -> dict[str, str]:
        """What lets a process ask here and nowhere else."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_HOME": home,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }


@contextlib.contextmanager
def fake_hub(files: dict[str, dict[str, bytes]], gated: frozenset[str] = frozenset()) -> Iterator[FakeHub]:
    """The hub on loopback for the length of a block."""
    hub = FakeHub(files=files, gated=gated)
    server = server_of(hub, "127.0.0.1", 0)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def server_of(hub: FakeHub, host: str, port: int) -> ThreadingHTTPServer:
    """A server that answers as this hub, and does not run yet."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            answer(self, hub)

        def do_GET(self) -> None:
            answer(self, hub)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return ThreadingHTTPServer((host, port), Handler)


def answer(request: BaseHTTPRequestHandler, hub: FakeHub) -> None:
    """Answer a request for a file, or for what a model has.

    `/ORG/NAME/resolve/REVISION/FILE`, `/api/models/ORG/NAME/tree/REVISION` or `/api/models/ORG/NAME/revision/REVISION`
    """
    hub.tokens.append(request.headers.get("Authorization", ""))
    path = request.path.partition("?")[0].lstrip("/")
    if path.startswith("api/models/"):
        answer_about(request, hub, path.removeprefix("api/models/"))
        return
    name, _, rest = path.partition("/resolve/")
    revision, _, file = rest.partition("/")
    if name in hub.gated:
        refuse(request, 403, "GatedRepo")
    elif name not in hub.files:
        refuse(request, 401, "RepoNotFound")
    elif revision in hub.gone:
        refuse(request, 404, "RevisionNotFound")
    elif file not in hub.files[name]:
        refuse(request, 404, "EntryNotFound")
    else:
        send(request, hub.files[name][file])


def answer_about(request: BaseHTTPRequestHandler, hub: FakeHub, path: str) -> None:
    """Answer what a model has: everybody may know it of a gated one."""
    organization, model, *rest = [*path.split("/"), ""]
    name, kind, revision = f"{organization}/{model}", rest[0], "/".join(rest[1:]).strip("/")
    files = hub.files.get(name)
    if files is None:
        refuse(request, 401, "RepoNotFound")
    elif revision in hub.gone:
        refuse(request, 404, "RevisionNotFound")
    elif kind == "tree":
        entries = [{"type": "file", "path": file, "size": len(text), "oid": COMMIT} for file, text in files.items()]
        send(request, json.dumps(entries).encode())
    else:
        siblings = [{"rfilename": file} for file in files]
        send(request, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings, "tags": []}).encode())


def refuse(request: BaseHTTPRequestHandler, status: int, code: str) -> None:
    """The status, and the header by which the hub's client tells reasons apart."""
    request.send_response(status)
    request.send_header("X-Error-Code", code)
    request.send_header("Content-Length", "0")
    request.end_headers()


def send(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """The file, or the part of it that is asked for."""
    part, status = content, 200
    asked = request.headers.get("Range", "")
    if asked.startswith("bytes="):
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part, status = content[int(first) : int(last or len(content)) + 1], 206
        request.send_response(status)
        request.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
    else:
        request.send_response(status)
    request.send_header("ETag", f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"')
    request.send_header("X-Repo-Commit", COMMIT)
    request.send_header("Content-Length", str(len(part)))
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(part)
