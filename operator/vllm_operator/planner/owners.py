"""Whose an object is: a model's, or somebody else's. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.meta import KIND
from vllm_operator.api.names import INSTANCE, KEPT_FOR, MANAGED_BY, MANAGER, instance_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEPT_KIND: Final = "PersistentVolumeClaim"
"""The one kind of child that may outlive its model, and then has no owner."""


def controlling_model(live: Mapping[str, Any]) -> str | None:
    """Name of the model that controls an object, or that did before it was deleted."""
    controller = _controller(live)
    return str(controller["name"]) if controller and controller["kind"] == KIND else None


def belongs(name: str, live: Mapping[str, Any]) -> bool:
    """Whether a live object is that of the model of this name, or of an earlier one that had it.

    A claim that is kept has no owner: its labels say whose it is, also those that an earlier version gave it.
    """
    if live.get("kind") == _KEPT_KIND and _controller(live) is None:
        labels = live["metadata"].get("labels", {})
        instance = labels.get(INSTANCE) or labels.get(KEPT_FOR)
        return bool(labels.get(MANAGED_BY) == MANAGER and instance == instance_name(name))
    return controlling_model(live) == name


def controlled_by(uid: str, live: Mapping[str, Any]) -> bool:
    """Whether this very model controls the object, and not an earlier one of its name."""
    controller = _controller(live)
    return controller is not None and controller["uid"] == uid


def _controller(live: Mapping[str, Any]) -> Mapping[str, Any] | None:
    references = live["metadata"].get("ownerReferences", [])
    return next((reference for reference in references if reference.get("controller")), None)
