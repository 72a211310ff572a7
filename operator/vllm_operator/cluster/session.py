"""The HTTP sessions to the API server, and the service account's token, which kubelet replaces every hour."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import aiohttp

from vllm_operator.api import json_text

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

_ERROR, _UNAUTHORIZED = 400, 401


def open_session(
    tls: ssl.SSLContext,
    headers: Mapping[str, str],
    token_file: Path | None = None,
    first: Sequence[aiohttp.ClientMiddlewareType] = (),
) -> aiohttp.ClientSession:
    """A session with the credentials in `headers` or in a file that changes; `first` sees every request first."""
    tokens = (RotatingToken(token_file),) if token_file else ()
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls),
        headers={**headers, "User-Agent": "vllm-operator"},
        response_class=AnyDepthResponse,
        middlewares=(*first, *tokens),
    )


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
