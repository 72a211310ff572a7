"""A hub, an S3 store and a web server in one, that cut, slow down, limit, gate and lie as they are told.

It needs nothing but the standard library, so a pod can run it from its text. `POST /faults` takes fields of `Faults`,
and `GET /requests` tells what was asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import urllib.parse
from dataclasses import dataclass, field, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass
class Faults:
    """What goes wrong; nothing by default."""

    cut_after: int = 0
    """Bytes of a file after which its connection breaks; 0: never."""
    cuts: int = -1
    """How many connections break so; -1: all."""
    bytes_per_second: int = 0
    limited: int = 0
    """Answers of 429 that still come."""
    retry_after: str = "1"
    broken: int = 0
    """Answers of 500 that still come."""
    wrong: int = 0
    """Files that still come with another content."""
    size_lie: int = 0
    """Bytes that lists add to every size."""
    no_ranges: bool = False
    forbids: bool = False
    """Whether the storage behind the hub gives files to nobody."""
    gated: tuple[str, ...] = ()
    """Repositories whose files nobody gets without the token `accepted`."""


@dataclass
class FileSources:
    """What there is, by the name of a repository or a bucket, then by revision (one for buckets), then by path."""

    repositories: Mapping[str, Mapping[str, Mapping[str, bytes]]] = field(default_factory=dict)
    folders: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """Folders of the web server, and buckets."""
    faults: Faults = field(default_factory=Faults)
    address: str = ""
    storage: str = ""
    """Address that large files are handed over to; empty: they come from here."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Path, Range and Authorization of each request."""
    page: int = 1000
    """Objects of one answer of the store."""

    def files(self, repository: str, revision: str) -> tuple[str, Mapping[str, bytes]] | None:
        """Commit and files of a revision, which may be a commit."""
        for name, content in self.repositories[repository].items():
            commit = commit_of(repository, name)
            if revision in (name, commit):
                return commit, content
        return None


def commit_of(repository: str, revision: str) -> str:
    """The commit that a revision is."""
    return hashlib.sha1(f"{repository}@{revision}".encode(), usedforsecurity=False).hexdigest()


