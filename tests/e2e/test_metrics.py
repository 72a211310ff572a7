"""A real Prometheus reads the operator and the gates of engines, as the chart's PodMonitor has it.

Every query of the dashboards brings data, and alerts fire and stop, without the time for which they have to hold: that
is what tests/data/alerts has.
"""

from __future__ import annotations

import base64
import json
import math
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import models
from tests.support.charts import chart_objects
from tests.support.exposed import unknown_series
from tests.support.prometheus import Prometheus, impatient_rules
from tests.support.site import Site, scale_operator
from tools.dashboards import DASHBOARDS
from tools.metrics_reference import gate_metrics, operator_metrics, series
from vllm_operator.api.resource import parse_resource
from vllm_operator.render.context import RenderContext
from vllm_operator.render.policies import pod_monitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.models import EngineChoice

pytestmark = pytest.mark.node

MODEL = "told"
OURS = frozenset(
    name
    for row in (*operator_metrics(), *gate_metrics())
    for name in series(row)
    if not row.name.startswith("process_")  # which others have too
)
"""The series that docs/reference/metrics.md tells of."""
PATIENCE_SECONDS = 240.0
"""On a machine that does much else."""


@pytest.fixture
def told(site: Site, stub: EngineChoice) -> dict[str, Any]:
    """A model with one engine, which Prometheus reads too."""
    resource = models.model(MODEL, stub, gates={"restart": "Never"}, monitoring={})
    site.apply(resource)
    return resource


@pytest.fixture
def prometheus(site: Site, told: dict[str, Any]) -> Iterator[Prometheus]:
    """Prometheus, with both PodMonitors."""
    metadata = {**told["metadata"], "namespace": site.name, "uid": "0", "generation": 1}
    (own,) = pod_monitor(parse_resource({**told, "metadata": metadata}), RenderContext(pod_monitors=True))
    charts = chart_objects("metrics.podMonitor.enabled=true")["PodMonitor", "vllm-operator"]
    with Prometheus(site.cluster, [charts, own], impatient_rules()) as running:
        yield running


def fires(prometheus: Prometheus, name: str, /, **labels: str) -> dict[str, Any] | None:
    """An alert that fires now."""
    wanted = {"alertname": name, **labels}.items()
    return next((alert for alert in prometheus.alerts() if wanted <= alert["labels"].items()), None)


def wait_fires(site: Site, prometheus: Prometheus, name: str, /, **labels: str) -> dict[str, Any]:
    """Until an alert fires; its words are whole."""
    alert = site.until(f"alert {name}", lambda: fires(prometheus, name, **labels), PATIENCE_SECONDS)
    assert alert is not None
    texts = alert["annotations"]
    assert texts["runbook_url"] == f"docs/runbooks/{name}.md"
    assert not re.search(r"\{\{|<no value>|<error", texts["summary"] + texts["description"]), texts
    return alert


def wait_stops(site: Site, prometheus: Prometheus, name: str, /, **labels: str) -> None:
    """Until an alert does not fire any more."""
    site.until(f"the end of alert {name}", lambda: fires(prometheus, name, **labels) is None, PATIENCE_SECONDS)


def ask(site: Site, pod: str, times: int) -> None:
    """Have an engine complete prompts."""
    for _ in range(times):
        site.post(pod, "/v1/completions", {"model": MODEL, "prompt": "what is new? " * 40, "max_tokens": 8})


def filled_in(site: Site, query: str) -> str:
    """A query, with what whoever looks at a dashboard has chosen."""
    chosen = {"$__rate_interval": "2m", "$namespace": site.name, "$model": MODEL}
    for name, value in chosen.items():
        query = query.replace(name, value)
    return query


def without_data(site: Site, prometheus: Prometheus) -> list[str]:
    """The dashboards' queries that bring nothing, or no number."""
    queries = [
        filled_in(site, query) for one in DASHBOARDS for query in one.queries if not query.startswith("label_values")
    ]
    found = prometheus.queries(queries)
    return [
        query
        for query, samples in zip(queries, found, strict=True)
        if not any(math.isfinite(float(sample["value"][1])) for sample in samples)
    ]


