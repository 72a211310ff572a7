"""Why a pod's claims keep it from every node: claims, their Events and their volumes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.diagnosis.events import latest_event
from vllm_operator.diagnosis.known import Recognized
from vllm_operator.render.untyped import items, part, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_CLAIMS: Final = 4
"""Claims of one pod that are looked at."""

NO_CLAIM_SHOWS: Final = {
    "ClaimUnbound": "its claims have volumes by now",
    "VolumeElsewhere": "from where its volumes can be reached is not known",
}
"""Causes of the topic `scheduling` that claims explain, and nodes do not, with the remark where no claim shows it."""

_SAID_OF_CLAIMS: Final = frozenset({"ProvisioningFailed", "FailedBinding", "VolumeMismatch", "ExternalProvisioning"})
"""Reasons of the Events about a claim that has no volume (kubernetes pkg/controller/volume/events)."""

_PLACES: Final = {
    "topology.kubernetes.io/zone": "zone",
    "failure-domain.beta.kubernetes.io/zone": "zone",
    "topology.kubernetes.io/region": "region",
    "kubernetes.io/hostname": "node",
}
"""Labels by which a volume says from where it can be reached."""


@dataclass(frozen=True, slots=True)
class ClaimSeen:
    """A claim of a pod."""

    name: str
    is_bound: bool
    said: str = ""
    """What was last said of a claim that has no volume; empty where nothing was."""
    place: str = ""
    """From where alone its volume can be reached; empty where from everywhere, or that is not known."""


def claim_seen(
    claim: Mapping[str, Any], events: Iterable[Mapping[str, Any]] = (), volume: Mapping[str, Any] | None = None
) -> ClaimSeen:
    """A claim, with the Events about it and its volume, as far as they were read."""
    event = latest_event(events, _SAID_OF_CLAIMS)
    return ClaimSeen(
        name=str(claim["metadata"]["name"]),
        is_bound=part(claim, "status").get("phase") == "Bound",
        said=str(event.get("message") or "") if event else "",
        place=place_of(volume or {}),
    )


def place_of(volume: Mapping[str, Any]) -> str:
    """From where alone a volume can be reached, such as `zone eu-1a`; empty where it says nothing that is known."""
    for term in items(volume, "spec", "nodeAffinity", "required", "nodeSelectorTerms"):
        for one in items(term, "matchExpressions"):
            kind = _PLACES.get(str(one.get("key")))
            if kind and one.get("operator") == "In":
                return f"{kind} {' or '.join(words(one, 'values'))}"
    return ""


def cause_of_claims(claims: Iterable[ClaimSeen]) -> Recognized | None:
    """What keeps a pod from every node, of all its claims; None where nothing of it shows."""
    seen = tuple(claims)
    unbound = next((claim for claim in seen if not claim.is_bound), None)
    if unbound:
        said = f": {unbound.said}" if unbound.said else ""
        return Recognized("ClaimUnbound", (("claims", f"claim {unbound.name} has no volume{said}"),))
    bound = next((claim for claim in seen if claim.place), None)
    if bound:
        text = f"the volume of claim {bound.name} can be reached from {bound.place} alone"
        return Recognized("VolumeElsewhere", (("volumes", text),))
    return None
