"""What is made of metrics: alerts and dashboards ask for metrics that exist, and each alert has its runbook."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.exposed import SCRAPED, labels, unknown_series
from tests.support.pages import pages
from tools.dashboards import DASHBOARDS, PODS, VERDICTS, Dashboard, document
from tools.generate import REPOSITORY
from tools.metrics_reference import ALERTS as ALERTS_FILE
from tools.metrics_reference import RUNBOOKS, Alert, alerts, gate_metrics, metrics_page, operator_metrics, telemetry
from vllm_operator.api.conditions import ConditionType, Reason
from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.manager.status import KINDS
from vllm_operator.telemetry.metrics import Outcome

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


_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_SELECTOR = re.compile(r'([a-zA-Z_:][\w:]*)\{((?:[^{}"]|"[^"]*")*)\}')
_GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")


def unknown_labels(query: str) -> set[str]:
    """Labels that a query chooses or groups by, and that its series do not have."""
    there = labels()
    used = {
        label
        for name, matchers in _SELECTOR.findall(query)
        for label, _ in _MATCHER.findall(matchers)
        if label not in there[name] | SCRAPED
    }
    known_here = set(SCRAPED).union(*(there[name] for name in names(query)))
    grouped = {label for group in _GROUPING.findall(query) for label in re.findall(r"\w+", group)}
    return used | (grouped - known_here)


VALUES: dict[str, set[str]] = {
    "type": {*ConditionType},
    "status": {"True", "False", "Unknown"},
    "reason": {*Reason},
    "verdict": {*KINDS},
    "result": {*Outcome},
    "state": {*EngineState},
}
"""The words that labels hold which the operator and the gates fill in."""


def unknown_values(query: str) -> set[str]:
    """Words that a query looks for in a label, and that nobody ever writes there."""
    return {
        f"{label}={word}"
        for _, matchers in _SELECTOR.findall(query)
        for label, words in _MATCHER.findall(matchers)
        for word in words.split("|")
        if word and label in VALUES and word not in VALUES[label]
    }


def test_labels_are_found_in_queries() -> None:
    assert unknown_labels('max by (namespace, verdict) (vllm_gate_verdict{verdict="serving",pod="a"}) > 0') == set()
    assert unknown_labels('vllm_gate_verdict{reason="a{b}"} and on (node) vllm_gate_ready') == {"reason", "node"}
    assert unknown_values('vllm_gate_verdict{verdict=~"serving|gone",cause="x"}') == {"verdict=gone"}


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_uses_labels_and_words_that_there_are(query: str) -> None:
    assert unknown_labels(query) == set()
    assert unknown_values(query) == set()


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_the_words_of_an_alert_are_filled_in_from_labels_that_its_query_leaves(alert: Alert) -> None:
    kept = {label for group in _GROUPING.findall(alert.query)[:1] for label in re.findall(r"\w+", group)}
    text = (REPOSITORY / ALERTS_FILE).read_text(encoding="utf-8")
    words = text.partition(f"- alert: {alert.name}\n")[2].partition("- alert:")[0]
    assert set(re.findall(r"\$labels\.(\w+)", words)) <= kept


def test_the_series_of_promtools_tests_are_such_as_there_are() -> None:
    there = labels()
    for path in sorted((Path(REPOSITORY) / "tests" / "data" / "alerts").glob("*.yaml")):
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for one in test["input_series"]:
                name, matchers = _SELECTOR.findall(one["series"])[0]
                given = {label for label, _ in _MATCHER.findall(matchers)}
                assert there[name] - {"le"} <= given <= there[name] | SCRAPED, (path.name, one["series"])
                assert unknown_values(one["series"]) == set(), (path.name, one["series"])


def test_names_are_found_in_queries() -> None:
    assert names('sum by (le) (rate(vllm:a_bucket{b="c{d}"}[$__rate_interval])) / up > 0.1') == {"vllm:a_bucket", "up"}
    assert names("label_values(vllm_operator_leader, namespace)") == {"vllm_operator_leader"}


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_asks_for_metrics_that_there_are(query: str) -> None:
    assert names(query)
    assert names(query) <= {*labels()}


def test_the_operator_exports_no_series_that_is_not_told() -> None:
    made = telemetry()
    made.requests.observe("get", "200", 0.1)
    made.looked(Outcome.SUCCESS)
    families = text_string_to_metric_families(generate_latest(made.registry).decode())
    samples = [{"__name__": sample.name, **sample.labels} for family in families for sample in family.samples]
    assert {"__name__": "vllm_operator_api_requests_total", "verb": "get", "code": "200"} in samples
    assert unknown_series(samples) == set()


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


def queries_of(text: str) -> list[str]:
    """What a page shows that chooses or groups series, in a block or in a sentence."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    shown = [*re.findall(r"`([^`]+)`", prose), *re.findall(r"^```promql\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]
    return [one for one in shown if re.search(r"\bvllm_(?:operator|gate)_\w+\{|\(vllm_(?:operator|gate)_", one)]


@pytest.mark.parametrize("page", [path for path in pages() if path.stem != "metrics"], ids=lambda path: path.stem)
def test_a_metric_that_a_page_names_is_one_with_labels_and_words_that_there_are(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    families = {row.name for row in (*operator_metrics(), *gate_metrics())}
    named = re.findall(r"\b(?:vllm_operator|vllm_gate)_[a-z_]*[a-z]\b|\bvllm:[a-z_]*[a-z]\b(?!_)", text)
    assert {*named} - {*labels()} - families == set()
    for query in queries_of(text):
        assert unknown_labels(query) == set(), query
        assert unknown_values(query) == set(), query


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


@pytest.mark.parametrize("pod", ["qwen-5d9f8c7b6-x2x4q", "qwen-0", "qwen-0-1"])
def test_the_engines_of_a_model_are_those_of_a_deployment_and_of_a_group_over_several_nodes(pod: str) -> None:
    (pattern,) = re.findall(r'pod=~"([^"]*)"', PODS)
    assert re.fullmatch(pattern.replace("$model", "qwen"), pod)
    assert not re.fullmatch(pattern.replace("$model", "qwen"), f"qwen-coder-{pod.removeprefix('qwen-')}-a")
    assert not re.fullmatch(pattern.replace("$model", "other"), pod)
