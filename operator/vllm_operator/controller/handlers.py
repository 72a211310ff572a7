"""What kopf watches, and the direct way from its lists and watches to the intake.

kopf hands each event to a task of its own for each object, which remembers the object for ever, wraps it, looks for
causes and handlers, and waits for further events: 0.25 ms of CPU and a kilobyte for a call that takes a tenth of that.
With 3000 models that is most of a start. So events are taken in where they come out of kopf's watch, in their order;
kopf goes on to list, to watch, to begin anew after errors, and sees nothing but versions.

A watch begins with the list of what is there (`sendInitialEvents`, a WatchList): one answer instead of a page after
another, of which neither side ever holds all. Older API servers refuse it, and others never end it: then the kind is
listed in pages, where client-go would fall back too, or wait for ever.

When a list is over, everything in it is in the cache. What was in the cache before it began and is not in it was
deleted while nobody watched, as client-go has it: no second list is needed to know either.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import kopf
from kopf._cogs.clients import watching

from vllm_operator.api.live import live_object
from vllm_operator.cluster.kinds import WATCHED
from vllm_operator.errors import NoStreamedList

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from kopf._cogs.structs.references import Namespace, Resource

    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.controller.intake import Intake, Listing

logger = logging.getLogger(__name__)

_BREATH: Final = 20
"""Events between two turns of everything else: a page of a list holds hundreds, and each takes a tenth of a ms."""

_KINDS: Final = {(*kind.api_version.rpartition("/")[::2], kind.plural): kind for kind in WATCHED}


@dataclasses.dataclass(frozen=True)
class _Way:
    """How what kopf watches is taken in by one operator."""

    intake: Intake
    in_pages: set[tuple[Kind, Namespace]] = dataclasses.field(default_factory=set)
    """What is listed in pages since a list in a watch of it came to nothing."""


_way: ContextVar[_Way] = ContextVar("way")
"""That of the operator whose tasks these are: several may run in one process, as in tests."""

_watched: Final = watching.continuous_watch


def register(registry: kopf.OperatorRegistry) -> None:
    """Have kopf watch the resource, its children and the engines' pods."""
    for kind in WATCHED:
        group, _, version = kind.api_version.rpartition("/")
        watch = kopf.on.event(group=group, version=version, plural=kind.plural, id=kind.plural, registry=registry)
        watch(_nothing)


async def _nothing(**_: Any) -> None:
    """A handler: kopf watches only what has one. No event comes here."""


def take_in(intake: Intake) -> None:
    """Have an intake take in what the watches bring that this task and those of its making begin from now on."""
    watching.continuous_watch = _take_in
    _way.set(_Way(intake))


async def _take_in(
    *, resource: Resource, namespace: Namespace, settings: kopf.OperatorSettings, **options: Any
) -> AsyncIterator[Any]:
    """One list and its watch, from which kopf gets what is no event of an object."""
    way = _way.get(None)
    kind = _KINDS.get((resource.group, resource.version, resource.plural))
    if way is None or kind is None:
        async for event in _watched(resource=resource, namespace=namespace, settings=settings, **options):
            yield event
        return
    streams = (kind, namespace) not in way.in_pages
    chosen = _with_streamed_list(settings) if streams else settings
    stream = _watched(resource=resource, namespace=namespace, settings=chosen, **options)
    listing, count = way.intake.listing(kind, namespace), 0
    try:
        async for event in stream:
            if event is watching.Bookmark.LISTED:
                listing.end()
                yield event
            elif event["type"] == "BOOKMARK":
                yield event
            else:
                _event(way.intake, listing, kind, event)
                count += 1
                if count % _BREATH == 0:
                    await asyncio.sleep(0)
    except NoStreamedList as error:
        logger.debug("%s", error)
    if streams and not listing.is_over:
        way.in_pages.add((kind, namespace))
        logger.info("%s are listed in pages: a list in a watch of them did not come to its end", kind.plural)


def _with_streamed_list(settings: kopf.OperatorSettings) -> kopf.OperatorSettings:
    """The same settings, with which a watch begins with a list. kopf's own watches (of namespaces) have no way back."""
    found = copy.copy(settings)
    found.watching = dataclasses.replace(settings.watching, initial_streaming=True)
    return found


def _event(intake: Intake, listing: Listing, kind: Kind, event: Mapping[str, Any]) -> None:
    """Take in one event. What cannot be read of one object must not end the watch of all others."""
    try:
        live = live_object(event["object"], kind=kind.kind)
        if event["type"] == "DELETED":
            intake.deleted(kind, live)
        else:
            listing.seen(live)
            intake.changed(kind, live, listed=not listing.is_over)
    except Exception:
        logger.exception("unexpected, in an event of %s", kind.plural)
