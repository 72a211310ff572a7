"""What becomes of a claim that the operator has made and that its model's spec does not ask for any more. Pure.

Data is never deleted by an edit of something else. A claim goes only where no spec of the namespace mounts it, the
engines have been replaced by such that do not, and no pod at all mounts it. One that a spec goes on mounting by its
name is handed over: it loses its owner, or garbage collection would still take it along with the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.claims import claims_of_pod, claims_of_spec
from vllm_operator.api.names import DESIRED_HASH, INSTANCE, KEPT_FOR, cache_name, instance_name
from vllm_operator.planner.owners import belongs, controlled_by, controlling_model
from vllm_operator.planner.rollout import is_through
from vllm_operator.planner.workload import live_workload
from vllm_operator.render.untyped import part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_operator.api.live import LiveObject
    from vllm_operator.planner.plan import Observation

CLAIM: Final = "PersistentVolumeClaim"


@dataclass(frozen=True, slots=True)
class ClaimsSeen:
    """What has to be known of claims beside the model's children."""

    of_others: frozenset[str] = frozenset()
    """Claims of this model's children that the specs of other models in the namespace mount."""
    on_one_node: frozenset[str] = frozenset()
    """Claims that this model's spec mounts and that pods on two nodes cannot use at the same time."""
    borrowed: tuple[LiveObject, ...] = ()
    """Live claims that this model's spec mounts and another model controls."""
    mounted_by: Mapping[str, str] | None = None
    """Name of a pod for each claim that pods of the namespace mount, whosever they are; None where nobody asked."""


NO_CLAIMS: Final = ClaimsSeen()
"""Nobody else mounts any, and nobody asked what pods mount."""


def unwanted(observation: Observation) -> list[LiveObject]:
    """Claims that this very model controls and that its spec does not ask the operator for."""
    uid = observation.model.uid if observation.model else ""
    return [
        live
        for live in _claims(observation)
        if controlled_by(uid, live) and not live.leaving and not _asked_for(observation, live)
    ]


def to_hand_over(observation: Observation) -> tuple[LiveObject, ...]:
    """Claims that somebody wants as they are, and that must not go with a model."""
    unowned = [live for live in _claims(observation) if _looks_like_a_child(observation, live)]
    mentioned = [live for live in unwanted(observation) if _is_mentioned(observation, live)]
    return (*mentioned, *unowned, *observation.claims.borrowed)


def _is_mentioned(observation: Observation, live: LiveObject) -> bool:
    """Whether any spec mounts a claim by its name."""
    return live.name in observation.claims.of_others or live.name in claims_of_spec(observation.raw.get("spec"))


def to_delete(observation: Observation) -> tuple[LiveObject, ...]:
    """Claims that no spec wants and that no pod mounts or will mount."""
    mounted = observation.claims.mounted_by
    if mounted is None:
        return ()
    return tuple(live for live in _left(observation) if live.name not in mounted)


def in_question(observation: Observation) -> bool:
    """Whether it has to be asked what pods mount: there is a claim that may go if none of them does."""
    return bool(_left(observation)) and _engines_are_replaced(observation)


def shared(observation: Observation) -> Iterator[str]:
    """A sentence where the spec asks for a claim of the model's own, and another model mounts that one too."""
    for live in _claims(observation):
        if live.name in observation.claims.of_others and _asked_for(observation, live):
            yield f"{live.kind} {live.name}: another model mounts it too, so it stays when this one is deleted"


def held(observation: Observation) -> Iterator[str]:
    """A sentence for each claim that nobody wants and that stays because somebody else's pod mounts it."""
    engines = {pod.name for pod in observation.pods}
    mounted = observation.claims.mounted_by or {}
    for live in _left(observation):
        if live.name in mounted and mounted[live.name] not in engines:
            yield (
                f"PersistentVolumeClaim {live.name}: spec.storage.cache does not ask for it any more, and pod "
                f"{mounted[live.name]} mounts it: it is deleted when no pod does; to keep it, name it in "
                "spec.storage.cache.existingClaim"
            )


def mounts_of(pods: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """For each claim that pods mount, the name of one of them."""
    return {claim: str(pod["metadata"]["name"]) for pod in pods for claim in claims_of_pod(pod)}


def handing_over(live: LiveObject) -> dict[str, Any]:
    """JSON merge patch by which a claim ceases to be a model's child and stays known as made for it.

    The label of an instance goes: Argo CD and others take what carries it for a part of the application of that name,
    and delete it as no longer wanted.
    """
    others = [owner for owner in live.body["metadata"].get("ownerReferences", []) if not owner.get("controller")]
    instance = live.labels.get(INSTANCE) or live.labels.get(KEPT_FOR) or instance_name(controlling_model(live) or "")
    return {"metadata": {"ownerReferences": others or None, "labels": {INSTANCE: None, KEPT_FOR: instance}}}


def _claims(observation: Observation) -> list[LiveObject]:
    return [observation.children[key] for key in sorted(observation.children) if key.kind == CLAIM]


def _asked_for(observation: Observation, live: LiveObject) -> bool:
    """Whether the spec has the operator make this claim."""
    cache = part(observation.raw, "spec", "storage", "cache")
    own = cache_name(instance_name(observation.raw["metadata"]["name"]))
    return bool(cache.get("persistentVolumeClaim")) and live.name == own


def _looks_like_a_child(observation: Observation, live: LiveObject) -> bool:
    """Whether it was kept by an earlier version of the operator, which left it the labels of a child."""
    return (
        INSTANCE in live.labels
        and DESIRED_HASH in live.annotations
        and live.controller is None
        and belongs(observation.raw["metadata"]["name"], live, observation.release)
        and not _asked_for(observation, live)
    )


def _left(observation: Observation) -> list[LiveObject]:
    """Unwanted claims that no spec mounts."""
    kept = {live.name for live in to_hand_over(observation)}
    return [live for live in unwanted(observation) if live.name not in kept]


def _engines_are_replaced(observation: Observation) -> bool:
    """Whether no engine can be made any more of a template that mounts one of them.

    As long as the Deployment has pods of an older revision, its controller makes them anew where one is evicted.
    """
    live, left = live_workload(observation), {one.name for one in _left(observation)}
    return live is not None and is_through(live) and not left & claims_of_pod(live.body["spec"]["template"])
