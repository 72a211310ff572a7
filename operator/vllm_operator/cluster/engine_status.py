"""Asking the managers in the engines' pods how they are, by the pods' addresses.

Nothing but words depends on an answer. So nothing is tried again here, and what does not answer, or answers what no
manager does, is an answer too: a sentence about that. What another process said on the port of a manager is not
repeated: it may be anybody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final

import aiohttp
import orjson
from yarl import URL

from vllm_operator.diagnosis.engine_status import EngineStatus, NoAnswer, engine_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TIMEOUT_SECONDS: Final = 2.0
"""From the connection to the last byte. A manager answers from memory, in a millisecond."""

MOST_BYTES: Final = 64 * 1024
"""Of an answer: some forty entries of a time line and an excerpt of a log are 20 KB."""

MOST_AT_ONCE: Final = 32
"""Connections to managers at once. They are no more than the rates of the lookups let come, if each takes its 2 s."""

_OK: Final = 200


class EngineStatusReader:
    """Asks one manager at a time, and at most MOST_AT_ONCE of them side by side."""

    def __init__(self, session: aiohttp.ClientSession, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._session = session
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)

    async def read(self, url: str) -> EngineStatus | NoAnswer:
        """What the manager at a URL says; within the deadline, waiting for others not counted."""
        async with self._slots:
            try:
                return await self._ask(URL(url))
            except TimeoutError:
                return _unreachable(URL(url), f"no answer within {self._timeout_seconds:g} s")
            except (OSError, aiohttp.ServerDisconnectedError) as error:
                number = getattr(error, "errno", None)
                return _unreachable(URL(url), os.strerror(number) if number else "the connection was closed")
            except (aiohttp.ClientError, orjson.JSONDecodeError):
                return _no_manager(URL(url))

    async def document(self, url: str) -> object:
        """What another program of ours answers at a URL, as JSON; None where nothing of the kind comes in time."""
        async with self._slots:
            try:
                content = await self._content(URL(url))
                return None if content is None else orjson.loads(content)
            except (TimeoutError, OSError, aiohttp.ClientError, orjson.JSONDecodeError):
                return None

    async def _ask(self, url: URL) -> EngineStatus | NoAnswer:
        content = await self._content(url)
        return (engine_status(orjson.loads(content)) if content is not None else None) or _no_manager(url)

    async def _content(self, url: URL) -> bytes | None:
        """The body of an answer; None where it is an error, or has too many bytes."""
        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
            content = await _whole(response.content) if response.status == _OK else None
            if content is None:
                response.close()  # what follows is not read, however long it is
        return content


@contextlib.asynccontextmanager
async def engine_status_reader(*, timeout_seconds: float = TIMEOUT_SECONDS) -> AsyncIterator[EngineStatusReader]:
    """A reader with a session of its own: no credentials, no cookies, no proxy, and a connection for each question."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "vllm-operator", "Accept": "application/json", "Accept-Encoding": "identity"},
        auto_decompress=False,  # a few bytes may become gigabytes
        trust_env=False,  # a proxy of the environment reaches no pod
    ) as session:
        yield EngineStatusReader(session, timeout_seconds=timeout_seconds)


async def _whole(stream: aiohttp.StreamReader) -> bytes | None:
    """A body to its end; None where it has too many bytes."""
    content = bytearray()
    async for chunk in stream.iter_any():
        content += chunk
        if len(content) > MOST_BYTES:
            return None
    return bytes(content)


def _unreachable(url: URL, why: str) -> NoAnswer:
    return NoAnswer(f"its manager cannot be reached at {url.authority} ({why}): a NetworkPolicy?")


def _no_manager(url: URL) -> NoAnswer:
    return NoAnswer(f"what answers at {url.authority} is not its manager: has another process its port?")
