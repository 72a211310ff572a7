"""Autoscalers that stand beside a workload, as `spec.autoscaling`, where they scale by what engines have to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.quantity import quantity
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cli.importing.draft import Draft

_TARGETS: Final = (
    (re.compile(r"\bvllm[:_]num_requests_waiting\b"), "waitingRequests"),
    (re.compile(r"\bvllm[:_]num_requests_running\b"), "runningRequests"),
    (re.compile(r"\bvllm[:_](?:gpu_|kv_)cache_usage_perc\b"), "kvCachePercent"),
)
_MOST_OF_KEDA: Final = 100
"""KEDA's own maxReplicaCount where none is set."""
_REQUESTS_OF_KUBEAI: Final = 100
"""KubeAI's own targetRequests where none is set."""


def of_horizontal_pod_autoscaler(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a HorizontalPodAutoscaler says as `spec.autoscaling` has it; None if it scales by something else."""
    targets: dict[str, int] = {}
    for metric in items(spec, "metrics"):
        source = part(metric, str(metric.get("type") or "").lower())
        kind = _target_of(str(part(source, "metric").get("name") or ""))
        wanted = part(source, "target")
        value = _wanted(kind, wanted.get("averageValue"))
        if metric.get("type") != "Pods" or not kind or value is None:
            return None
        targets[kind] = value
    most = _whole(spec.get("maxReplicas"))
    if not targets or not most:
        return None
    found: dict[str, Any] = {
        "minReplicas": _whole(spec.get("minReplicas")) or 1,
        "maxReplicas": most,
        "targets": targets,
    }
    return _with_windows(found, part(spec, "behavior"))


def of_scaled_object(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a ScaledObject of KEDA says as `spec.autoscaling` has it; None if it scales by something else."""
    targets: dict[str, int] = {}
    others: list[str] = []
    address = ""
    for trigger in items(spec, "triggers"):
        told = part(trigger, "metadata")
        query, kind = str(told.get("query") or ""), _target_of(str(told.get("query") or ""))
        if trigger.get("type") != "prometheus" or not query or part(trigger, "authenticationRef"):
            return None
        address = str(told.get("serverAddress") or address)
        if not kind:
            others.append(query)
            continue
        value = _wanted(kind, told.get("threshold"))
        if value is None or not _is_per_engine(query, str(trigger.get("metricType") or "AverageValue")):
            return None
        targets[kind] = value
    fewest = _whole(spec.get("minReplicaCount"))
    if not targets or len(others) != (0 if fewest else 1):  # without engines only another metric can call for one
        return None
    found: dict[str, Any] = {"minReplicas": fewest, "maxReplicas": _whole(spec.get("maxReplicaCount")) or _MOST_OF_KEDA}
    found["targets"] = targets
    if others:
        after = _whole(spec.get("cooldownPeriod"))
        found["idle"] = {"query": others[0], **({"afterSeconds": after} if after else {})}
    if address:
        found["prometheus"] = {"serverAddress": address}
    return _with_windows(found, part(spec, "advanced", "horizontalPodAutoscalerConfig", "behavior"))


def of_request_count(fewest: int, most: int, requests: Any, down_seconds: Any = None) -> dict[str, Any]:
    """As `spec.autoscaling` has what scales by the requests that an engine works on, as KubeAI and Knative do."""
    found: dict[str, Any] = {
        "minReplicas": max(fewest, 1),
        "maxReplicas": most,
        "targets": {"runningRequests": _whole(requests) or _REQUESTS_OF_KUBEAI},
    }
    if _whole(down_seconds):
        found["behavior"] = {"scaleDownWindowSeconds": min(_whole(down_seconds), 3600)}
    return found


def write(draft: Draft, found: Mapping[str, Any]) -> None:
    """Write it; the autoscaler alone says from then on how many engines there are."""
    draft.spec.pop("replicas", None)
    plain = {name: value for name, value in found.items() if (name, value) != ("minReplicas", 1)}
    draft.put(("autoscaling",), plain)


def _target_of(text: str) -> str:
    """The target that a metric of vLLM is, by its name in a query or in an adapter; empty where it is another one."""
    named = [kind for pattern, kind in _TARGETS if pattern.search(text)]
    return named[0] if len(named) == 1 else ""


def _wanted(kind: str, value: Any) -> int | None:
    """What one engine is to have, as a whole number; None where it is none."""
    try:
        number = quantity(str(value)) * (100 if kind == "kvCachePercent" else 1)
    except ArithmeticError:
        return None
    return int(number) if number >= 1 else None


def _is_per_engine(query: str, kind: str) -> bool:
    """Whether the threshold is what one engine has: KEDA divides the whole by the replicas, or takes it as it is."""
    plain = query.strip()
    whole = not re.match(r"(avg|max|min|quantile|histogram_quantile)\b", plain)
    return whole if kind == "AverageValue" else plain.startswith("avg")


def _with_windows(found: dict[str, Any], behavior: Mapping[str, Any]) -> dict[str, Any]:
    windows = {
        "scaleUpWindowSeconds": part(behavior, "scaleUp").get("stabilizationWindowSeconds"),
        "scaleDownWindowSeconds": part(behavior, "scaleDown").get("stabilizationWindowSeconds"),
    }
    told = {name: value for name, value in windows.items() if _whole(value)}
    return {**found, "behavior": told} if told else found


def _unsaid(spec: Mapping[str, Any]) -> list[str]:
    """What an autoscaler says of its pace, and `spec.autoscaling` does not."""
    behavior = part(spec, "behavior") or part(spec, "advanced", "horizontalPodAutoscalerConfig", "behavior")
    return [
        f"behavior.{direction}.{name}"
        for direction in ("scaleUp", "scaleDown")
        for name in part(behavior, direction)
        if name != "stabilizationWindowSeconds"
    ]


def tell_unsaid(draft: Draft, spec: Mapping[str, Any]) -> None:
    """Say what of an autoscaler's pace is left to the defaults of the one that is made instead."""
    left = _unsaid(spec)
    if left:
        draft.note(
            f"{', '.join(left)} of the autoscaler: left out, spec.autoscaling.behavior has windows alone", "autoscaling"
        )


def _whole(value: Any) -> int:
    """A number of replicas or seconds; 0 where none is told."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
