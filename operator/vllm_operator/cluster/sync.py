"""Holding the cache against the truth: nothing is decided before it is whole, and what watches lose is found later."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.cluster.cache import Key
from vllm_operator.cluster.kinds import WATCHED
from vllm_operator.cluster.patience import patiently
from vllm_operator.errors import ApiNotFound, StoreWentBack

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.cache import Cache
    from vllm_operator.cluster.client import Client, Identities, Identity
    from vllm_operator.cluster.kinds import Kind

logger = logging.getLogger(__name__)

ON_ITS_WAY_SECONDS: Final = 1.0
"""How long a watch may be behind a list before it is taken for having lost what the list shows."""

MOST_READ: Final = 200
"""Objects that one look reads one by one; where more are missing, the next one comes soon."""

_MOST_CHECKED: Final = 3
_POLL_SECONDS: Final = 0.05
_ASK_AGAIN_SECONDS: Final = 5.0


async def wait_until_synced(
    client: Client, cache: Cache, namespace: str | None = None, *, patience_seconds: float = 0.0
) -> None:
    """Wait until the watches have listed every object that exists, in one namespace or in all.

    An operator that decides earlier takes what it has not seen yet for missing, and writes it again.

    Raises:
        ApiError: the API server does not list the objects of a kind, and did not for `patience_seconds`.
    """
    for kind in WATCHED:
        check = functools.partial(client.check_listable, kind, namespace)
        if namespace is not None:  # one that was listed may be gone since, or the rights there
            await patiently(check, seconds=patience_seconds)
        while not cache.is_listed(kind, namespace):
            await patiently(check, seconds=patience_seconds)
            await _wait_for_list(cache, kind, namespace)


async def drift(client: Client, cache: Cache, namespace: str | None = None) -> list[Drift]:
    """What the cache has wrong of one namespace or of all, kind by kind; a list that shows an older moment is left out.

    A list that contradicts what was known before it was asked for is one of two things. Either the API server has
    shown an older moment than that of its store: its watch cache lags, which it should not let anybody see who asks for
    no particular version. Or the store itself went back in time: etcd was restored from a backup without
    `--bump-revision`, and the cache would refuse the older versions for ever. A GET without a resource version tells
    the two apart: API servers answer it from the store, by a quorum read, and never from their watch cache (apiserver,
    pkg/storage/cacher, `Cacher.Get`). Versions of one kind are comparable numbers (KEP-5504, Kubernetes 1.35).

    Raises:
        StoreWentBack: the store itself is older than what was known.
        ApiError: the API server does not list the objects.
    """
    found = []
    for kind in WATCHED:
        known = Known.of(cache, kind, namespace)
        identities = await client.identities(kind, namespace)
        if not shows_an_older_moment(known, identities):
            found.append(drift_of(kind, known, identities))
            continue
        await _check_store(client, kind, known, identities)
        logger.warning("a list of %s shows an older moment than what is known, lists again", kind.plural)
    return found


@dataclass(frozen=True, slots=True)
class Known:
    """What the cache held of a kind before a list was asked for."""

    objects: Mapping[str, tuple[Key, int]]
    """Name and version of each object by its uid."""
    deletions: Mapping[str, int]
    """Versions of deleted objects, by their uids; of all kinds."""

    @classmethod
    def of(cls, cache: Cache, kind: Kind, namespace: str | None) -> Known:
        """What it holds now, of one namespace or of all."""
        here = ((key, live) for key, live in cache.items(kind) if namespace in (None, key.namespace))
        return cls({live.uid: (key, live.resource_version) for key, live in here}, cache.deletions())

    def version(self, uid: str) -> int:
        """The newest version of an object that was known; 0 where there is none."""
        _, version = self.objects.get(uid, ("", 0))
        return max(version, self.deletions.get(uid, 0))

    @property
    def newest(self) -> tuple[Key, int] | None:
        """Name and version of the object that changed last; None where there is none."""
        return max(self.objects.values(), key=lambda known: known[1], default=None)


@dataclass(frozen=True, slots=True)
class Drift:
    """What the cache has wrong of one kind, by what a list shows."""

    kind: Kind
    gone: tuple[tuple[Key, str], ...]
    """Name and uid of objects that no longer exist: no watch brought their deletion."""
    missed: tuple[Identity, ...]
    """Objects that are new, or newer than what was known when the list was asked for. A watch may bring them yet."""


def drift_of(kind: Kind, known: Known, identities: Identities) -> Drift:
    """Compare. An object in the very version in which it was taken for deleted is there: that was a mistake."""
    living = {identity.uid for identity in identities.items}
    return Drift(
        kind,
        gone=tuple((key, uid) for uid, (key, _) in known.objects.items() if uid not in living),
        missed=tuple(
            identity
            for identity in identities.items
            if identity.resource_version > known.objects.get(identity.uid, ("", 0))[1]
        ),
    )


def shows_an_older_moment(known: Known, identities: Identities) -> bool:
    """Whether a list cannot be newer than what was known before it was asked for."""
    newest = known.newest
    behind = newest is not None and 0 < identities.resource_version < newest[1]
    return behind or any(_is_older(identity, known) for identity in identities.items)


def _is_older(identity: Identity, known: Known) -> bool:
    return identity.resource_version < known.version(identity.uid)


async def _check_store(client: Client, kind: Kind, known: Known, identities: Identities) -> None:
    """Ask the store itself, about a few of the objects that a list shows as older than they were.

    Where it shows none of them, the object that changed last is asked for: one that was made after the list's moment.

    Raises:
        StoreWentBack: it is older than what was known.
        ApiError: it does not answer.
    """
    older = [one for one in identities.items if _is_older(one, known)][:_MOST_CHECKED]
    for one in older:
        with contextlib.suppress(ApiNotFound):  # deleted meanwhile, which says nothing
            live = await client.get(kind, one.namespace, one.name)
            if live.uid == one.uid and live.resource_version < known.version(one.uid):
                raise _went_back(kind, one.namespace, one.name, live.resource_version, known.version(one.uid))
    if older or known.newest is None:
        return
    (namespace, name), version = known.newest
    try:
        seen = (await client.get(kind, namespace, name)).resource_version
    except ApiNotFound:
        seen = 0
    if seen < version:
        raise _went_back(kind, namespace, name, seen, version)


def _went_back(kind: Kind, namespace: str, name: str, seen: int, known: int) -> StoreWentBack:
    now = f"has version {seen}" if seen else "is not there"
    return StoreWentBack(
        f"{kind.kind} {namespace}/{name} {now} and had version {known} before: the API server's store went back in "
        f"time, as when etcd is restored from a backup. Start the operator again: it then knows only what is there"
    )


async def read_missed(client: Client, cache: Cache, found: Iterable[Drift]) -> tuple[list[LiveObject], bool]:
    """The objects that were missed and that no watch has brought since, and whether these are all of them.

    Raises:
        ApiError: the API server does not answer.
    """
    missed = [(one.kind, identity) for one in found for identity in one.missed]
    if missed:  # events that are on their way need not be asked for
        await asyncio.sleep(ON_ITS_WAY_SECONDS)
    left = [(kind, one) for kind, one in missed if not cache.holds(kind, *_name_of(one), one.resource_version)]
    read = await asyncio.gather(*(_read(client, kind, one) for kind, one in left[:MOST_READ]))
    return [live for live in read if live is not None], len(left) <= MOST_READ


def _name_of(identity: Identity) -> tuple[Key, str]:
    return Key(identity.namespace, identity.name), identity.uid


async def _read(client: Client, kind: Kind, identity: Identity) -> LiveObject | None:
    """One object; None where it is gone."""
    with contextlib.suppress(ApiNotFound):
        return await client.get(kind, identity.namespace, identity.name)
    return None


async def listed(client: Client, kind: Kind, namespace: str | None = None) -> list[LiveObject] | None:
    """Our objects of an optional kind, in one namespace or in all; None where the API server does not serve it.

    Raises:
        ApiError: the API server does not say.
    """
    try:
        return [live async for live in client.objects(kind, namespace)]
    except ApiNotFound:
        return None


async def _wait_for_list(cache: Cache, kind: Kind, namespace: str | None) -> None:
    """Wait a while for the watch, whose tries end with a list as soon as the API server gives one."""
    for _ in range(int(_ASK_AGAIN_SECONDS / _POLL_SECONDS)):
        if cache.is_listed(kind, namespace):
            return
        await asyncio.sleep(_POLL_SECONDS)
