"""How a request is addressed to one engine, and what its connection says of a failure."""

from __future__ import annotations

from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from collections.abc import Iterator


class Addressed(httpx2.Request):
    """A request as it goes to one engine: the given one with another address. Nothing of it is read once more."""

    def __init__(self, request: httpx2.Request, address: httpx2.URL, host: str, extensions: dict[str, object]) -> None:
        self.method = request.method
        self.url = address
        self.headers = httpx2.Headers(request.headers)
        self.headers["Host"] = host
        self.stream = request.stream
        self.extensions = {**request.extensions, **extensions}
        self.has_own_connection = False


CONNECTS_FOR: ContextVar[Addressed | None] = ContextVar("vllm_client_connects_for", default=None)
"""The request that a task sends."""


class ConnectionNotes:
    """No socket options, which are asked for whenever a connection has been made, by the task that needs it.

    So a request knows whether its connection is its own, or one that the engine may have closed meanwhile. httpx2's
    tracing says so too, but costs each request 7 us. Connections to a proxy ask for none.
    """

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """None; the request is told."""
        request = CONNECTS_FOR.get()
        if request is not None:
            request.has_own_connection = True
        return iter(())


@lru_cache(maxsize=1024)
def engine_address(base: str, path: bytes) -> tuple[httpx2.URL, str]:
    """A path below an engine's base URL, and its header Host.

    Kept, since taking a URL apart costs more than all the choosing.
    """
    url = httpx2.URL(base)
    url = url.copy_with(raw_path=url.raw_path.rstrip(b"/") + path)
    return url, url.netloc.decode("ascii")
