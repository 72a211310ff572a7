"""Autoscalers as `spec.autoscaling`, and those that stay."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.api.spec.autoscaling import Autoscaling
from vllm_operator.cli.importing import scaling


def pods(name: str, value: str) -> dict[str, Any]:
    """A metric of Pods."""
    return {
        "type": "Pods",
        "pods": {"metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": value}},
    }


def trigger(query: str, threshold: str, **more: Any) -> dict[str, Any]:
    """A trigger that asks Prometheus."""
    return {"type": "prometheus", "metadata": {"query": query, "threshold": threshold}, **more}


CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}


@pytest.mark.parametrize(
    ("metrics", "targets"),
    [
        ([pods("vllm:num_requests_waiting", "5")], {"waitingRequests": 5}),
        ([pods("vllm_num_requests_running", "10500m")], {"runningRequests": 10}),
        ([pods("vllm:kv_cache_usage_perc", "0.8")], {"kvCachePercent": 80}),
        ([pods("vllm_gpu_cache_usage_perc", "800m"), pods("vllm:num_requests_waiting", "2")], None),
        ([CPU], None),
        ([pods("vllm:num_requests_waiting", "5"), CPU], None),
        ([pods("queue_length", "5")], None),
        ([pods("vllm:num_requests_waiting", "500m")], None),
        ([pods("vllm:num_requests_waiting", "many")], None),
        ([], None),
    ],
)
def test_a_horizontal_pod_autoscaler(metrics: list[dict[str, Any]], targets: dict[str, int] | None) -> None:
    found = scaling.of_horizontal_pod_autoscaler({"maxReplicas": 4, "metrics": metrics})
    if len(metrics) == 2 and CPU not in metrics:
        targets = {"kvCachePercent": 80, "waitingRequests": 2}
    assert (found or {}).get("targets") == targets
    if found:
        Autoscaling.model_validate(found)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (
            {"minReplicaCount": 1, "maxReplicaCount": 3, "triggers": [trigger("sum(vllm:num_requests_waiting)", "5")]},
            {"minReplicas": 1, "maxReplicas": 3, "targets": {"waitingRequests": 5}},
        ),
        (
            {
                "minReplicaCount": 1,
                "triggers": [trigger("avg(vllm:gpu_cache_usage_perc)", "0.7", metricType="Value")],
            },
            {"minReplicas": 1, "maxReplicas": 100, "targets": {"kvCachePercent": 70}},
        ),
        # The mean over all engines, once more divided by their number.
        ({"minReplicaCount": 1, "triggers": [trigger("avg(vllm:num_requests_waiting)", "5")]}, None),
        # Without engines nobody tells vLLM's metrics.
        ({"triggers": [trigger("sum(vllm:num_requests_waiting)", "5")]}, None),
        # A second metric while engines are there.
        (
            {"minReplicaCount": 1, "triggers": [trigger("sum(vllm:num_requests_waiting)", "5"), trigger("up", "1")]},
            None,
        ),
        ({"minReplicaCount": 1, "triggers": [{"type": "cron", "metadata": {}}]}, None),
        (
            {
                "minReplicaCount": 1,
                "triggers": [trigger("sum(vllm:num_requests_waiting)", "5", authenticationRef={"name": "a"})],
            },
            None,
        ),
    ],
)
def test_a_scaled_object(spec: dict[str, Any], wanted: dict[str, Any] | None) -> None:
    found = scaling.of_scaled_object(spec)
    assert found == wanted
    if found:
        Autoscaling.model_validate(found)


def test_requests_as_a_proxy_counts_them() -> None:
    assert scaling.of_request_count(0, 3, None) == {
        "minReplicas": 1,
        "maxReplicas": 3,
        "targets": {"runningRequests": 100},
    }
    assert scaling.of_request_count(2, 3, 7, 9000)["behavior"] == {"scaleDownWindowSeconds": 3600}
