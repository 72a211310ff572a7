"""Objects of others that concern models, such as PodDisruptionBudgets, as they were when they were last listed.

They are no children: nobody watches them, and they are not in the cache, which holds what the operator made. A watch of
them would bring every change of every policy and autoscaler of a cluster, of which few concern a model.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class Concerning(Protocol):
    """An object that concerns a model: it selects its engines, or scales it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def instance(self) -> str:
        """The one model that it can concern, by the value of its engines' label; empty where it may be several."""


T = TypeVar("T", bound=Concerning)


class ForeignObjects(Generic[T]):
    """Found by the one model that each can concern, since some clusters make one for each Deployment."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, list[T]]] = {}

    def replace(self, namespace: str | None, found: Iterable[tuple[str, T]]) -> frozenset[str]:
        """Take in all that there are with their namespaces, in one namespace or in all.

        Returns the namespaces in which there is something new, something less or something else.
        """
        known: defaultdict[str, defaultdict[str, list[T]]] = defaultdict(lambda: defaultdict(list))
        for place, one in found:
            known[place][one.instance].append(one)
        before = self._known
        kept = {} if namespace is None else {place: here for place, here in before.items() if place != namespace}
        self._known = {**kept, **{place: dict(objects) for place, objects in known.items()}}
        places = before.keys() | self._known.keys()
        return frozenset(place for place in places if before.get(place) != self._known.get(place))

    def of(self, namespace: str, instance: str) -> tuple[T, ...]:
        """Those that may concern a model, by name."""
        here = self._known.get(namespace, {})
        return tuple(sorted((*here.get(instance, ()), *here.get("", ())), key=lambda one: one.name))
