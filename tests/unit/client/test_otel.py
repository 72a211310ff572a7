"""Spans and measurements as OpenTelemetry's SDK gets them, under the names that its conventions have."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, server_attributes

from tests.support.llms import EchoLLM
from tests.unit.client.conftest import KEY
from vllm_client import MissingExtra, MonitoredClient, NotReady, OpenTelemetryHook, TokenUsage, VLLMClient
from vllm_client.monitoring.otel import DURATION_BOUNDS, SPAN_NUMBERS, TOKENS_BOUNDS
from vllm_client.usage import report_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.util.types import AttributeValue

    from tests.support.servers import EngineServer


@dataclass(frozen=True)
class Telemetry:
    """An SDK that exports into memory, and a hook that writes to it."""

    hook: OpenTelemetryHook
    tracer_provider: TracerProvider
    spans: InMemorySpanExporter
    reader: InMemoryMetricReader

    def span(self) -> ReadableSpan:
        """The only span."""
        (span,) = self.spans.get_finished_spans()
        return span

    def points(self, name: str) -> list[HistogramDataPoint]:
        """What was measured under that name."""
        data = self.reader.get_metrics_data()
        metrics = [] if data is None else [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        points = [point for metric in metrics if metric.name == name for point in metric.data.data_points]
        return [point for point in points if isinstance(point, HistogramDataPoint)]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracer_provider, meter_provider = TracerProvider(), MeterProvider([reader])
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    yield Telemetry(OpenTelemetryHook(tracer_provider, meter_provider), tracer_provider, spans, reader)
    tracer_provider.shutdown()
    meter_provider.shutdown()


COMMON: dict[str, AttributeValue] = {
    gen_ai_attributes.GEN_AI_OPERATION_NAME: "chat",
    gen_ai_attributes.GEN_AI_PROVIDER_NAME: "vllm",
    gen_ai_attributes.GEN_AI_REQUEST_MODEL: "m",
    server_attributes.SERVER_ADDRESS: "m.ns",
    server_attributes.SERVER_PORT: 8000,
}


async def test_a_request_is_a_client_span_with_the_names_of_the_conventions(telemetry: Telemetry) -> None:
    await MonitoredClient(EchoLLM(), telemetry.hook).complete("a", temperature=0.5, seed=7, stop=["x"], timeout=9)
    span = telemetry.span()
    assert (span.name, span.kind, span.status.status_code) == ("chat m", trace.SpanKind.CLIENT, trace.StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        **COMMON,
        gen_ai_attributes.GEN_AI_REQUEST_TEMPERATURE: 0.5,
        gen_ai_attributes.GEN_AI_REQUEST_SEED: 7,
    }


async def test_the_duration_is_measured_with_the_bounds_of_the_conventions(telemetry: Telemetry) -> None:
    await MonitoredClient(EchoLLM(), telemetry.hook, clock=iter([1.0, 4.0]).__next__).complete("a", temperature=0.5)
    (point,) = telemetry.points(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION)
    assert (point.count, point.sum, dict(point.attributes or {})) == (1, 3.0, COMMON)
    assert tuple(point.explicit_bounds) == DURATION_BOUNDS
    assert telemetry.points(gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE) == []


async def test_an_error_is_told_by_its_kind_in_span_and_duration(telemetry: Telemetry) -> None:
    llm = MonitoredClient(EchoLLM(errors={"secret": NotReady("no answer to secret")}), telemetry.hook)
    with pytest.raises(NotReady):
        await llm.complete("secret")
    span = telemetry.span()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert (span.attributes or {})[error_attributes.ERROR_TYPE] == "NotReady"
    assert "secret" not in span.to_json()
    (point,) = telemetry.points(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION)
    assert dict(point.attributes or {}) == {**COMMON, error_attributes.ERROR_TYPE: "NotReady"}


async def test_tokens_are_told_where_the_client_reports_them(telemetry: Telemetry) -> None:
    class Counting(EchoLLM):
        async def complete(self, prompt: str, **kwargs: Any) -> str:
            report_usage(TokenUsage(prompt_tokens=12, completion_tokens=34))
            return await super().complete(prompt, **kwargs)

    await MonitoredClient(Counting(), telemetry.hook).complete("a")
    attributes = telemetry.span().attributes or {}
    assert attributes[gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS] == 12
    assert attributes[gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS] == 34
    points = telemetry.points(gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE)
    kinds = {(point.attributes or {})[gen_ai_attributes.GEN_AI_TOKEN_TYPE]: point.sum for point in points}
    assert kinds == {"input": 12, "output": 34}
    assert {tuple(point.explicit_bounds) for point in points} == {TOKENS_BOUNDS}


async def test_the_span_is_current_during_the_request_and_the_callers_afterwards(telemetry: Telemetry) -> None:
    seen = []

    class Looking(EchoLLM):
        async def complete(self, prompt: str, **kwargs: Any) -> str:
            seen.append(trace.get_current_span().get_span_context())
            return await super().complete(prompt, **kwargs)

    tracer = telemetry.tracer_provider.get_tracer("application")
    with tracer.start_as_current_span("caller") as caller:
        await MonitoredClient(Looking(), telemetry.hook).complete("a")
        assert trace.get_current_span() is caller
    request, _ = telemetry.spans.get_finished_spans()
    assert seen == [request.get_span_context()]
    assert request.parent is not None
    assert request.parent.span_id == caller.get_span_context().span_id


async def test_an_engine_is_named_by_its_address(engine: EngineServer, telemetry: Telemetry) -> None:
    async with MonitoredClient(VLLMClient(engine.url, "tiny", KEY), telemetry.hook) as llm:
        await llm.complete("hello")
    attributes = telemetry.span().attributes or {}
    assert attributes[server_attributes.SERVER_ADDRESS] == "127.0.0.1"
    assert attributes[server_attributes.SERVER_PORT] == engine.port


@pytest.mark.parametrize(
    ("url", "expected"), [("https://far/v1", ("far", 443)), ("http://near", ("near", 80)), ("", (None, None))]
)
async def test_the_port_is_the_schemes_where_none_is_given(
    telemetry: Telemetry, url: str, expected: tuple[str | None, int | None]
) -> None:
    await MonitoredClient(EchoLLM(SimpleNamespace(base_url=url, model_name="m")), telemetry.hook).complete("a")
    attributes = telemetry.span().attributes or {}
    found = (attributes.get(server_attributes.SERVER_ADDRESS), attributes.get(server_attributes.SERVER_PORT))
    assert found == expected


def test_every_argument_on_a_span_has_a_name_of_the_conventions() -> None:
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_REQUEST_")}
    assert set(SPAN_NUMBERS.values()) <= known


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vllm-operator\[otel\]'"):
        OpenTelemetryHook()
