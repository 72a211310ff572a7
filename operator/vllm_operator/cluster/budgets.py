"""The PodDisruptionBudgets that others made, as they were when they were last listed.

They are no children: nobody watches them, and they are not in the cache, which holds what the operator made.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.planner.budgets import Budget


class ForeignBudgets:
    """Found by the one model that a budget can select, since some clusters make one for each Deployment."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, list[Budget]]] = {}

    def replace(self, namespace: str | None, found: Iterable[tuple[str, Budget]]) -> None:
        """Take in all that there are with their namespaces, in one namespace or in all."""
        known: defaultdict[str, defaultdict[str, list[Budget]]] = defaultdict(lambda: defaultdict(list))
        for place, budget in found:
            known[place][budget.instance].append(budget)
        if namespace is None:
            self._known = {}
        self._known.pop(namespace or "", None)
        self._known.update({place: dict(budgets) for place, budgets in known.items()})

    def of(self, namespace: str, instance: str) -> tuple[Budget, ...]:
        """Those that may select the engines of a model, by name."""
        here = self._known.get(namespace, {})
        return tuple(sorted((*here.get(instance, ()), *here.get("", ())), key=lambda budget: budget.name))
