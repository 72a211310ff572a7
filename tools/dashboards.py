"""Grafana dashboards out of code: of the operator, of the fleet, and of one model.

Where a pod is read by two jobs (the chart's PodMonitor and that of `spec.monitoring`), it counts once: queries about
gates take the largest value of each pod first. Pods of a model are known by their names, which each job has.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOLDER: Final = Path("charts/vllm-operator/files/dashboards")

RATE: Final = "[$__rate_interval]"
PODS: Final = 'namespace="$namespace",pod=~"$model-([a-z0-9]+-[a-z0-9]+|[0-9]+)"'
"""Pods of a model: those of its Deployment, of which those of a model with a longer name are none."""
LEADER: Final = "and on (namespace, job, pod) vllm_operator_leader == 1"

_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 24
_SCHEMA_VERSION: Final = 39
_DATA_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

VERDICTS: Final = {"starting": "blue", "serving": "green", "withdrawn": "orange", "restart": "red", "leaving": "purple"}
"""What a gate says, in the order of the numbers that stand for it from 1 on, and its colour."""


@dataclass(frozen=True)
class Panel:
    """One picture."""

    title: str
    queries: tuple[tuple[str, str], ...]
    """Each with the text of its legend."""
    unit: str = "short"
    kind: str = "timeseries"
    about: str = ""


@dataclass(frozen=True)
class Variable:
    """What whoever looks can choose."""

    name: str
    query: str
    everything: bool = False
    """Whether all values can be chosen together."""


@dataclass(frozen=True)
class Dashboard:
    """One page."""

    file: str
    title: str
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...] = ()

    @property
    def queries(self) -> Iterator[str]:
        """Each query, of panels and variables."""
        return itertools.chain(
            (query for panel in self.panels for query, _ in panel.queries),
            (variable.query for variable in self.variables),
        )


def quantiles(metric: str, labels: str = "", by: str = "") -> tuple[tuple[str, str], ...]:
    """Median and 95th percentile of a histogram."""
    grouped = f"le, {by}" if by else "le"
    rate = f"sum by ({grouped}) (rate({metric}_bucket{{{labels}}}{RATE}))"
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple(
        (f"histogram_quantile({share}, {rate})", f"{name}{legend}") for share, name in ((0.5, "p50"), (0.95, "p95"))
    )


def of_gates(metric: str, labels: str, by: str) -> str:
    """A metric of gates, each pod once."""
    return of_gates_of(f"{metric}{{{labels}}}", by)


def of_gates_of(expression: str, by: str) -> str:
    """What is reckoned from a metric of gates, each pod once."""
    pods = ", ".join(dict.fromkeys(("namespace", "pod", by)))
    return f"sum by ({by}) (max by ({pods}) ({expression}))"


OPERATOR: Final = Dashboard(
    "operator.json",
    "vLLM operator",
    (
        Panel(
            "Replicas that lead (1 where all is well)",
            (("sum by (namespace, job) (vllm_operator_leader)", "{{job}}"),),
            kind="stat",
        ),
        Panel("Versions", (("count by (version) (vllm_operator_build_info)", "{{version}}"),), kind="stat"),
        Panel("Models that wait", ((f"vllm_operator_queue_depth {LEADER}", "{{pod}}"),)),
        Panel(
            "How long the oldest of them waits",
            ((f"vllm_operator_queue_oldest_seconds {LEADER}", "{{pod}}"),),
            "s",
        ),
        Panel("How long models waited", quantiles("vllm_operator_queue_wait_seconds"), "s"),
        Panel("How long looks took", quantiles("vllm_operator_reconcile_seconds"), "s"),
        Panel(
            "Looks by how they ended",
            ((f"sum by (result) (rate(vllm_operator_reconcile_total{RATE}))", "{{result}}"),),
            "ops",
        ),
        Panel("The slowest look under way", (("vllm_operator_longest_running_reconcile_seconds", "{{pod}}"),), "s"),
        Panel(
            "Requests to the API server",
            ((f"sum by (verb, code) (rate(vllm_operator_api_requests_total{RATE}))", "{{verb}} {{code}}"),),
            "reqps",
            about="An idle cluster has hardly any but those of the Lease.",
        ),
        Panel("How long the API server takes", quantiles("vllm_operator_api_request_seconds", by="verb"), "s"),
        Panel(
            "Since the API server last spoke of a kind",
            (("max by (resource) (vllm_operator_watch_last_event_age_seconds)", "{{resource}}"),),
            "s",
            about="It sends a bookmark each minute where there is nothing else.",
        ),
        Panel("Namespaces of the list that are not followed", (("vllm_operator_namespaces_unfollowed", "{{pod}}"),)),
        Panel(
            "Memory",
            (("process_resident_memory_bytes and on (namespace, job, pod) vllm_operator_leader", "{{pod}}"),),
            "bytes",
        ),
        Panel(
            "CPU",
            ((f"rate(process_cpu_seconds_total{RATE}) and on (namespace, job, pod) vllm_operator_leader", "{{pod}}"),),
            "percentunit",
        ),
    ),
)

_READY: Final = 'type="Ready",namespace=~"$namespace"'

FLEET: Final = Dashboard(
    "fleet.json",
    "vLLM models",
    (
        Panel(
            "Models by why they are ready or not",
            ((f"count by (status, reason) (vllm_operator_model_condition{{{_READY}}})", "{{status}} {{reason}}"),),
        ),
        Panel(
            "Models that are not ready",
            ((f'max by (namespace, name, reason) (vllm_operator_model_condition{{{_READY},status!="True"}})', ""),),
            kind="table",
        ),
        Panel("Engines by state", (("sum by (state) (vllm_operator_engines)", "{{state}}"),)),
        Panel("Engines by reason", (("sum by (reason) (vllm_operator_engines)", "{{reason}}"),)),
        Panel("Rollouts", (("sum by (reason) (vllm_operator_rollouts)", "{{reason}}"),)),
        Panel("Models that keep an older pod template", (("sum(vllm_operator_template_updates_pending)", "models"),)),
        Panel(
            "Restarts of engines within an hour, by cause",
            (
                (
                    of_gates_of('increase(vllm_gate_restarts_total{namespace=~"$namespace"}[1h])', "cause"),
                    "{{cause}}",
                ),
            ),
        ),
        Panel(
            "Engines whose traffic was withdrawn, by cause",
            ((of_gates("vllm_gate_withdrawals_total", 'namespace=~"$namespace"', "cause"), "{{cause}}"),),
        ),
        Panel(
            "Verdicts",
            ((of_gates("vllm_gate_verdict", 'namespace=~"$namespace"', "verdict"), "{{verdict}}"),),
        ),
        Panel(
            "Requests in flight",
            ((of_gates("vllm_gate_in_flight", 'namespace=~"$namespace"', "namespace"), "{{namespace}}"),),
        ),
        Panel(
            "How long each phase of a start takes, at most",
            (('max by (phase) (vllm_gate_load_phase_seconds{namespace=~"$namespace"})', "{{phase}}"),),
            "s",
        ),
        Panel(
            "Engines that nobody watches",
            (
                (
                    'count(max by (namespace, pod) (vllm_gate_judge_up{namespace=~"$namespace"}) == 0) or vector(0)',
                    "engines",
                ),
            ),
        ),
    ),
    (Variable("namespace", "label_values(vllm_operator_model_condition, namespace)", everything=True),),
)

_THIS: Final = 'namespace="$namespace",name="$model"'

_VERDICT_NUMBERS: Final = " or ".join(
    f'{number} * vllm_gate_verdict{{{PODS},verdict="{verdict}"}}' for number, verdict in enumerate(VERDICTS, start=1)
)

MODEL: Final = Dashboard(
    "model.json",
    "vLLM model",
    (
        Panel(
            "Conditions",
            (
                (
                    f"max by (type, status, reason) (vllm_operator_model_condition{{{_THIS}}})",
                    "",
                ),
            ),
            kind="table",
        ),
        Panel(
            "What the gate of each engine says",
            ((f"max by (pod) ({_VERDICT_NUMBERS})", "{{pod}}"),),
            kind="state-timeline",
        ),
        Panel("First token", quantiles("vllm:time_to_first_token_seconds", PODS), "s"),
        Panel("Between tokens", quantiles("vllm:inter_token_latency_seconds", PODS), "s"),
        Panel(
            "Requests",
            (
                (f"sum(max by (pod, engine) (vllm:num_requests_running{{{PODS}}}))", "running"),
                (f"sum(max by (pod, engine) (vllm:num_requests_waiting{{{PODS}}}))", "waiting"),
            ),
        ),
        Panel("How long requests waited", quantiles("vllm:request_queue_time_seconds", PODS), "s"),
        Panel(
            "KV cache in use",
            ((f"max by (pod, engine) (vllm:kv_cache_usage_perc{{{PODS}}})", "{{pod}} {{engine}}"),),
            "percentunit",
        ),
        Panel(
            "Prompt tokens found in the prefix cache",
            (
                (
                    " / ".join(
                        f"sum(rate(vllm:prefix_cache_{one}_total{{{PODS}}}{RATE}))" for one in ("hits", "queries")
                    ),
                    "share",
                ),
            ),
            "percentunit",
        ),
        Panel(
            "Tokens",
            (
                (f"sum(max by (pod, engine) (rate(vllm:prompt_tokens_total{{{PODS}}}{RATE})))", "read"),
                (f"sum(max by (pod, engine) (rate(vllm:generation_tokens_total{{{PODS}}}{RATE})))", "written"),
            ),
            "ops",
        ),
        Panel(
            "Longest step, and what is too long",
            (
                (f"max by (pod) (vllm_gate_longest_step_seconds{{{PODS}}})", "longest step {{pod}}"),
                (f"max by (pod) (vllm_gate_stall_window_seconds{{{PODS}}})", "stall window {{pod}}"),
            ),
            "s",
        ),
        Panel(
            "Phases of the start",
            ((f"max by (pod, phase) (vllm_gate_load_phase_seconds{{{PODS}}})", "{{pod}} {{phase}}"),),
            "s",
        ),
        Panel(
            "Restarts by cause",
            ((of_gates("vllm_gate_restarts_total", PODS, "cause"), "{{cause}}"),),
        ),
        Panel("Canaries by outcome", ((of_gates("vllm_gate_canaries_total", PODS, "outcome"), "{{outcome}}"),)),
    ),
    (
        Variable("namespace", "label_values(vllm_operator_model_condition, namespace)"),
        Variable("model", 'label_values(vllm_operator_model_condition{namespace="$namespace"}, name)'),
    ),
)

DASHBOARDS: Final = (OPERATOR, FLEET, MODEL)


def generated() -> dict[Path, str]:
    """The files."""
    return {FOLDER / one.file: json.dumps(document(one), indent=2) + "\n" for one in DASHBOARDS}


def document(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana 10 and newer read it."""
    return {
        "uid": f"vllm-{dashboard.file.removesuffix('.json')}",
        "title": dashboard.title,
        "tags": ["vllm"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [_data_source_choice(), *map(_choice, dashboard.variables)]},
        "panels": [_panel(number, panel) for number, panel in enumerate(dashboard.panels)],
    }


