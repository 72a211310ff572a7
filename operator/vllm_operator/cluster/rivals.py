"""The autoscalers of others that aim at models, as they were when they were last listed: nobody watches them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ForeignAutoscalers:
    """Found by the model that they aim at."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, list[str]]] = {}

    def replace(self, namespace: str | None, found: Iterable[tuple[str, str, str]]) -> None:
        """Take in all that there are, in one namespace or in all: namespace, model, and kind and name of each."""
        known: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for place, model, told in found:
            known[place][model].append(told)
        if namespace is None:
            self._known = {}
        self._known.pop(namespace or "", None)
        self._known.update({place: dict(models) for place, models in known.items()})

    def of(self, namespace: str, model: str) -> tuple[str, ...]:
        """Kind and name of each that aims at a model, in the order of the alphabet."""
        return tuple(sorted(self._known.get(namespace, {}).get(model, ())))
