"""The HTTP sessions to the API server, and the service account's token, which kubelet replaces every hour."""

from __future__ import annotations

import functools
import logging
import socket
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from vllm_operator.api import json_text

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

_ERROR, _UNAUTHORIZED = 400, 401
_SEND_BUFFER_BYTES: Final = 2**20


def open_session(
    tls: ssl.SSLContext,
    headers: Mapping[str, str],
    token_file: Path | None = None,
    first: Sequence[aiohttp.ClientMiddlewareType] = (),
    unacknowledged_seconds: float | None = None,
) -> aiohttp.ClientSession:
    """A session with the credentials in `headers` or in a file that changes; `first` sees every request first.

    What the other side does not acknowledge within `unacknowledged_seconds` is never delivered: the connection breaks.
    """
    tokens = (RotatingToken(token_file),) if token_file else ()
    sockets = None if unacknowledged_seconds is None else functools.partial(bounded_socket, unacknowledged_seconds)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls, socket_factory=sockets),
        headers={**headers, "User-Agent": "vllm-operator"},
        response_class=AnyDepthResponse,
        middlewares=(*first, *tokens),
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
            return await super().json(**{"loads": json_text.loads, **options})
        except ValueError as error:
            if self.status < _ERROR:
                raise aiohttp.ClientPayloadError(f"no JSON: {error}") from error
            raise  # kopf takes the text of an error as it is


class RotatingToken:
    """Middleware that sends the token, and reads it anew when the API server no longer takes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = self._read()

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request, and once more where the token had been replaced meanwhile."""
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
        try:
            self._token = self._read()
        except (OSError, ValueError) as error:
            logger.warning("cannot read the service account's token, the one from before is used on: %s", error)

    def _read(self) -> str:
        return self._path.read_text(encoding="ascii").strip()
