"""A Hugging Face hub on loopback, as far as huggingface_hub asks it for files: their metadata, and parts of them."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Models by name, each with its files; all revisions but `gone` are the same."""

    files: dict[str, dict[str, bytes]]
    gated: frozenset[str] = frozenset()
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
    """The hub for the length of a block."""
    hub = FakeHub(files=files, gated=gated)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            answer(self, hub)

        def do_GET(self) -> None:
            answer(self, hub)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(request: BaseHTTPRequestHandler, hub: FakeHub) -> None:
    """Answer a request for a file: `/ORG/NAME/resolve/REVISION/FILE`."""
    hub.tokens.append(request.headers.get("Authorization", ""))
    name, _, rest = request.path.lstrip("/").partition("/resolve/")
    revision, _, file = rest.partition("/")
    if name in hub.gated:
        refuse(request, 403, "GatedRepo")
    elif name not in hub.files:
        refuse(request, 401, "RepoNotFound")
    elif revision == "gone":
        refuse(request, 404, "RevisionNotFound")
    elif file not in hub.files[name]:
        refuse(request, 404, "EntryNotFound")
    else:
        send(request, hub.files[name][file])


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
