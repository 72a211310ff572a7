"""Who else sets the replicas of a Deployment: recognised by what it does, and named by the autoscalers there are. Pure.

An autoscaler that aims at the Deployment instead of the VLLMModel and the operator undo each other's work for ever. Its
name is looked for only where the replicas are others than the spec says, so that a quiet cluster costs no request.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.live import ObjectKey
from vllm_operator.api.meta import GROUP, KIND
from vllm_operator.api.names import instance_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from vllm_operator.api.live import LiveObject

AUTOSCALERS_AGAIN_AFTER: Final = timedelta(seconds=60)
"""Pause between two looks at the autoscalers of a namespace for one model: they act every 15 s."""


def is_scaled_by_others(raw: Mapping[str, Any], children: Mapping[ObjectKey, LiveObject], instance: str) -> bool:
    """Whether the live Deployment has other replicas than the spec; for a moment after each edit it has, too."""
    live = children.get(ObjectKey("Deployment", instance))
    spec = raw.get("spec", {})
    wanted = 0 if spec.get("suspend") else spec.get("replicas", 1)
    return live is not None and live.body.get("spec", {}).get("replicas", 1) != wanted


def is_due(asked_at: datetime | None, now: datetime) -> bool:
    """Whether enough time has passed since the autoscalers were last looked at."""
    return asked_at is None or now >= asked_at + AUTOSCALERS_AGAIN_AFTER


def autoscalers_of(found: Iterable[Mapping[str, Any]], instance: str) -> tuple[str, ...]:
    """Kind and name of each of these HorizontalPodAutoscalers that aims at the Deployment.

    One that somebody else made, as KEDA does of a ScaledObject, is named by that, since it is what has to be edited.
    """
    aiming = (one for one in found if _aims_at(one, instance))
    return tuple(sorted({_told(one) for one in aiming}))


@dataclass(frozen=True, slots=True)
class Rival:
    """Somebody else's autoscaler of a model.

    Attributes:
        name: Its kind and name.
        instance: The instance name of the model.
    """

    name: str
    instance: str


def rival_of(autoscaler: Mapping[str, Any]) -> Rival | None:
    """A HorizontalPodAutoscaler that aims at a model; None where it does not, or KEDA made it of the model's own."""
    group, kind, name = _target(autoscaler)
    if (group, kind) != (GROUP, KIND):
        return None
    told, instance = _told(autoscaler), instance_name(name)
    return None if told == f"ScaledObject {instance}" else Rival(told, instance)


def _aims_at(autoscaler: Mapping[str, Any], instance: str) -> bool:
    return _target(autoscaler) == ("apps", "Deployment", instance)


def _target(autoscaler: Mapping[str, Any]) -> tuple[str, str, str]:
    """API group, kind and name of what it scales."""
    target = autoscaler.get("spec", {}).get("scaleTargetRef", {})
    group = str(target.get("apiVersion", "")).partition("/")[0]
    return group, str(target.get("kind", "")), str(target.get("name", ""))


def _told(autoscaler: Mapping[str, Any]) -> str:
    metadata = autoscaler["metadata"]
    owners = (one for one in metadata.get("ownerReferences") or () if one.get("controller"))
    owner = next(owners, None)
    return f"{owner['kind']} {owner['name']}" if owner else f"HorizontalPodAutoscaler {metadata['name']}"
