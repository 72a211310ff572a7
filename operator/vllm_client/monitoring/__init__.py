"""What happens to requests: for logs, statistics and OpenTelemetry. No prompt and no answer is told unless asked for.

statistics = RequestStatistics()
async with MonitoredClient(create_llm_client("vllm"), statistics, LogHook()) as llm:
    await llm.complete("What is an ontology?")
print(statistics.snapshot())
"""

from vllm_client.monitoring.client import MonitoredClient
from vllm_client.monitoring.hooks import ErrorEvent, LogHook, MonitoringHook, RequestEvent, ResponseEvent
from vllm_client.monitoring.otel import OpenTelemetryHook
from vllm_client.monitoring.performance import monitor_performance
from vllm_client.monitoring.statistics import EndpointStatistics, RequestStatistics

__all__ = [
    "EndpointStatistics",
    "ErrorEvent",
    "LogHook",
    "MonitoredClient",
    "MonitoringHook",
    "OpenTelemetryHook",
    "RequestEvent",
    "RequestStatistics",
    "ResponseEvent",
    "monitor_performance",
]
