"""How the lists and watches of each kind fare, and what keeps one answer to them from ending the operator.

kopf ends its whole operator, and hangs while it does, when a list or a watch is answered with 404 (the
CustomResourceDefinition was deleted), 401 or 410, or for a minute with 403 or 5xx. It goes on, from a new list where
that is needed, when the connection breaks. So every error is made into a broken connection, after a pause. What comes
inside a watch is handled in `stream.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp

from vllm_operator.cluster.backoff import delay_seconds, retry_after_seconds
from vllm_operator.cluster.kinds import MODEL, WATCHED
from vllm_operator.cluster.remedies import outage_of, with_remedy
from vllm_operator.cluster.stream import QUIET_SECONDS, WatchStream
from vllm_operator.errors import NoStreamedList

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.cluster.remedies import Outage

logger = logging.getLogger(__name__)

FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 5.0
TELL_AGAIN_SECONDS: Final = 60.0
"""How often a list or watch that goes on failing for the same reason is logged."""

ANSWER_SECONDS: Final = 30.0
"""How long the API server may take to begin a watch. It sends the head of its answer before the first event, and kopf
would wait for ever: what accepts connections and never answers (a load balancer without backends) is no API server."""

SILENT_SECONDS: Final = 300.0
"""From how long without a sign of life on a kind is taken for not watched any more. A watch that lives shows one at
least every `stream.QUIET_SECONDS`: an event, a bookmark, or another try."""

CALM_SECONDS: Final = 60.0
"""How long a watch has to work before the pauses after its failures begin anew."""

_TROUBLE_FROM: Final = 2
"""Failures in a row from which on a kind counts as not watched: single ones (429, 410) are how API servers work."""

_LONGEST_MESSAGE: Final = 300
_LONGEST_BODY: Final = 65536
_JSON: Final = "application/json"
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
    """Where the last list or watch failed; times are in seconds of the monotonic clock."""

    since: float
    count: int = 0
    """Failures in a row."""
    tries: int = 0
    """Failures in a row, or soon after each other: what the next pause is reckoned by."""
    message: str = ""
    over_at: float | None = None
    """Since when it works again."""
    told: str = ""
    """The message that was logged last."""
    told_at: float = 0.0


class Watches:
    """What cannot be listed or watched now, and why; and what nobody watches any more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failing: dict[Place, _Failing] = {}
        self._signs: dict[Place, float] = {}
        """When each showed its last sign of life, or is to show the next one where that is later."""
        self._heard: dict[Place, float] = {}
        """When the API server last said something about each."""
        self._followed: set[Place] = set()
        """What a watch was opened for at least once."""
        self._told_at: dict[Outage, float] = {}
        """When each outage was logged last: one of all kinds is one line, and not one for each."""
        self.recovered = asyncio.Event()
        """Set when deletions may have been missed: a kind was listed anew, or can be watched again after a while."""

    @property
    def troubles(self) -> Mapping[str, str]:
        """What cannot be watched now, and what the API server says."""
        found = {str(place): failing for place, failing in self._failing.items() if failing.over_at is None}
        return {name: failing.message for name, failing in sorted(found.items()) if failing.count >= _TROUBLE_FROM}

    @property
    def silent(self) -> Mapping[str, float]:
        """Whose watch has ended without a word, and for how many seconds.

        kopf leaves a kind unwatched, for good and without an error, when the task that watches it is cancelled by
        mistake. An API server that does not answer makes no kind silent: trying again is a sign of life.
        """
        ages = {str(place): self._clock() - at for place, at in self._signs.items()}
        return {name: age for name, age in sorted(ages.items()) if age > SILENT_SECONDS}

    @property
    def ages(self) -> Mapping[str, float]:
        """How many seconds ago each kind was last heard of; of several namespaces the longest."""
        found: dict[str, float] = {}
        for place, at in self._heard.items():
            name = place.kind.plural
            found[name] = max(found.get(name, 0.0), self._clock() - at)
        return found

    def heard(self, place: Place) -> None:
        """Take in that the API server said something about it: an answer, an event or a bookmark."""
        self._heard[place] = self._clock()

    def has_begun(self, kind: Kind) -> bool:
        """Whether a list or a watch of the kind was ever asked for."""
        return any(place.kind is kind for place in self._signs)

    def alive(self, place: Place, *, for_seconds: float = 0.0) -> None:
        """Take in that it is still being watched, and will say so again after this time at the latest."""
        self._signs[place] = self._clock() + for_seconds

    def listed(self, place: Place) -> None:
        """Take in that a list was answered.

        It does not end a row of failures of the watch: one that fails at once after every list would otherwise be tried
        again without ever a longer pause.
        """
        self.heard(place)
        if place in self._followed:
            self.alive(place)
            self.recovered.set()
        else:
            self.succeeded(place)

    def opened(self, place: Place) -> None:
        """Take in that a watch was answered."""
        self.alive(place)
        self.heard(place)
        self._followed.add(place)

    def succeeded(self, place: Place) -> None:
        """Take in that a list or a watch works."""
        self.alive(place)
        failing = self._failing.get(place)
        if failing is None or failing.over_at is not None:
            return
        failing.over_at = self._clock()
        if failing.count >= _TROUBLE_FROM:
            logger.info("%s can be watched again after %.0f s", place, failing.over_at - failing.since)
            self.recovered.set()
        if not self.troubles:
            self._told_at.clear()

    def failed(self, place: Place, message: str, *, retry_after: float = 0.0) -> float:
        """Take in that a list or a watch failed, and say in how many seconds to try again."""
        now = self._clock()
        failing = self._begun(place, now)
        first, longest = FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS
        delay = delay_seconds(failing.tries, first=first, longest=longest, at_least=retry_after)
        self.alive(place, for_seconds=delay)
        failing.count += 1
        failing.tries += 1
        failing.message = message
        news = message != failing.told or now >= failing.told_at + TELL_AGAIN_SECONDS
        if failing.count >= _TROUBLE_FROM and news:
            failing.told, failing.told_at = message, now
            self._tell(place, message, now)
        return delay

    def _tell(self, place: Place, message: str, now: float) -> None:
        """Log a failure that lasts; of one that others share, the first one is enough: /readyz has them all."""
        outage = outage_of(message, of_definition=place.kind is MODEL)
        known = outage is not None and now < self._told_at.get(outage, -math.inf) + TELL_AGAIN_SECONDS
        if outage is not None and not known:
            self._told_at[outage] = now
        level = logging.DEBUG if known else logging.WARNING
        logger.log(level, "cannot watch %s, tries again until it can: %s", place, with_remedy(message, outage))

    def _begun(self, place: Place, now: float) -> _Failing:
        """The row of failures that one more belongs to."""
        failing = self._failing.get(place)
        if failing is None or (failing.over_at is not None and now >= failing.over_at + CALM_SECONDS):
            failing = self._failing[place] = _Failing(since=now)
        elif failing.over_at is not None:
            failing.since, failing.count, failing.over_at = now, 0, None
        return failing


