"""What is told of the gates from outside, on a real kubelet: status, Events, metrics, command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import models
from tests.support.site import OPERATOR_NAMESPACE

if TYPE_CHECKING:
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

PROGRAM = Path(sys.executable).with_name("kubectl-vllm")


def events(site: Site, name: str, reason: str) -> list[dict[str, Any]]:
    """Events about a model, of one reason."""
    selector = f"involvedObject.kind=VLLMModel,involvedObject.name={name},reason={reason}"
    found: list[dict[str, Any]] = json.loads(site.kubectl("get", "events", "--field-selector", selector, "-o", "json"))[
        "items"
    ]
    return found


def plugin(site: Site, *words: str) -> str:
    """What the kubectl plug-in prints."""
    command = [str(PROGRAM), *words, "--namespace", site.name]
    return subprocess.run(command, env=site.cluster.env, capture_output=True, text=True, check=True).stdout


def metrics(site: Site) -> str:
    """The metrics of the operator that leads, through the API server."""
    pods = json.loads(site.cluster.kubectl("--namespace", OPERATOR_NAMESPACE, "get", "pods", "-o", "json"))["items"]
    path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{{}}:8080/proxy/metrics"
    found = [site.cluster.kubectl("get", "--raw", path.format(pod["metadata"]["name"])) for pod in pods]
    (leaders,) = [one for one in found if "\nvllm_operator_leader 1.0\n" in one]
    return leaders


def test_an_engine_that_loads_and_completes_nothing_is_told_with_its_answer(site: Site, stub: EngineChoice) -> None:
    faults = json.dumps({"fail": {"status": 500, "message": "no template"}})
    site.apply(models.model("failing", stub, engine={"env": [{"name": "STUB_FAULTS", "value": faults}]}))
    message = site.wait_reason("CompletionsFail", "failing")["message"]
    assert "is not admitted since 20" in message
    assert "no template" in message


def test_a_hung_engine_is_told_in_the_status_in_an_event_in_the_metrics_and_by_the_commands(
    site: Site, stub: EngineChoice
) -> None:
    site.apply(models.model("told", stub, replicas=2, gates={"restart": "Never"}))  # so it stays as it is looked at
    site.wait_ready("told")
    one = min(pod["metadata"]["name"] for pod in site.pods("told"))
    site.faults(one, hang_engine=True)
    site.wait_reason("EnginesWithdrawn", "told")

    def words() -> str:
        found = re.search(
            rf"{one} served before, and takes no traffic since \S+Z: (.+)", site.condition("Ready", "told")["message"]
        )
        return found[1] if found else ""

    sentence = site.until("the words of its manager in the status", words)
    status = json.loads(site.kubectl("get", "vllmmodel", "told", "-o", "json"))["status"]
    (told,) = [engine for engine in status["engines"] if engine["pod"] == one]
    assert told["state"] == "Withdrawn"
    assert told["sentence"].endswith(sentence)
    withdrawn = site.until("the Event", lambda: events(site, "told", "EnginesWithdrawn"))
    assert {(event["type"], event["source"]["component"]) for event in withdrawn} == {("Warning", "vllm-operator")}
    assert len(withdrawn) == 1, "when its manager's words are known"
    assert len(events(site, "told", "AllEnginesServe")) == 1
    assert 'vllm_operator_engines{reason="EnginesWithdrawn",state="withdrawn"} 1.0' in metrics(site)
    table = plugin(site, "gates", "told")
    row, *_ = [line for line in table.splitlines() if line.startswith(one)]
    assert row.split()[1] == "withdrawn"
    (engine,) = [found for found in json.loads(plugin(site, "gates", "told", "-o", "json")) if found["pod"] == one]
    assert [entry["verdict"] for entry in engine["timeline"]][-1] == "withdrawn"
    seen = json.loads(plugin(site, "diagnose", "told", "-o", "json"))
    first = seen["engines"][0]
    assert (first["pod"], first["state"]) == (one, "Withdrawn"), seen
    assert first["sentence"].endswith(sentence)
    assert seen["notes"] == []
    rates = {found["pod"]: found for found in json.loads(plugin(site, "top", "told", "--window", "1s", "-o", "json"))}
    assert len(rates) == 2
    assert all(found["running"] is not None and found["note"] is None for found in rates.values())
    site.faults(one, hang_engine=False)
    site.wait_ready("told")


def test_a_command_that_the_image_has_not_is_told(site: Site, stub: EngineChoice) -> None:
    gate = {"probe": ["/no/such/program"]}
    site.apply(models.model("blind", stub, gates=gate))
    message = site.wait_reason("CompletionsFail", "blind")["message"]
    assert "the command program cannot be started" in message
    assert site.endpoints("blind") == set()