def _data_source_choice() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _choice(variable: Variable) -> dict[str, Any]:
    everything = {"includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    return {
        "name": variable.name,
        "label": variable.name.capitalize(),
        "type": "query",
        "datasource": _DATA_SOURCE,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,
        "sort": 1,
        **(everything if variable.everything else {}),
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    column, row = number * _WIDTH % _COLUMNS, number * _WIDTH // _COLUMNS * _HEIGHT
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.about,
        "type": panel.kind,
        "datasource": _DATA_SOURCE,
        "gridPos": {"x": column, "y": row, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "mappings": _mappings(panel)}, "overrides": []},
        "targets": list(_targets(panel.queries, table=panel.kind == "table")),
    }


def _mappings(panel: Panel) -> list[dict[str, Any]]:
    """Words and colours for the numbers of verdicts."""
    if panel.kind != "state-timeline":
        return []
    named = enumerate(VERDICTS.items(), start=1)
    options = {str(number): {"text": verdict, "color": colour} for number, (verdict, colour) in named}
    return [{"type": "value", "options": options}]


def _targets(queries: Sequence[tuple[str, str]], *, table: bool) -> Iterator[dict[str, Any]]:
    for number, (query, legend) in enumerate(queries):
        now = {"instant": True, "format": "table"} if table else {}
        yield {
            "refId": chr(ord("A") + number),
            "datasource": _DATA_SOURCE,
            "expr": query,
            "legendFormat": legend,
            **now,
        }