@dataclass(frozen=True, slots=True)
class _Fate:
    """How one watch fares, for those who need not know which it is."""

    watches: Watches
    place: Place

    def alive(self) -> None:
        """Something came."""
        self.watches.heard(self.place)
        self.watches.alive(self.place, for_seconds=QUIET_SECONDS)

    def listed(self) -> None:
        """All of the list came with which it began."""
        self.watches.listed(self.place)
        self.watches.opened(self.place)
        self.alive()

    def succeeded(self) -> None:
        """It works."""
        self.watches.succeeded(self.place)
        self.alive()

    def failed(self, message: str, *, retry_after: float = 0.0) -> float:
        """It does not; returns in how many seconds to try again."""
        return self.watches.failed(self.place, message, retry_after=retry_after)


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
            NoStreamedList: a watch that was to begin with a list was answered as if there were no such thing.
        """
        place = watched_place(request.url.path)
        if place is None:
            return await handler(request)
        self._watches.alive(place, for_seconds=ANSWER_SECONDS)
        streams_list = _streams_list(request)
        if "watch" in request.url.query:
            request.headers["Accept-Encoding"] = "identity"  # API servers compress the watches that begin with a list
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                response = await handler(request)
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            message, retry_after = str(error) or f"no answer within {ANSWER_SECONDS:.0f} s", 0.0
            lists_instead = streams_list and not isinstance(error, aiohttp.ClientConnectionError)
        else:
            if response.status < _ERROR and response.content_type == _JSON:
                return self._taken(place, request, response)
            lists_instead = streams_list and response.status not in _PASSING
            if response.status >= _ERROR and not lists_instead and not _passes(request, response.status):
                return response
            shape = "" if response.status >= _ERROR else f", {response.content_type}"
            message = f"{_words(await _text(response))} (HTTP {response.status}{shape})"
            retry_after = retry_after_seconds(response.headers.get("Retry-After"))
            response.close()
        await asyncio.sleep(self._watches.failed(place, message, retry_after=retry_after))
        if lists_instead:
            raise NoStreamedList(f"{place}: {message}")
        raise aiohttp.ClientPayloadError(f"{place}: {message}")

    def _taken(
        self, place: Place, request: aiohttp.ClientRequest, response: aiohttp.ClientResponse
    ) -> aiohttp.ClientResponse:
        """An answer for kopf; a watch is read through what keeps the operator alive."""
        if "watch" not in request.url.query:
            self._watches.listed(place)
            return response
        lists = _streams_list(request)
        if lists:
            self._watches.alive(place)
        else:
            self._watches.opened(place)
        stream = WatchStream(response.content, _Fate(self._watches, place), lists=lists)
        response.content = stream  # type: ignore[assignment] # kopf calls its `iter_chunked` alone
        return response


def _streams_list(request: aiohttp.ClientRequest) -> bool:
    """Whether it is a watch that begins with a list of what is there (a WatchList, as API servers call it)."""
    return request.url.query.get("sendInitialEvents") == "true"


def _words(text: str) -> str:
    """What an answer says: the message of a Status, else all of it, on one line."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        text = str(json.loads(text)["message"])
    return " ".join(text.split())[:_LONGEST_MESSAGE]


async def _text(response: aiohttp.ClientResponse) -> str:
    """The beginning of a body that is no list and no watch; nothing where it breaks off or takes too long."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            return (await response.content.read(_LONGEST_BODY)).decode(errors="replace")
    return ""


def _passes(request: aiohttp.ClientRequest, status: int) -> bool:
    """Whether trying again helps: always with a list, which begins anew."""
    return "watch" not in request.url.query or status in _PASSING or status >= _SERVER_ERROR


@functools.lru_cache(maxsize=1024)
def watched_place(path: str) -> Place | None:
    """What is listed or watched under this path of the API server, which may stand behind a prefix."""
    for kind in WATCHED:
        root, _, plural = kind.path().rpartition("/")
        found = re.search(rf"{re.escape(root)}(?:/namespaces/([^/]+))?/{re.escape(plural)}$", path)
        if found:
            return Place(kind, found[1] or "")
    return None
