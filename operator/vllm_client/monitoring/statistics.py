"""Counts and latencies by endpoint and model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vllm_client.monitoring.histogram import Histogram
from vllm_client.monitoring.hooks import ErrorEvent, MonitoringHook, RequestEvent, ResponseEvent

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class EndpointStatistics:
    """What was seen of a model at an endpoint.

    Attributes:
        endpoint: The base URL.
        model: The served name.
        in_flight: Requests under way.
        answered: Requests that were answered.
        errors: Requests that were not, by the kind of error.
        prompt_tokens: Tokens of the prompts, of the requests whose count is known, as the following.
        completion_tokens: Tokens of the answers.
        mean_seconds: Mean latency of the answers; 0 if there are none, as the following.
        p50_seconds: Half of the answers took no longer; up to a fifth too long, as the following.
        p90_seconds: Nine of ten took no longer.
        p99_seconds: 99 of a hundred took no longer.
        longest_seconds: The longest latency, exactly.
    """

    endpoint: str
    model: str
    in_flight: int
    answered: int
    errors: Mapping[str, int]
    prompt_tokens: int
    completion_tokens: int
    mean_seconds: float
    p50_seconds: float
    p90_seconds: float
    p99_seconds: float
    longest_seconds: float


@dataclass
class Counts:
    """The running counts of an endpoint; the memory they take does not grow with the requests."""

    in_flight: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)


class RequestStatistics(MonitoringHook):
    """Counts requests and their latencies; one object may serve several clients."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Counts] = {}

    def on_request(self, event: RequestEvent) -> None:
        """Count a request under way."""
        self._of(event).in_flight += 1

    def on_response(self, event: ResponseEvent) -> None:
        """Count an answer."""
        counts = self._of(event.request)
        counts.in_flight -= 1
        counts.latency.observe(event.seconds)
        if event.usage is not None:
            counts.prompt_tokens += event.usage.prompt_tokens
            counts.completion_tokens += event.usage.completion_tokens

    def on_error(self, event: ErrorEvent) -> None:
        """Count an error."""
        counts = self._of(event.request)
        counts.in_flight -= 1
        counts.errors[event.kind] += 1

    def snapshot(self) -> tuple[EndpointStatistics, ...]:
        """What has been seen so far, by endpoint and model."""
        return tuple(summary(*key, counts) for key, counts in sorted(self._counts.items()))

    def _of(self, request: RequestEvent) -> Counts:
        """The counts of a request's endpoint and model."""
        return self._counts.setdefault((request.endpoint, request.model), Counts())


def summary(endpoint: str, model: str, counts: Counts) -> EndpointStatistics:
    """The counts as they are now."""
    latency = counts.latency
    return EndpointStatistics(
        endpoint=endpoint,
        model=model,
        in_flight=counts.in_flight,
        answered=latency.count,
        errors=dict(counts.errors),
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=counts.completion_tokens,
        mean_seconds=latency.total_seconds / latency.count if latency.count else 0.0,
        p50_seconds=latency.percentile(50),
        p90_seconds=latency.percentile(90),
        p99_seconds=latency.percentile(99),
        longest_seconds=latency.longest_seconds,
    )
