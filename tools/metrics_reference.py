"""docs/reference/metrics.md: every metric of the operator and of the gates, and every alert, out of the code."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml
from prometheus_client.metrics import MetricWrapperBase

from tools.page import page
from vllm_operator.cluster.queue import Queue
from vllm_operator.manager.exposition import FAMILIES, PREFIX
from vllm_operator.manager.restarts import CAUSES
from vllm_operator.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Iterable

REPOSITORY: Final = Path(__file__).parent.parent
ALERTS: Final = Path("charts/vllm-operator/files/alerts.yaml")
_LABEL: Final = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
RUNBOOKS: Final = Path("docs/runbooks")


class Row(NamedTuple):
    """One metric."""

    name: str
    kind: str
    labels: tuple[str, ...]
    purpose: str


class Alert(NamedTuple):
    """One alert, as Prometheus reads it."""

    name: str
    query: str
    patience: str
    """For how long it has to hold, as Prometheus writes it; empty where it need not."""
    severity: str
    summary: str
    runbook: str


def telemetry() -> Telemetry:
    """With all that a process of the operator reports."""
    found = Telemetry(asyncio.Event())
    found.watch_queue(Queue())
    found.watch_ages(dict)
    found.watch_namespaces(lambda: 0)
    return found


def operator_metrics() -> list[Row]:
    """Of the operator, by name."""
    registry = telemetry().registry
    labels = {collector._name: collector._labelnames for collector in _collectors(registry)}  # noqa: SLF001 # nothing public tells it
    rows = []
    for family in registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        named = tuple(labels.get(family.name, ())) or tuple(getattr(family, "_labelnames", ()))
        rows.append(Row(family.name + suffix, family.type, named, family.documentation))
    return sorted(rows)


def _collectors(registry: Any) -> Iterable[MetricWrapperBase]:
    known = registry._collector_to_names  # noqa: SLF001 # as above
    return (collector for collector in known if isinstance(collector, MetricWrapperBase))


def gate_metrics() -> list[Row]:
    """Of the gates, in the order in which they are told."""
    return [Row(PREFIX + one.name, one.kind, one.labels, one.purpose) for one in FAMILIES]


def alerts() -> list[Alert]:
    """Every alert."""
    groups = yaml.safe_load((REPOSITORY / ALERTS).read_text(encoding="utf-8"))["groups"]
    return [
        Alert(
            name=rule["alert"],
            query=rule["expr"],
            patience=rule.get("for", ""),
            severity=rule["labels"]["severity"],
            summary=_LABEL.sub(r"\1", rule["annotations"]["summary"]),
            runbook=rule["annotations"]["runbook_url"],
        )
        for group in groups
        for rule in group["rules"]
    ]


def series(row: Row) -> set[str]:
    """The names of a metric's series."""
    if row.kind == "histogram":
        return {row.name + suffix for suffix in ("_bucket", "_count", "_sum")}
    return {row.name}


def metrics_page() -> str:
    """The page."""
    return page("metrics.md.j2", operator=operator_metrics(), gates=gate_metrics(), alerts=alerts(), causes=CAUSES)
