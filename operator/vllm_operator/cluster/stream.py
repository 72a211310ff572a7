"""What comes inside a watch, and what keeps it from ending the operator or from going on as a dead one.

kopf reads a watch line by line, each an event. It ends the whole operator where one is of type ERROR with another code
than 410, or no JSON; and it begins again at once, as often as it takes, where a watch ends at once. client-go lists
anew after any ERROR, breaks off a watch that brings nothing, and pauses after one that ended early: so does this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

import aiohttp
import orjson

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

logger = logging.getLogger(__name__)

QUIET_SECONDS: Final = 75.0
"""From how long without an event a watch is broken off, and begun again where it stood. API servers send a bookmark
every minute where there is nothing else to send (apiserver, pkg/storage/cacher, `defaultBookmarkFrequency`); a
connection that a firewall has forgotten brings nothing, and no error either, for hours."""

SETTLED_SECONDS: Final = 1.0
"""From how long on a watch without an event counts as one that works, as in client-go: what ends before was refused."""

NO_LIST_SECONDS: Final = 10.0
"""From how long without an event a list in a watch that has not ended counts as one that never will. client-go warns
after as long, and waits on for ever: API servers that do not know such lists send what is there and never say that it
was all, and a proxy may hold back the end for what is to come."""

LIST_ANEW: Final = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"list anew"}}\n'
"""What has kopf begin with a new list: the one ERROR that does not end it."""

_EVENT: Final = b'{"type":"'
_FAILURE: Final = b'{"type":"ERROR"'
_BOOKMARK: Final = b'{"type":"BOOKMARK"'
_LIST_ENDS: Final = b'"k8s.io/initial-events-end":"true"'
_LONGEST_QUOTE: Final = 100


class Fate(Protocol):
    """Who is told how one watch fares."""

    def alive(self) -> None:
        """Something came."""

    def listed(self) -> None:
        """All of the list came with which it began."""

    def succeeded(self) -> None:
        """It works."""

    def failed(self, message: str, *, retry_after: float = 0.0) -> float:
        """It does not; returns in how many seconds to try again."""


class WatchStream:
    """The content of the answer to one watch, as kopf reads it."""

    def __init__(self, content: aiohttp.StreamReader, fate: Fate, *, lists: bool) -> None:
        """`lists`: the watch begins with what is there, up to the bookmark that says so."""
        self._content = content
        self._fate = fate
        self._lists = lists
        self._settled = False

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Whole lines, as they come.

        Raises:
            aiohttp.ClientPayloadError: the connection broke, or brings nothing more: kopf begins again where it stood.
        """
        rest = b""
        while True:
            try:
                news = await self._next(size)
            except (aiohttp.ClientError, OSError) as error:
                yield await self._broken(str(error) or repr(error))
                return
            if not news and self._settled and not rest and not self._lists:
                return  # API servers end every watch after half an hour or so
            if not news:
                yield await self._broken("the watch broke off" if rest else "the watch ended at once")
                return
            lines, found, rest = (rest + news).rpartition(b"\n")
            if not found:
                continue
            failure = _begin_of(_FAILURE, lines)
            events = lines if failure < 0 else lines[:failure].removesuffix(b"\n")
            if events:
                passed = await self._passed(events)
                yield passed
                if passed is LIST_ANEW:
                    return
            if failure >= 0:
                await self._pause(lines[failure:].partition(b"\n")[0])
                yield LIST_ANEW
                return

    def exception(self) -> type[BaseException] | BaseException | None:
        """As aiohttp asks its own streams when it lets go of an answer."""
        return self._content.exception()

    def set_exception(self, error: BaseException) -> None:
        """As aiohttp tells its own streams that it let go of an answer."""
        self._content.set_exception(error)

    async def _next(self, size: int) -> bytes:
        """What comes next; nothing at the end.

        Raises:
            aiohttp.ClientPayloadError: nothing came for a long time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience_seconds):
                return await self._content.read(size)
        if self._settled:
            raise aiohttp.ClientPayloadError(f"nothing came for {self._patience_seconds:.0f} s")
        self._settle()
        return await self._next(size)

    @property
    def _patience_seconds(self) -> float:
        if not self._settled:
            return SETTLED_SECONDS
        return NO_LIST_SECONDS if self._lists else QUIET_SECONDS

    def _settle(self) -> None:
        self._settled = True
        self._fate.succeeded()

    async def _passed(self, events: bytes) -> bytes:
        """Take in what came, and make sure that it is events: these, or what has kopf list anew.

        Raises:
            aiohttp.ClientPayloadError: it is none, or not only. Something between API server and operator wrote it.
        """
        if events.count(b"\n" + _EVENT) + events.startswith(_EVENT) != events.count(b"\n") + 1:
            message = f"the watch brought what is no event: {events[:_LONGEST_QUOTE].decode(errors='replace')!r}"
            await asyncio.sleep(self._fate.failed(message))
            if self._lists:
                return LIST_ANEW
            raise aiohttp.ClientPayloadError(message)
        if self._settled:
            self._fate.alive()
        else:
            self._settle()
        bookmark = _begin_of(_BOOKMARK, events) if self._lists else -1
        if bookmark >= 0 and _LIST_ENDS not in events[bookmark:].partition(b"\n")[0]:
            return await self._broken("the watch does not say where its first list ends")
        if bookmark >= 0:
            self._lists = False
            self._fate.listed()
        return events + b"\n"

    async def _broken(self, message: str) -> bytes:
        """End as a broken connection, after a pause where the watch had not even begun to work.

        A first list that is incomplete has to be asked for anew: the version of the last object that came says nothing
        about those that did not.

        Raises:
            aiohttp.ClientPayloadError: it may go on where it stood.
        """
        if not self._settled or self._lists:
            await asyncio.sleep(self._fate.failed(message))
        if self._lists:
            return LIST_ANEW
        raise aiohttp.ClientPayloadError(message)

    async def _pause(self, line: bytes) -> None:
        """Take in an event of type ERROR."""
        status = _status(line)
        message = f"{status.get('message') or line.decode(errors='replace')} (code {status.get('code')} in the watch)"
        details = status.get("details")
        asked = details.get("retryAfterSeconds") if isinstance(details, dict) else None
        retry_after = float(asked) if isinstance(asked, int) else 0.0
        logger.debug("a watch ended with an error, lists anew: %s", message)
        await asyncio.sleep(self._fate.failed(message, retry_after=retry_after))


def _begin_of(prefix: bytes, lines: bytes) -> int:
    """Where the first line begins that has this prefix; -1 where none has."""
    if lines.startswith(prefix):
        return 0
    found = lines.find(b"\n" + prefix)
    return found + 1 if found >= 0 else -1


def _status(line: bytes) -> dict[str, Any]:
    """The Status in an event; empty where it holds none."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        found = orjson.loads(line)["object"]
        if isinstance(found, dict):
            return found
    return {}