def git_blob(content: bytes) -> str:
    """The id that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def file_sources(
    repositories: Mapping[str, Mapping[str, Mapping[str, bytes]]] | None = None,
    folders: Mapping[str, Mapping[str, bytes]] | None = None,
) -> Iterator[FileSources]:
    """The server on loopback for the length of a block."""
    sources = FileSources(repositories or {}, folders or {})
    server = server_of(sources, "127.0.0.1", 0)
    port = server.server_address[1]
    sources.address, sources.storage = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield sources
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def server_of(sources: FileSources, host: str, port: int) -> ThreadingHTTPServer:
    """A server that answers so, and does not run yet."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            answer(self, sources)

        def do_GET(self) -> None:
            answer(self, sources)

        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = {one.name for one in fields(Faults)}
            for name, value in told.items():
                assert name in known
                setattr(sources.faults, name, tuple(value) if isinstance(value, list) else value)
            send(self, 200, b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    return server


def answer(request: BaseHTTPRequestHandler, sources: FileSources) -> None:
    """Answer one request."""
    path, _, query = request.path.partition("?")
    path = urllib.parse.unquote(path)
    if path == "/requests":
        send(request, 200, json.dumps(sources.requests).encode())
        return
    sources.requests.append((path, request.headers.get("Range", ""), request.headers.get("Authorization", "")))
    faults = sources.faults
    if faults.limited > 0:
        faults.limited -= 1
        send(request, 429, b"", {"Retry-After": faults.retry_after})
    elif faults.broken > 0:
        faults.broken -= 1
        send(request, 500, b"")
    elif path.startswith("/api/models/"):
        answer_about(request, sources, path.removeprefix("/api/models/"))
    elif "/resolve/" in path:
        answer_resolve(request, sources, path)
    elif path.startswith("/storage/") and faults.forbids:
        send(request, 403, b"")
    elif path.startswith("/storage/"):
        send_file(request, sources, stored(sources)[path.rpartition("/")[2]])
    else:
        answer_folder(request, sources, path, query)


def answer_about(request: BaseHTTPRequestHandler, sources: FileSources, path: str) -> None:
    """What a revision holds, as `?blobs=true` has it."""
    repository, _, revision = path.partition("/revision/")
    if repository not in sources.repositories:
        send(request, 401, b"", {"X-Error-Code": "RepoNotFound"})
        return
    found = sources.files(repository, revision)
    if found is None:
        send(request, 404, b"", {"X-Error-Code": "RevisionNotFound"})
        return
    commit, content = found
    siblings = []
    for name, text in content.items():
        size = len(text) + sources.faults.size_lie
        one: dict[str, object] = {"rfilename": name, "size": size, "blobId": git_blob(text)}
        if is_large(name):
            one["lfs"] = {"sha256": hashlib.sha256(text).hexdigest(), "size": size, "pointerSize": 134}
        siblings.append(one)
    send(request, 200, json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode())


def answer_resolve(request: BaseHTTPRequestHandler, sources: FileSources, path: str) -> None:
    """A file of a revision; a large one is handed over to the storage."""
    repository, _, rest = path.lstrip("/").partition("/resolve/")
    commit, _, name = rest.partition("/")
    if repository in sources.faults.gated and request.headers.get("Authorization") != "Bearer accepted":
        send(request, 403, b"", {"X-Error-Code": "GatedRepo"})
        return
    found = sources.files(repository, commit)
    if found is None or name not in found[1]:
        send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
        return
    content = found[1][name]
    if is_large(name):
        place = f"{sources.storage}/storage/{hashlib.sha256(content).hexdigest()}"
        send(request, 302, b"", {"Location": place})
        return
    send_file(request, sources, content)


def answer_folder(request: BaseHTTPRequestHandler, sources: FileSources, path: str, query: str) -> None:
    """A file of the web server, or what the store holds."""
    folder, _, name = path.lstrip("/").partition("/")
    content = sources.folders.get(folder)
    if content is None:
        send(request, 404, b"<Error><Code>NoSuchBucket</Code></Error>")
    elif "list-type=2" in query:
        send(request, 200, listed(sources, content, urllib.parse.parse_qs(query)))
    elif name not in content:
        send(request, 404, b"<Error><Code>NoSuchKey</Code></Error>")
    else:
        send_file(request, sources, content[name])


def listed(sources: FileSources, content: Mapping[str, bytes], query: Mapping[str, list[str]]) -> bytes:
    """One page of ListObjectsV2."""
    prefix = query.get("prefix", [""])[0]
    names = sorted(name for name in content if name.startswith(prefix))
    start = int(query.get("continuation-token", ["0"])[0])
    page, more = names[start : start + sources.page], start + sources.page < len(names)
    entries = "".join(
        f"<Contents><Key>{escape(name)}</Key><Size>{len(content[name]) + sources.faults.size_lie}</Size>"
        f"<ETag>&quot;{hashlib.md5(content[name], usedforsecurity=False).hexdigest()}&quot;</ETag></Contents>"
        for name in page
    )
    token = f"<NextContinuationToken>{start + sources.page}</NextContinuationToken>" if more else ""
    head = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return f"{head}<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>".encode()


def is_large(name: str) -> bool:
    """Whether the hub keeps a file outside of git."""
    return name.endswith((".safetensors", ".bin"))


def stored(sources: FileSources) -> dict[str, bytes]:
    """The large files by their hashes."""
    contents = [text for one in sources.repositories.values() for files in one.values() for text in files.values()]
    return {hashlib.sha256(text).hexdigest(): text for text in contents}


def send(
    request: BaseHTTPRequestHandler, status: int, content: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """One answer."""
    request.send_response(status)
    for name, text in (headers or {}).items():
        request.send_header(name, text)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)


def send_file(request: BaseHTTPRequestHandler, sources: FileSources, content: bytes) -> None:
    """A file, or the part of it that is asked for, as the faults have it."""
    faults = sources.faults
    if faults.wrong > 0 and request.command == "GET":
        faults.wrong -= 1
        content = bytes(byte ^ 1 for byte in content)
    asked, status, first = request.headers.get("Range", ""), 200, 0
    if asked.startswith("bytes=") and not faults.no_ranges:
        first, status = int(asked.removeprefix("bytes=").partition("-")[0]), 206
        if first >= len(content):
            send(request, 416, b"")
            return
    request.send_response(status)
    if status == 206:
        request.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
    part = content[first:]
    request.send_header("ETag", f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"')
    request.send_header("Content-Length", str(len(part)))
    request.end_headers()
    if request.command == "GET":
        pour(request, faults, part)


def pour(request: BaseHTTPRequestHandler, faults: Faults, part: bytes) -> None:
    """The bytes, as fast and as far as the faults let them."""
    cut = faults.cut_after if faults.cuts and faults.cut_after < len(part) else 0
    if cut:
        part, faults.cuts = part[:cut], faults.cuts - (faults.cuts > 0)
    step = max(1, faults.bytes_per_second // 20) if faults.bytes_per_second else len(part) or 1
    with contextlib.suppress(OSError):
        for start in range(0, len(part), step):
            request.wfile.write(part[start : start + step])
            if faults.bytes_per_second:
                time.sleep(0.05)
    if cut:
        request.close_connection = True
        with contextlib.suppress(OSError):
            request.wfile.flush()
            request.connection.shutdown(2)
