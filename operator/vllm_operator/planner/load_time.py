"""How long an engine of a model takes to load, as those that serve have shown. Pure.

An autoscaler has to know it, and it changes with the model, the node and what is cached. So it is rounded up to a few
steps, and what the live autoscaler was last told stands as long as no engine serves: each other number is a write.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.spec.autoscaling import DEFAULT_LOAD_SECONDS, LONGEST_POLICY_SECONDS
from vllm_operator.render.autoscaling import AUTOSCALER, SCALED_OBJECT
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_operator.api.resource import VLLMModel

STEPS_SECONDS: Final = (15, 30, 60, 120, 300, 600, 900, LONGEST_POLICY_SECONDS)


def load_seconds(model: VLLMModel, pods: Iterable[Mapping[str, Any]], autoscalers: Iterable[Mapping[str, Any]]) -> int:
    """Seconds from an engine's pod to its first completed prompt; `autoscalers` are the live ones of the model.

    The quickest engine counts: of one that lost its traffic for a while and got it back, only that is seen. What takes
    longer than the start-up budget is such a one.
    """
    budget = model.spec.gates.startup_budget_seconds
    seen = [seconds for seconds in _seen(pods) if seconds <= budget]
    if seen:
        return _rounded(min(seen))
    told = next(map(_told, autoscalers), None)
    return told or min(DEFAULT_LOAD_SECONDS, budget)


def _seen(pods: Iterable[Mapping[str, Any]]) -> Iterator[float]:
    """What the engines took that serve and were never restarted."""
    for pod in pods:
        ready = next((one for one in items(pod, "status", "conditions") if one.get("type") == "Ready"), {})
        containers = items(pod, "status", "containerStatuses")
        created, since = part(pod, "metadata").get("creationTimestamp"), ready.get("lastTransitionTime")
        restarted = any(container.get("restartCount") for container in containers)
        if ready.get("status") == "True" and created and since and not restarted:
            yield (datetime.fromisoformat(since) - datetime.fromisoformat(created)).total_seconds()


def _rounded(seconds: float) -> int:
    return next((step for step in STEPS_SECONDS if seconds <= step), LONGEST_POLICY_SECONDS)


def _told(autoscaler: Mapping[str, Any]) -> int | None:
    """What a live autoscaler was told."""
    inside = {AUTOSCALER: ("spec",), SCALED_OBJECT: ("spec", "advanced", "horizontalPodAutoscalerConfig")}
    path = (*inside[autoscaler["kind"]], "behavior", "scaleUp", "policies")
    policies = items(autoscaler, *path)
    seconds: int | None = policies[0].get("periodSeconds") if policies else None
    return seconds
