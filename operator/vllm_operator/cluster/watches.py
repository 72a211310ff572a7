"""How the lists and watches of each kind fare, and what keeps one answer to them from ending the operator.

kopf ends its whole operator, and hangs while it does, when a list or a watch is answered with 404 (the
CustomResourceDefinition was deleted), 401 or 410, or for a minute with 403 or 5xx. It goes on, from a new list where
that is needed, when the connection breaks. So every error is made into a broken connection, after a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp

from vllm_operator.cluster.backoff import delay_seconds, retry_after_seconds
from vllm_operator.cluster.kinds import WATCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.cluster.kinds import Kind

logger = logging.getLogger(__name__)

FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 5.0
TELL_AGAIN_SECONDS: Final = 60.0
"""How often a list or watch that goes on failing for the same reason is logged."""

_TROUBLE_FROM: Final = 2
"""Failures in a row from which on a kind counts as not watched: single ones (429, 410) are how API servers work."""

_LONGEST_MESSAGE: Final = 300
_ERROR, _SERVER_ERROR = 400, 500
_PASSING: Final = frozenset({401, 403, 404, 429})
"""Answers to a watch that may be others a moment later. Any other error says that the request itself is wrong, and kopf
would send the same one for ever."""


class Place(NamedTuple):
    """What one watch is about."""

    kind: Kind
    namespace: str = ""
    """Empty for all of them."""

    def __str__(self) -> str:
        """As logs have it."""
        return f"{self.kind.plural} in {self.namespace}" if self.namespace else self.kind.plural


@dataclass(slots=True)
class _Failing:
    """A place whose last list or watch failed; times are in seconds of the monotonic clock."""

    since: float
    count: int = 0
    message: str = ""
    told: str = ""
    """The message that was logged last."""
    told_at: float = 0.0


class Watches:
    """Which kinds cannot be listed or watched now, and why."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failing: dict[Place, _Failing] = {}
        self._begun: set[Place] = set()
        self.recovered = asyncio.Event()
        """Set when a kind can be watched again that could not be for a while: deletions may have been missed."""

    @property
    def troubles(self) -> Mapping[str, str]:
        """What cannot be watched now, and what the API server says."""
        found = sorted(self._failing.items(), key=lambda item: str(item[0]))
        return {str(place): failing.message for place, failing in found if failing.count >= _TROUBLE_FROM}

    def has_begun(self, kind: Kind) -> bool:
        """Whether a list or a watch of the kind was ever asked for."""
        return any(place.kind is kind for place in self._begun)

    def succeeded(self, place: Place) -> None:
        """Take in that a list or a watch was answered."""
        self._begun.add(place)
        failing = self._failing.pop(place, None)
        if failing is not None and failing.count >= _TROUBLE_FROM:
            logger.info("%s can be watched again after %.0f s", place, self._clock() - failing.since)
            self.recovered.set()

    def failed(self, place: Place, message: str, *, retry_after: float = 0.0) -> float:
        """Take in that one failed, and say in how many seconds to try again."""
        self._begun.add(place)
        now = self._clock()
        failing = self._failing.setdefault(place, _Failing(since=now))
        first, longest = FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS
        delay = delay_seconds(failing.count, first=first, longest=longest, at_least=retry_after)
        failing.count += 1
        failing.message = message
        news = message != failing.told or now >= failing.told_at + TELL_AGAIN_SECONDS
        if failing.count >= _TROUBLE_FROM and news:
            failing.told, failing.told_at = message, now
            logger.warning("cannot watch %s, tries again until it can: %s", place, message)
        return delay


class PatientWatch:
    """Middleware of the session that kopf lists and watches with; the requests of our own client do not pass here."""

    def __init__(self, watches: Watches) -> None:
        self._watches = watches

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request.

        Raises:
            aiohttp.ClientPayloadError: a list or a watch was answered with an error, or its connection broke.
        """
        place = watched_place(request.url.path)
        if place is None:
            return await handler(request)
        try:
            response = await handler(request)
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            message, retry_after = str(error) or repr(error), 0.0
        else:
            if response.status < _ERROR:
                self._watches.succeeded(place)
            if response.status < _ERROR or not _passes(request, response.status):
                return response
            message = f"{_words(await response.text(errors='replace'))} (HTTP {response.status})"
            retry_after = retry_after_seconds(response.headers.get("Retry-After"))
        await asyncio.sleep(self._watches.failed(place, message, retry_after=retry_after))
        raise aiohttp.ClientPayloadError(f"{place}: {message}")


def _words(text: str) -> str:
    """What an answer says: the message of a Status, else all of it, on one line."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        text = str(json.loads(text)["message"])
    return " ".join(text.split())[:_LONGEST_MESSAGE]


def _passes(request: aiohttp.ClientRequest, status: int) -> bool:
    """Whether trying again helps: always with a list, which begins anew."""
    return "watch" not in request.url.query or status in _PASSING or status >= _SERVER_ERROR


def watched_place(path: str) -> Place | None:
    """What is listed or watched under this path of the API server, which may stand behind a prefix."""
    for kind in WATCHED:
        root, _, plural = kind.path().rpartition("/")
        found = re.search(rf"{re.escape(root)}(?:/namespaces/([^/]+))?/{re.escape(plural)}$", path)
        if found:
            return Place(kind, found[1] or "")
    return None
