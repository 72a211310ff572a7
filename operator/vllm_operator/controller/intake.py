"""The way in for changes: each goes into the cache and puts keys into the queue. Nothing here talks to the network."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vllm_operator.api.claims import claims_of_spec
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.kinds import MODEL, PERSISTENT_VOLUME_CLAIM, POD
from vllm_operator.cluster.queue import NamespaceKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.cluster.queue import Queue, QueueKey

logger = logging.getLogger(__name__)


class Intake:
    """Takes in what the watches bring."""

    def __init__(self, cache: Cache, queue: Queue) -> None:
        self._cache = cache
        self._queue = queue

    def found(self, kind: Kind, live: LiveObject) -> bool:
        """An object was asked for, and is there, whatever was known of it. Returns whether that is news."""
        self._cache.revive(live)
        return self.changed(kind, live)

    def changed(self, kind: Kind, live: LiveObject, *, listed: bool = False) -> bool:
        """An object is there, or is another than before. Returns whether that is news.

        Its labels may have named another model until now. A model that a list brings, and that was not known, waits for
        its turn: at a start these are all, and an edit would wait for as many.
        """
        key = Key(live.namespace, live.name)
        before = None if kind is MODEL else self._cache.model_at(kind, key)
        mounted = self._cache.claims_of(key) if kind is MODEL else frozenset()
        known = self._cache.get(MODEL, key) if kind is MODEL else None
        if not self._cache.put(kind, live):
            return False
        ahead = kind is MODEL and was_edited(known, live) and not (listed and known is None)
        for one in self._keys(kind, live):
            self._queue.add(one, ahead=ahead, change=live.version)
        if before is not None:
            self._queue.add(before, change=live.version)
        if kind is MODEL:
            self._enqueue_owners(live, _claims(live) ^ mounted)
        return True

    def deleted(self, kind: Kind, live: LiveObject) -> None:
        """An object is gone."""
        keys = list(self._keys(kind, live))
        if self._cache.remove(kind, live):
            for key in keys:
                self._queue.add(key, ahead=kind is MODEL)
            if kind is MODEL:
                self._enqueue_owners(live, _claims(live))

    def listed(self, kind: Kind, found: Sequence[LiveObject] | None, known: AbstractSet[str]) -> None:
        """What a list of an optional kind brought; None where the API server does not serve the kind.

        Of the objects whose uids were `known` before it was asked, those that it did not bring are gone. Where the kind
        has come or gone, every model is looked at: each may want one.
        """
        for live in found or ():
            self.changed(kind, live)
        living = {live.uid for live in found or ()}
        for _, live in self._cache.items(kind):
            if live.uid in known - living:
                self.deleted(kind, live)
        if self._cache.set_served(kind, served=found is not None):
            self.everything()

    def listing(self, kind: Kind, namespace: str | None) -> Listing:
        """Begin to take in a list of all objects of a kind, in one namespace or in all."""
        return Listing(self, self._cache, kind, namespace)

    def everything(self, namespace: str | None = None) -> None:
        """Have every model looked at, and every namespace that holds a model or what models share; or one of them.

        Most of them need nothing: what changes meanwhile goes ahead.
        """
        models = [key for key, _ in self._cache.items(MODEL) if namespace in (None, key.namespace)]
        shared = {key.namespace for key in models} | self._cache.namespaces_left()
        for key in models:
            self._queue.add(key)
        for name in sorted(shared):
            if namespace in (None, name):
                self._queue.add(NamespaceKey(name))

    def _enqueue_owners(self, live: LiveObject, claims: AbstractSet[str]) -> None:
        """A claim that a model begins, or ceases, to mount by its name may be that of another model."""
        for name in claims:
            claim = self._cache.get(PERSISTENT_VOLUME_CLAIM, Key(live.namespace, name))
            owner = self._cache.model_of(claim) if claim else None
            if owner is not None:
                self._queue.add(owner)

    def _keys(self, kind: Kind, live: LiveObject) -> Iterator[QueueKey]:
        if kind is MODEL:
            yield NamespaceKey(live.namespace)
            yield Key(live.namespace, live.name)
            return
        model = self._cache.model_of(live)
        if model is not None:
            yield model
        elif kind is not POD:
            yield NamespaceKey(live.namespace)


class Listing:
    """One list of a watched kind, from before it is asked for until all of it is in the cache."""

    def __init__(self, intake: Intake, cache: Cache, kind: Kind, namespace: str | None) -> None:
        self._intake = intake
        self._cache = cache
        self._place = (kind, namespace)
        self.is_over = False
        """Whether all of it is in the cache."""
        self._known = {live.uid: live.resource_version for _, live in cache.items(kind)}
        self._unseen = {live.uid: key for key, live in cache.items(kind) if namespace in (None, key.namespace)}
        self._is_old = False
        cache.set_listed(*self._place, listed=False)

    def seen(self, live: LiveObject) -> None:
        """Take in that the list, or the watch after it, holds an object."""
        self._unseen.pop(live.uid, None)
        self._is_old |= live.resource_version < self._known.get(live.uid, 0)

    def end(self) -> None:
        """Take in that the list is over: what was known before it began and is not in it was deleted meanwhile.

        A list that shows an older moment than what was known says nothing of what it does not hold; the look that
        follows each new list finds out (`cluster/sync.py`).
        """
        kind, _ = self._place
        if self._is_old:
            logger.warning("a list of %s shows an older moment than what is known", kind.plural)
            self._unseen = {}
        self._known = {}
        for uid, key in self._unseen.items():
            live = self._cache.get(kind, key)
            if live is not None and live.uid == uid:
                logger.info("%s %s is gone, and no watch said so", kind.kind, key)
                self._intake.deleted(kind, live)
        self._unseen = {}
        self.is_over = True
        self._cache.set_listed(*self._place, listed=True)


def was_edited(known: LiveObject | None, live: LiveObject) -> bool:
    """Whether somebody has changed more of a model than its status: most often that is the operator's own.

    The watch may bring a status before the answer to its write does. Ahead of what waits behind, such a model would
    wait for all those that were applied meanwhile.
    """
    if known is None or (known.uid, known.generation, known.leaving) != (live.uid, live.generation, live.leaving):
        return True
    return (known.labels, known.annotations) != (live.labels, live.annotations)


def _claims(live: LiveObject) -> AbstractSet[str]:
    """The claims that a model mounts by their names."""
    return claims_of_spec(live.body.get("spec"))
