"""Holding the cache against the truth: nothing is decided before it is whole, and lost deletions are found later."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Final

from vllm_operator.cluster.kinds import WATCHED
from vllm_operator.cluster.patience import patiently
from vllm_operator.errors import ApiNotFound

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.cache import Cache, Key
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.kinds import Kind

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


async def stale_objects(client: Client, cache: Cache, namespace: str | None = None) -> list[tuple[Kind, Key, str]]:
    """Objects in the cache, of one namespace or of all, that no longer exist: no watch brought their deletion.

    Raises:
        ApiError: the API server does not list the objects.
    """
    found = []
    for kind in WATCHED:
        before = {live.uid: key for key, live in cache.items(kind) if namespace in (None, key.namespace)}
        living = {identity.uid async for identity in client.identities(kind, namespace)}
        found += [(kind, key, uid) for uid, key in before.items() if uid not in living]
    return found


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
