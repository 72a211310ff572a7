"""What the chart makes of metrics, read by the programs that use it: helm, promtool, and a real API server."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.cluster.paths import REPOSITORY
from tests.support.charts import chart_objects
from tests.support.prometheus import programs
from tools import dashboards
from tools.metrics_reference import ALERTS, alerts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

WANTED = ("podMonitor", "prometheusRule", "dashboards")


def promtool(*words: str, cwd: Path) -> None:
    """Run it; its words are shown where it fails."""
    done = subprocess.run([programs() / "promtool", *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_and_stops_as_its_test_says() -> None:
    folder = REPOSITORY / "tests" / "data" / "alerts"
    promtool("test", "rules", *sorted(path.name for path in folder.glob("*.yaml")), cwd=folder)


def test_the_chart_makes_nothing_of_metrics_until_it_is_asked_to() -> None:
    kinds = {kind for kind, _ in chart_objects()}
    assert not kinds & {"PodMonitor", "PrometheusRule", "ConfigMap"}


def test_the_charts_rules_are_the_alerts_with_runbooks_where_the_user_has_them(
    api_server: OwnCluster, tmp_path: Path
) -> None:
    base = "https://example.com/vllm/"
    options = [f"metrics.{one}.enabled=true" for one in WANTED] + [f"metrics.prometheusRule.runbookBase={base}"]
    rendered = chart_objects(*options)
    rules = rendered["PrometheusRule", "vllm-operator"]["spec"]
    source = yaml.safe_load((REPOSITORY / ALERTS).read_text(encoding="utf-8"))
    for group in source["groups"]:
        for rule in group["rules"]:
            rule["annotations"]["runbook_url"] = base + rule["annotations"]["runbook_url"]
    assert rules == source
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    promtool("check", "rules", "rules.yaml", cwd=tmp_path)
    assert len(alerts()) == 20
    for path, text in dashboards.generated().items():
        made = rendered["ConfigMap", f"vllm-operator-dashboard-{path.stem}"]
        assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(made["data"][f"vllm-operator-{path.name}"]) == json.loads(text)
        api_server.kubectl(
            "apply", "--dry-run=server", "--filename", "-", "-n", "default", input=json.dumps(_moved(made))
        )


def _moved(made: dict[str, object]) -> dict[str, object]:
    """The object in a namespace that is there."""
    metadata = made["metadata"]
    assert isinstance(metadata, dict)
    return {**made, "metadata": {**metadata, "namespace": "default"}}


def test_a_release_for_some_namespaces_is_collected_from_these() -> None:
    options = ("metrics.podMonitor.enabled=true", "namespaces={team-a,vllm-system}", "name=blue")
    spec = chart_objects(*options)["PodMonitor", "blue-vllm-operator"]["spec"]
    assert spec["namespaceSelector"] == {"matchNames": ["vllm-system", "team-a"]}
    assert spec["selector"]["matchExpressions"][0]["values"] == ["blue-vllm-operator", "vllm"]
    anywhere = chart_objects("metrics.podMonitor.enabled=true")["PodMonitor", "vllm-operator"]["spec"]
    assert anywhere["namespaceSelector"] == {"any": True}