def test_a_hung_engine_fires_alerts_until_it_makes_steps_again_and_every_query_of_the_dashboards_brings_data(
    site: Site, prometheus: Prometheus
) -> None:
    site.wait_ready(MODEL, PATIENCE_SECONDS)
    (pod,) = [pod["metadata"]["name"] for pod in site.pods(MODEL)]
    site.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "taken"}, "spec": {"ports": [{"port": 1}]}},
        {**models.model("taken", models.stub())},
    )
    ask(site, pod, 3)
    model = {"namespace": site.name, "name": MODEL}
    site.until(
        "its condition", lambda: prometheus.query(f'vllm_operator_model_condition{{name="{MODEL}",status="True"}}')
    )
    assert not fires(prometheus, "VLLMModelDown", **model)
    wait_fires(site, prometheus, "VLLMModelStalled", namespace=site.name, name="taken", reason="NameTaken")
    site.faults(pod, hang_engine=True)
    wait_fires(site, prometheus, "VLLMEngineWithdrawn", namespace=site.name, pod=pod)
    wait_fires(site, prometheus, "VLLMModelDown", **model)
    site.faults(pod, hang_engine=False)
    wait_stops(site, prometheus, "VLLMEngineWithdrawn", pod=pod)
    wait_stops(site, prometheus, "VLLMModelDown", **model)
    site.faults(pod, slow_step={"seconds": 4, "once": True, "computes": True})  # a step that has a length
    ask(site, pod, 3)
    site.until("data for every query", lambda: not without_data(site, prometheus), PATIENCE_SECONDS)
    read = prometheus.query('{__name__=~"vllm_operator_.*|vllm_gate_.*"}')
    assert unknown_series([sample["metric"] for sample in read]) == set()
    assert OURS - {sample["metric"]["__name__"] for sample in read} == set()
    assert site.name in prometheus.label_values("vllm_operator_model_condition", "namespace")
    assert not fires(prometheus, "VLLMEnginesUnseen")
    site.kubectl("delete", "service", "taken")
    site.kubectl("delete", "vllmmodel", "taken")
    wait_stops(site, prometheus, "VLLMModelStalled", name="taken")
    series = f'vllm_operator_model_condition{{namespace="{site.name}",name="taken"}}'
    site.until("no series of a model that is gone", lambda: not prometheus.query(series))


def test_an_operator_that_is_gone_fires_an_alert_until_it_is_back(site: Site, prometheus: Prometheus) -> None:
    site.until("the leader", lambda: prometheus.query("vllm_operator_leader == 1"))
    wait_stops(site, prometheus, "VLLMOperatorDown")  # it fires until the first answer has been judged
    scale_operator(site.cluster, 0)
    try:
        wait_fires(site, prometheus, "VLLMOperatorDown")
    finally:
        scale_operator(site.cluster, 2)
    wait_stops(site, prometheus, "VLLMOperatorDown")
    site.until("one leader", lambda: not fires(prometheus, "VLLMOperatorWithoutLeader"))


def test_a_report_of_a_real_model_has_its_gates_and_the_operators_log_and_no_planted_secret(
    site: Site, stub: EngineChoice, tmp_path: Path
) -> None:
    planted = [
        {"name": "OF_OUR_OWN", "value": "planted-in-a-variable"},
        {"name": "HF_TOKEN", "value": "hf_plantedtoken"},
    ]
    site.apply(models.model(MODEL, stub, engine={"env": planted}, auth={"generate": True}))
    site.wait_ready(MODEL, PATIENCE_SECONDS)
    key = base64.b64decode(site.get("secret", f"{MODEL}-binding")["data"]["VLLM_API_KEY"]).decode()
    target = tmp_path / "report.tar.gz"
    program = Path(sys.executable).with_name("kubectl-vllm")
    command = [str(program), "report", MODEL, "--namespace", site.name, "--file", str(target)]
    done = subprocess.run(command, env=site.cluster.env, capture_output=True, text=True, check=True)
    assert "not read" not in done.stderr
    with tarfile.open(target) as archive:
        read = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        files = {name: file.read().decode() for name, file in read.items() if file is not None}
    whole = "\n".join(files.values())
    assert [
        text
        for text in ("planted-in-a-variable", "hf_plantedtoken", key, base64.b64encode(key.encode()).decode())
        if text in whole
    ] == []
    (pod,) = site.pods(MODEL)
    gate = json.loads(files[f"report/models/{site.name}/{MODEL}/gates/{pod['metadata']['name']}.json"])
    assert gate["verdict"] == "serving"
    logs = [text for name, text in files.items() if name.startswith("report/operator/logs/")]
    assert any(f"{site.name}: applied Deployment {MODEL}" in text for text in logs)
