"""The HTTP sessions to the API server: the token, which kubelet replaces every hour, and certificates, which expire."""

from __future__ import annotations

import functools
import logging
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from vllm_operator.api import json_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

FRESH_SECONDS: Final = 60.0
"""How long what was read is used before it is read again, as in client-go. An API server may take a token long after it
has expired, and counts it as a stale one meanwhile."""

_MOST_CONNECTIONS: Final = 32
"""More than are ever open at once."""

_ERROR, _UNAUTHORIZED = 400, 401
_SEND_BUFFER_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where certificates are read from; what is None is in no file, and stays as it is."""

    authority: Path | None = None
    """Who has to have signed the API server's certificate."""
    certificate: Path | None = None
    """Who the operator is."""
    key: Path | None = None
    """Of `certificate`."""

    def read(self) -> tuple[bytes, ...]:
        """What is in them.

        Raises:
            OSError: one of them cannot be read.
        """
        return tuple(path.read_bytes() for path in (self.authority, self.certificate, self.key) if path is not None)


def open_session(
    tls: ssl.SSLContext,
    headers: Mapping[str, str],
    token_file: Path | None = None,
    first: Sequence[aiohttp.ClientMiddlewareType] = (),
    *,
    unacknowledged_seconds: float | None = None,
    certificates: CertificateFiles | None = None,
    observe: Callable[[str, str, float], None] | None = None,
) -> aiohttp.ClientSession:
    """A session with the credentials in `headers` or in files that change; `first` sees every request first.

    `observe` is told the verb, the status and the seconds of every request that is sent. What the other side does not
    acknowledge within `unacknowledged_seconds` is never delivered: the connection breaks.
    """
    tokens = (RotatingToken(token_file),) if token_file else ()
    rotating = (RotatingCertificates(tls, certificates),) if certificates else ()
    sockets = None if unacknowledged_seconds is None else functools.partial(bounded_socket, unacknowledged_seconds)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls, socket_factory=sockets),
        headers={**headers, "User-Agent": "vllm-operator"},
        response_class=AnyDepthResponse,
        middlewares=(*first, *rotating, *tokens, *((CountedRequests(observe),) if observe else ())),
    )


def bounded_socket(seconds: float, address: tuple[Any, ...]) -> socket.socket:
    """A socket whose data the kernel gives up by itself, also while this process is frozen.

    It takes a whole request at once, where its limits allow that: none is to be continued after a freeze.
    """
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(seconds * 1000)))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return made


class AnyDepthResponse(aiohttp.ClientResponse):
    """A response whose JSON is read however deep it is: kopf lists what it watches by it."""

    async def json(self, **options: Any) -> Any:
        """The document in it.

        Raises:
            aiohttp.ClientPayloadError: it is none, or cut off: kopf tries again what broke, and ends otherwise.
        """
        try:
            return await super().json(**{"loads": json_text.parsed, **options})
        except ValueError as error:
            if self.status < _ERROR:
                raise aiohttp.ClientPayloadError(f"no JSON: {error}") from error
            raise  # kopf takes the text of an error as it is


_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_RESOURCES: Final = re.compile(r"/(?:api/[^/]+|apis/[^/]+/[^/]+)/(?:namespaces/[^/]+/)?[^/]+$")
"""Where a path ends at the name of a kind, and not at that of an object."""
NO_ANSWER: Final = "<error>"
"""In the place of a status, as client-go has it."""


def verb_of(method: str, path: str, *, watches: bool) -> str:
    """What a request asks for, in the words of the Kubernetes API; `get` for documents that are no objects."""
    if method != "GET":
        return _VERBS.get(method, method.lower())
    if watches:
        return "watch"
    return "list" if _RESOURCES.search(path) else "get"


class CountedRequests:
    """Middleware that tells of each request that is sent: its verb, its status and how long the answer's head took."""

    def __init__(self, observe: Callable[[str, str, float], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._observe = observe
        self._clock = clock

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request."""
        began, code = self._clock(), NO_ANSWER
        try:
            response = await handler(request)
            code = str(response.status)
            return response
        finally:
            url = request.url
            verb = verb_of(request.method, url.path, watches="watch" in url.query)
            self._observe(verb, code, self._clock() - began)


class RotatingCertificates:
    """Middleware that reads certificates anew, for the connections that are made from then on.

    Authorities that are taken out of their file are trusted until the process ends: Python's ssl module can only add.
    """

    def __init__(
        self, tls: ssl.SSLContext, files: CertificateFiles, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tls = tls
        self._files = files
        self._clock = clock
        self._known = files.read()
        self._read_at = clock()

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request, and once more where certificates had been replaced meanwhile."""
        if self._clock() >= self._read_at + FRESH_SECONDS:
            self._read_anew()
        try:
            response = await handler(request)
        except aiohttp.ClientSSLError:
            if not self._read_anew():
                raise
            return await handler(request)
        if response.status != _UNAUTHORIZED or self._files.certificate is None or not self._read_anew():
            return response
        request.headers["Connection"] = "close"
        for _ in range(_MOST_CONNECTIONS):  # each that is still open is that of the certificate from before
            response.release()
            response = await handler(request)
            if response.status != _UNAUTHORIZED:
                break
        return response

    def _read_anew(self) -> bool:
        """Read the files again, and say whether there is anything new. What cannot be read leaves all as it is."""
        self._read_at = self._clock()
        try:
            found = self._files.read()
            if found == self._known:
                return False
            self._load(ssl.create_default_context())  # half-written files must not spoil the one that works
            self._load(self._tls)
        except (OSError, ValueError) as error:  # of ssl, too
            logger.warning("cannot read the certificates, those from before are used on: %s", error)
            return False
        logger.info("read the certificates anew: they were replaced")
        self._known = found
        return True

    def _load(self, tls: ssl.SSLContext) -> None:
        if self._files.authority is not None:
            tls.load_verify_locations(self._files.authority)
        if self._files.certificate is not None:
            tls.load_cert_chain(self._files.certificate, self._files.key)


class RotatingToken:
    """Middleware that sends the token, and reads it anew every minute, and when the API server no longer takes it."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._token = self._read()
        self._read_at = clock()

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request, and once more where the token had been replaced meanwhile."""
        if self._clock() >= self._read_at + FRESH_SECONDS:
            self._read_anew()
        sent = self._token  # another request may replace it before this one's answer is here
        response = await self._send(request, handler)
        if response.status != _UNAUTHORIZED:
            return response
        self._read_anew()
        if self._token == sent:
            return response
        response.release()
        return await self._send(request, handler)

    async def _send(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return await handler(request)

    def _read_anew(self) -> None:
        """Read the file again. Where that fails, the token that is known is used on: one request fails, not all."""
        self._read_at = self._clock()
        try:
            self._token = self._read()
        except (OSError, ValueError) as error:
            logger.warning("cannot read the service account's token, the one from before is used on: %s", error)

    def _read(self) -> str:
        return self._path.read_text(encoding="ascii").strip()
