"""Which part of the cluster an operator follows: which namespaces, which models in them, and whose children."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.api.names import OPERATOR_LABEL, managed_selector
from vllm_operator.cluster.kinds import MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.settings import Settings

_FORBIDDEN: Final = "(HTTP 403)"


@dataclass(frozen=True, slots=True)
class Scope:
    """What of the cluster concerns the operator. The default is everything that no other release is named for."""

    namespaces: tuple[str, ...] = ()
    """Empty: all of them."""
    release: str = ""
    """Name of the operator's release; empty for the default one."""
    model_selector: str = ""
    """Label selector of the models; empty: none."""

    @classmethod
    def of(cls, settings: Settings) -> Scope:
        """The scope that the settings name; a namespace that is there twice counts once."""
        namespaces = (name.strip() for name in settings.namespaces.split(","))
        return cls(tuple(dict.fromkeys(filter(None, namespaces))), settings.name, settings.model_selector.strip())

    @property
    def each(self) -> tuple[str | None, ...]:
        """What one list or watch of each kind is about: each namespace, or all of them at once (None)."""
        return self.namespaces or (None,)

    @property
    def is_clusterwide(self) -> bool:
        """Whether all namespaces are followed."""
        return not self.namespaces

    def selector(self, kind: Kind) -> str:
        """Label selector for the lists and watches of a kind; empty where everything concerns the operator.

        A model with the label of a release is that release's. A named release without any other limit follows no model
        but those: beside a default one, it would have all models in common with it.
        """
        if kind is not MODEL:
            return managed_selector(self.release)
        if not self.release:
            return ",".join(filter(None, (self.model_selector, f"!{OPERATOR_LABEL}")))
        limited = self.namespaces or self.model_selector
        return self.model_selector if limited else f"{OPERATOR_LABEL}={self.release}"


def not_waiting(troubles: Mapping[str, str], scope: Scope, followed: frozenset[str]) -> dict[str, str]:
    """What keeps an operator from following the cluster, of what cannot be watched (`Watches.troubles`).

    A namespace of a list that forbids it is none: it does not exist, no longer or not yet, or its Role does not. The
    others are followed all the same, as long as there are any.
    """
    if scope.is_clusterwide or not followed:
        return dict(troubles)
    return {place: message for place, message in troubles.items() if not message.endswith(_FORBIDDEN)}


EVERYTHING: Final = Scope()
"""The scope of the default release where nothing is set."""
