"""Whose an object is: a model's, or somebody else's. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.api import revisions
from vllm_operator.api.meta import KIND
from vllm_operator.api.names import (
    DESIRED_HASH,
    INSTANCE,
    KEPT_FOR,
    MANAGED_BY,
    MANAGER,
    child_names,
    instance_name,
    is_device_template_name,
    release_of,
    selector_labels,
)
from vllm_operator.render import devices

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject

_KEPT_KIND: Final = "PersistentVolumeClaim"
"""The one kind of child that may outlive its model, and then has no owner."""


def controlling_model(live: LiveObject) -> str | None:
    """Name of the model that controls an object, or that did before it was deleted."""
    controller = live.controller
    return controller.name if controller and controller.kind == KIND else None


def belongs(name: str, live: LiveObject, release: str = "") -> bool:
    """Whether a live object is that of the model of this name, or of an earlier one that had it.

    An object without an owner is judged by the marks that the operator put on it. Objects that have another
    controller are somebody else's, whatever they carry; and so are those of another release of the operator, which
    may follow another model of this name, or have followed this one before.
    """
    if release_of(live.labels) != release:
        return False
    if live.controller is None:
        return is_kept_claim(name, live, release) or is_orphan(name, live, release)
    return controlling_model(live) == name


def is_of_another_release(live: LiveObject, release: str) -> bool:
    """Whether another release of the operator than this one has made an object, for whichever model."""
    made = live.labels.get(MANAGED_BY) == MANAGER and DESIRED_HASH in live.annotations
    return made and release_of(live.labels) != release


def is_kept_claim(name: str, live: LiveObject, release: str = "") -> bool:
    """Whether a live object is a claim that outlives the models of this name, as the user wants it.

    Its labels say whose it is, also those that an earlier version of the operator gave it.
    """
    instance = live.labels.get(INSTANCE) or live.labels.get(KEPT_FOR)
    managed = live.labels.get(MANAGED_BY) == MANAGER and instance == instance_name(name)
    ours = managed and release_of(live.labels) == release
    return live.kind == _KEPT_KIND and live.controller is None and ours


def is_orphan(name: str, live: LiveObject, release: str = "") -> bool:
    """Whether a live object was made for a model of this name, and has lost its owner.

    `kubectl delete --cascade=orphan` leaves such objects, and so does a backup that is restored without owners. They
    are told from others as Helm does it, by a manager's label, the name of what they belong to and an annotation that
    only the manager writes. Labels alone prove nothing: people copy those of the operator to group what is theirs.
    Field managers prove no more, since whoever creates an object may claim any, and a restored one has none; nor is
    an owner reference a better proof, for the same reason. Whoever may create a Secret in a namespace is trusted there.
    A copy that somebody keeps of a child has all its marks, but not its name. What another release has left is not
    taken: that release may follow the next model of the name.
    """
    if live.controller is not None or live.kind == _KEPT_KIND:
        return False
    labels = {MANAGED_BY: MANAGER, **selector_labels(instance_name(name))}
    marked = DESIRED_HASH in live.annotations and labels.items() <= live.labels.items()
    ours = release_of(live.labels) == release
    named = live.name in child_names(instance_name(name)) or _is_revision(name, live) or _is_device_template(name, live)
    return marked and named and ours


def _is_revision(name: str, live: LiveObject) -> bool:
    return live.kind == revisions.KIND and revisions.is_revision_name(instance_name(name), live.name)


def _is_device_template(name: str, live: LiveObject) -> bool:
    return live.kind == devices.KIND and is_device_template_name(instance_name(name), live.name)


def controlled_by(uid: str, live: LiveObject) -> bool:
    """Whether this very model controls the object, and not an earlier one of its name."""
    return live.controller is not None and live.controller.uid == uid


def is_managed(live: LiveObject, release: str = "") -> bool:
    """Whether an object that has no owner, as those that the models of a namespace share, is this release's."""
    return live.labels.get(MANAGED_BY) == MANAGER and release_of(live.labels) == release
