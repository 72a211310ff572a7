"""OpenTelemetry: a span, the duration and the tokens of each request, named by the conventions for generative AI.

The conventions are still in development (https://opentelemetry.io/docs/specs/semconv/gen-ai/); these are the names of
1.37 and later, where `gen_ai.provider.name` has replaced `gen_ai.system`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vllm_client.monitoring.hooks import ErrorEvent, MonitoringHook, RequestEvent, ResponseEvent
from vllm_client.wrapper import require

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

SCOPE = "vllm_client"
OPERATION = "chat"
PROVIDER = "vllm"
DURATION = "gen_ai.client.operation.duration"
DURATION_BOUNDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""In seconds, as the conventions ask for."""
TOKENS = "gen_ai.client.token.usage"
TOKENS_BOUNDS = tuple(4**power for power in range(14))
"""As the conventions ask for."""
SPAN_NUMBERS = {
    name: f"gen_ai.request.{name}"
    for name in ("temperature", "max_tokens", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty")
}
"""Arguments that spans carry -> their names there."""
DEFAULT_PORTS = {"http": 80, "https": 443}


class OpenTelemetryHook(MonitoringHook):
    """Makes a client span for each request, current while the request is under way, and measures durations and tokens.

    The HTTP client's own spans, where it is instrumented, become children of this span. Whether and whereto anything
    is exported is set up in the application, with the SDK; without one, nothing is recorded.

    Args:
        tracer_provider: Where spans go; by default the application's.
        meter_provider: Where the measurements go; by default the application's.

    Raises:
        MissingExtra: The extra `otel` is not installed.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        purpose = "OpenTelemetryHook"
        self._trace = require("opentelemetry.trace", extra="otel", purpose=purpose)
        self._context = require("opentelemetry.context", extra="otel", purpose=purpose)
        metrics = require("opentelemetry.metrics", extra="otel", purpose=purpose)
        self._tracer = self._trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
        self._duration = meter.create_histogram(
            DURATION, "s", "GenAI operation duration.", explicit_bucket_boundaries_advisory=DURATION_BOUNDS
        )
        self._tokens = meter.create_histogram(
            TOKENS,
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKENS_BOUNDS,
        )
        self._open: dict[int, tuple[Span, Token[Context]]] = {}

    def on_request(self, event: RequestEvent) -> None:
        """Begin the span."""
        numbers = {SPAN_NUMBERS[name]: number for name, number in event.numbers.items() if name in SPAN_NUMBERS}
        name = f"{OPERATION} {event.model}".rstrip()
        attributes = {**common_attributes(event), **numbers}
        span = self._tracer.start_span(name, kind=self._trace.SpanKind.CLIENT, attributes=attributes)
        self._open[id(event)] = (span, self._context.attach(self._trace.set_span_in_context(span)))

    def on_response(self, event: ResponseEvent) -> None:
        """End the span; measure the duration and the tokens."""
        span = self._left(event.request)
        attributes = common_attributes(event.request)
        context = self._trace.set_span_in_context(span)
        if event.usage is not None:
            by_type = {"input": event.usage.prompt_tokens, "output": event.usage.completion_tokens}
            for kind, tokens in by_type.items():
                span.set_attribute(f"gen_ai.usage.{kind}_tokens", tokens)
                self._tokens.record(tokens, {**attributes, "gen_ai.token.type": kind}, context)
        self._duration.record(event.seconds, attributes, context)
        span.end()

    def on_error(self, event: ErrorEvent) -> None:
        """End the span with the error; measure the duration."""
        span = self._left(event.request)
        error = {"error.type": event.kind}
        span.set_attributes(error)
        span.set_status(self._trace.StatusCode.ERROR)
        context = self._trace.set_span_in_context(span)
        self._duration.record(event.seconds, {**common_attributes(event.request), **error}, context)
        span.end()

    def _left(self, request: RequestEvent) -> Span:
        """The request's span, current no more."""
        span, token = self._open.pop(id(request))
        self._context.detach(token)
        return span


def common_attributes(request: RequestEvent) -> dict[str, Any]:
    """What spans and durations say of a request."""
    found: dict[str, Any] = {"gen_ai.operation.name": OPERATION, "gen_ai.provider.name": PROVIDER}
    if request.model:
        found["gen_ai.request.model"] = request.model
    parts = urlsplit(request.endpoint)
    port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    if parts.hostname and port:
        found |= {"server.address": parts.hostname, "server.port": port}
    return found
