"""Objects of others that concern models, such as PodDisruptionBudgets, as they were when they were last listed.

They are no children: nobody watches them, and they are not in the cache, which holds what the operator made.
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

    def replace(self, namespace: str | None, found: Iterable[tuple[str, T]]) -> None:
        """Take in all that there are with their namespaces, in one namespace or in all."""
        known: defaultdict[str, defaultdict[str, list[T]]] = defaultdict(lambda: defaultdict(list))
        for place, one in found:
            known[place][one.instance].append(one)
        if namespace is None:
            self._known = {}
        self._known.pop(namespace or "", None)
        self._known.update({place: dict(objects) for place, objects in known.items()})

    def of(self, namespace: str, instance: str) -> tuple[T, ...]:
        """Those that may concern a model, by name."""
        here = self._known.get(namespace, {})
        return tuple(sorted((*here.get(instance, ()), *here.get("", ())), key=lambda one: one.name))
