"""Who writes `spec.replicas` of an autoscaled model: the autoscaler alone, whatever manifests say. Pure.

The API server fills in 1 where a manifest has no `replicas`. That is harmless as long as nobody had set it, and takes
engines away in the moment in which `replicas: 3` leaves a manifest: both kinds of `kubectl apply` make 1 of it then. So
a number that came with an edit of the resource, and not through its scale subresource, is not followed: the operator
puts the number back that was there, and says so. `metadata.managedFields` says who wrote it (the format: "Field
Management" in the documentation of server-side apply).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import ConditionType, by_type
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import instance_name
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.live import LiveObject
    from vllm_operator.api.spec.autoscaling import Autoscaling

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation in which client-side `kubectl apply` keeps the manifest."""

_FIELD: Final = "f:replicas"
_SCALE: Final = "scale"
_BY_HAND: Final = "kubectl"
_HELD: Final = "the manifest of"
"""How a warning begins that a manifest sets the number: the status remembers it until the next edit."""


@dataclass(frozen=True, slots=True)
class ReplicasWriter:
    """Who last changed `spec.replicas`."""

    manager: str
    """Field manager: the program's name, as it says itself."""
    scaled: bool
    """Whether it went through the scale subresource, as autoscalers and `kubectl scale` do."""
    applier: str = ""
    """Whose manifest holds the field too, by server-side apply; empty where nobody's does."""

    @property
    def by_hand(self) -> bool:
        """Whether it was `kubectl scale`."""
        return self.scaled and self.manager.startswith(_BY_HAND)


def entries_of(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `metadata.managedFields` says of `spec.replicas` alone, in the same form."""
    return [
        {
            **{name: one[name] for name in ("manager", "operation", "subresource") if name in one},
            "fieldsV1": {"f:spec": {_FIELD: {}}},
        }
        for one in items(raw, "metadata", "managedFields")
        if _FIELD in part(one, "fieldsV1", "f:spec")
    ]


def writer_of(raw: Mapping[str, Any]) -> ReplicasWriter | None:
    """Who last changed `spec.replicas`; None where nobody has, or the resource does not say."""
    entries = entries_of(raw)
    if not entries:
        return None
    last = max(entries, key=lambda one: one.get("subresource") == _SCALE)
    manifests = (one for one in entries if one.get("operation") == "Apply" and one.get("subresource") != _SCALE)
    appliers = (str(one.get("manager", "")) for one in manifests)
    return ReplicasWriter(str(last.get("manager", "")), last.get("subresource") == _SCALE, next(appliers, ""))


def replicas_to_keep(model: LiveObject, scaling: Autoscaling, children: Mapping[ObjectKey, LiveObject]) -> int | None:
    """The number of engines to put back; None where `spec.replicas` is to be followed as it is.

    A number whose writer is not known was scaled, once there is an autoscaler: the API server takes down who scales
    only where the field had an owner before, and it has none after a server-side apply without it. In the edit that
    brings the autoscaler, and in that which takes the number out of a manifest, it is what the API server fills in.
    """
    spec = model.body["spec"]
    if spec.get("suspend") or model.status.get("observedGeneration") == model.generation:
        return None  # what has been told in a status was followed: only an edit since then is judged
    writer, held = writer_of(model.body), any(told.startswith(_HELD) for told in model.status.get("warnings") or ())
    followed = ConditionType.AUTOSCALED in by_type(model.status) and not held
    if writer.scaled if writer else followed:
        return None
    deployment = children.get(ObjectKey("Deployment", instance_name(model.name)))
    there = deployment.body["spec"].get("replicas", 1) if deployment else scaling.fewest_serving
    kept = min(max(there, scaling.fewest_serving), scaling.max_replicas)
    return None if kept == spec.get("replicas", 1) else int(kept)


def is_in_the_manifest(raw: Mapping[str, Any]) -> bool:
    """Whether the manifest that `kubectl apply` (client-side) was last given sets `spec.replicas`."""
    text = part(raw, "metadata", "annotations").get(LAST_APPLIED)
    if not isinstance(text, str):
        return False
    try:
        return "replicas" in part(json.loads(text), "spec")
    except (ValueError, RecursionError):  # somebody has written something else there
        return False


def told_of_writer(raw: Mapping[str, Any]) -> str:
    """What there is to tell of a number that was not the autoscaler's; empty where there is nothing."""
    writer = writer_of(raw)
    applier = writer.applier if writer else ""
    if applier or is_in_the_manifest(raw):
        return (
            f"{_HELD} {applier or 'kubectl apply'} sets spec.replicas, which spec.autoscaling owns: it is not "
            "followed; take it out of the manifest"
        )
    if writer is not None and writer.by_hand:
        return (
            f"spec.replicas was set by hand ({writer.manager}), and spec.autoscaling owns it: it goes on from that "
            "number. To hold one set minReplicas and maxReplicas, and to take the engines away spec.suspend: "
            f"`kubectl edit vllmmodel {raw['metadata']['name']}`"
        )
    return ""
