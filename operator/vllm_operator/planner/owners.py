"""Whose an object is: a model's, or somebody else's. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.api.meta import KIND
from vllm_operator.api.names import MANAGED_BY, MANAGER, instance_name, selector_labels

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject

_KEPT_KIND: Final = "PersistentVolumeClaim"
"""The one kind of child that may outlive its model, and then has no owner."""


def controlling_model(live: LiveObject) -> str | None:
    """Name of the model that controls an object, or that did before it was deleted."""
    controller = live.controller
    return controller.name if controller and controller.kind == KIND else None


def belongs(name: str, live: LiveObject) -> bool:
    """Whether a live object is that of the model of this name, or of an earlier one that had it.

    A claim that the user wants kept has no owner: its labels say whose it is.
    """
    if live.kind == _KEPT_KIND and live.controller is None:
        wanted = {MANAGED_BY: MANAGER, **selector_labels(instance_name(name))}
        return wanted.items() <= live.labels.items()
    return controlling_model(live) == name


def controlled_by(uid: str, live: LiveObject) -> bool:
    """Whether this very model controls the object, and not an earlier one of its name."""
    return live.controller is not None and live.controller.uid == uid


def is_managed(live: LiveObject) -> bool:
    """Whether an object that has no owner, as those that the models of a namespace share, is the operator's."""
    return live.labels.get(MANAGED_BY) == MANAGER
