"""What is made of metrics: alerts and dashboards ask for metrics that exist, and each alert has its runbook."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.support.engine import Statistics
from tools.dashboards import DASHBOARDS, VERDICTS, Dashboard, document
from tools.generate import REPOSITORY
from tools.metrics_reference import RUNBOOKS, Alert, alerts, gate_metrics, metrics_page, operator_metrics, series
from vllm_operator.manager.status import KINDS

SECTIONS = ["Trigger", "Diagnose", "Mitigate", "Verify"]
ALERTS = alerts()
QUERIES = [
    *(alert.query for alert in ALERTS),
    *(query for dashboard in DASHBOARDS for query in dashboard.queries),
]
_WORDS = {"and", "or", "unless", "by", "on", "label_values"}


def names(query: str) -> set[str]:
    """The series that a query is about."""
    bare = re.sub(r'"[^"]*"', "", query)
    bare = re.sub(r"\{[^{}]*\}|\[[^\]]*\]|\b(?:by|on) \([^)]*\)", " ", bare)
    if query.startswith("label_values"):
        bare = bare.rpartition(",")[0]
    found = re.finditer(r"[a-zA-Z_:][\w:]*(?!\w)(?!\s*\()", bare)
    return {match[0] for match in found} - _WORDS


def known() -> set[str]:
    """The series that there are: of the operator, of gates, and of vLLM, as its stub has them from the real one."""
    statistics = Statistics()
    told = [*statistics.gauges(), *statistics.counters(), *statistics.histograms()]
    rows = (*operator_metrics(), *gate_metrics())
    return {name for row in rows for name in series(row)} | {f"vllm:{name}" for name, *_ in told}


def test_names_are_found_in_queries() -> None:
    assert names('sum by (le) (rate(vllm:a_bucket{b="c{d}"}[$__rate_interval])) / up > 0.1') == {"vllm:a_bucket", "up"}
    assert names("label_values(vllm_operator_leader, namespace)") == {"vllm_operator_leader"}


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_asks_for_metrics_that_there_are(query: str) -> None:
    assert names(query)
    assert names(query) <= known()


def test_each_metric_is_told_with_its_labels() -> None:
    page = metrics_page()
    for row in (*operator_metrics(), *gate_metrics()):
        assert f"| `{row.name}` | {row.kind} | {', '.join(row.labels)} |" in page


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_each_alert_has_a_runbook_with_what_to_do(alert: Alert) -> None:
    assert alert.runbook == f"{RUNBOOKS}/{alert.name}.md"
    text = (REPOSITORY / alert.runbook).read_text(encoding="utf-8")
    assert text.startswith(f"# {alert.name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    for section in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        assert len(section.split()) >= 8, section


def test_there_is_no_runbook_of_an_alert_that_is_not_there() -> None:
    found = {path.stem for path in (REPOSITORY / RUNBOOKS).glob("*.md")} - {"README"}
    assert found == {alert.name for alert in ALERTS}


def test_each_alert_has_a_promtool_test_in_which_it_fires_and_stops() -> None:
    seen: dict[str, list[int]] = {}
    for path in sorted((Path(REPOSITORY) / "tests" / "data" / "alerts").glob("*.yaml")):
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for one in test["promql_expr_test"]:
                (name,) = re.findall(r'alertname="(\w+)"', one["expr"])
                seen.setdefault(name, []).append(len(one["exp_samples"]))
    assert set(seen) == {alert.name for alert in ALERTS}
    for name, counts in seen.items():
        assert counts[:3] == [0, 1, 0], f"{name}: before, while and after"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one.file)
def test_a_dashboard_is_one_page_whose_panels_do_not_overlap_and_whose_queries_use_its_own_choices(
    dashboard: Dashboard,
) -> None:
    made = document(dashboard)
    places = [tuple(panel["gridPos"][key] for key in ("x", "y")) for panel in made["panels"]]
    assert len(set(places)) == len(places)
    chosen = {one["name"] for one in made["templating"]["list"]} | {"__rate_interval"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(made))) - {"__all"}
    assert used <= chosen


def test_the_time_line_of_gates_has_a_number_for_each_verdict() -> None:
    assert set(VERDICTS) == set(KINDS)
