"""Each alert about models and engines fires by a cause that is brought about on a node, and stops when that is mended.

Operator, managers, kubelet and Prometheus are real, engines are stubs. The rules are those of the chart, hurried
(`hurried_rules`); all causes are there at the same time. ALERTS=whole (`make alerts`) has those too that take minutes.
VLLMModelStalled and what is about the operator is in tests/contract/test_operator_alerts.py.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.e2e.test_manager_faults import KILL_JUDGES
from tests.e2e.test_metrics import fires
from tests.support import models
from tests.support.charts import chart_objects
from tests.support.namespace import INSTANCE
from tests.support.prometheus import Prometheus, hurried_rules
from tools.metrics_reference import alerts
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

WHOLE: Final = os.environ.get("ALERTS") == "whole"
PATIENCE_SECONDS: Final = 300.0
LOAD_SECONDS: Final = 100
"""Longer than the hurried VLLMModelNotReady has to hold (45 s), with what a slow machine needs to begin."""
LOADS: Final = "loads"
KILLING_SECONDS: Final = 20
CRASHES: Final = 3
CRASH_SECONDS: Final = 120.0
"""For one more life of an engine: kubelet waits 10, 20 and 40 s before the first ones."""
GATE: Final = "gate"
NO_RESTART: Final = {"restart": "Never"}


@dataclass(frozen=True)
class Stage:
    """The models, and what reads their metrics."""

    site: Site
    prometheus: Prometheus
    side: ThreadPoolExecutor
    """For what takes long, and runs beside the looks at alerts."""

    def pods(self, model: str) -> list[str]:
        """Names of a model's pods."""
        return sorted(pod["metadata"]["name"] for pod in self.site.pods(model))

    def kill_judges(self, model: str) -> None:
        """Kill each judge of an engine as soon as it is there, for a while; beside everything else."""
        (pod,) = self.pods(model)
        program = ("python3", "-S", "-E", "-c", KILL_JUDGES, str(KILLING_SECONDS))
        self.side.submit(self.site.kubectl, "exec", pod, "-c", CONTAINER_NAME, "--", *program)

    def crash(self, model: str) -> None:
        """Have an engine die again and again, each time after it has served; beside everything else."""
        self.side.submit(self._crash, model)

    def _crash(self, model: str) -> None:
        (pod,) = self.pods(model)
        for number in range(1, CRASHES + 1):
            series = f'sum(vllm_gate_restarts_total{{namespace="{self.site.name}",pod="{pod}"}}) == {number}'
            self.site.post(pod, "/stub/faults", {"kill_engine": True})
            self.site.until(f"life {number} after", functools.partial(self.prometheus.query, series), CRASH_SECONDS)
            self.site.until("its answers", functools.partial(self.site.endpoints, model), CRASH_SECONDS)


@dataclass(frozen=True)
class Cause:
    """Why alerts fire, of a model of its own."""

    fires: tuple[str, ...]
    spec: dict[str, Any]
    begin: Callable[[Stage, str], object]
    end: Callable[[Stage, str], object]
    slow: bool = False


def hang(stage: Stage, model: str) -> None:
    """Have one engine make no step any more."""
    stage.site.faults(stage.pods(model)[0], hang_engine=True)


def unhang(stage: Stage, model: str) -> None:
    """Have all make steps again."""
    for pod in stage.pods(model):
        stage.site.faults(pod, hang_engine=False)


def nothing(_: Stage, __: str) -> None:
    """It begins and ends by itself."""


def begin_to_load(stage: Stage, model: str) -> None:
    """Have an engine that needs long until its first answer."""
    stage.site.apply(models.model(model, models.stub(), **LOADING))
    stage.site.until("a pod that loads", lambda: stage.pods(model))


def break_spec(stage: Stage, model: str) -> None:
    """Ask for what no engine starts with."""
    stage.site.patch(model, {"engine": {"extraArgs": ["--no-such-argument"]}})


def mend_spec(stage: Stage, model: str) -> None:
    """Ask for what was served before."""
    stage.site.patch(model, {"engine": {"extraArgs": None}})


LOADING: Final = {"engine": {"env": [{"name": "STUB_LOAD_SECONDS", "value": str(LOAD_SECONDS)}]}}
CAUSES: Final = {
    "degraded": Cause(("VLLMModelDegraded", "VLLMEngineWithdrawn"), {"replicas": 2, "gates": NO_RESTART}, hang, unhang),
    "down": Cause(("VLLMModelDown", "VLLMEngineWithdrawn"), {"gates": NO_RESTART}, hang, unhang),
    LOADS: Cause(("VLLMEngineLoadsLong", "VLLMModelNotReady"), LOADING, begin_to_load, nothing, slow=True),
    "unjudged": Cause(("VLLMEngineUnjudged",), {}, Stage.kill_judges, nothing),
    "rolls": Cause(("VLLMRolloutStuck",), {"rollout": {"surgeTimeoutSeconds": 3}}, break_spec, mend_spec, slow=True),
    "crashes": Cause(("VLLMEngineRestarts",), {}, Stage.crash, nothing, slow=True),
}
TRIED: Final = {name: cause for name, cause in CAUSES.items() if WHOLE or not cause.slow}


@pytest.fixture
def stage(site: Site, stub: EngineChoice) -> Iterator[Stage]:
    """Models of all causes, of which those serve that are to be broken; Prometheus finds no gate yet."""
    site.apply(*(models.model(name, stub, **cause.spec) for name, cause in TRIED.items() if name != LOADS))
    monitor = chart_objects("metrics.podMonitor.enabled=true")["PodMonitor", "vllm-operator"]
    with Prometheus(site.cluster, [monitor], hurried_rules()) as prometheus:
        prometheus.hidden_ports = frozenset({GATE})
        for name in TRIED:
            if name != LOADS:
                site.wait_ready(name, PATIENCE_SECONDS)
        with ThreadPoolExecutor(2) as side:
            yield Stage(site, prometheus, side)


def seen(stage: Stage) -> set[tuple[str, str]]:
    """Name and model of the alerts that fire; one about an engine names its pod."""
    pods = json.loads(stage.site.kubectl("get", "pods", "--output", "json"))["items"]
    by_pod = {pod["metadata"]["name"]: pod["metadata"]["labels"].get(INSTANCE, "") for pod in pods}
    found = (alert["labels"] for alert in stage.prometheus.alerts())
    return {
        (labels["alertname"], labels.get("name") or by_pod.get(labels["pod"], ""))
        for labels in found
        if labels.get("namespace") == stage.site.name
    }


def test_each_alert_about_engines_fires_by_its_cause_and_stops_when_that_is_mended(site: Site, stage: Stage) -> None:
    wanted = {(alert, name) for name, cause in TRIED.items() for alert in cause.fires}
    site.until("VLLMEnginesUnseen", lambda: fires(stage.prometheus, "VLLMEnginesUnseen"), PATIENCE_SECONDS)
    stage.prometheus.hidden_ports = frozenset()
    site.until("its end", lambda: not fires(stage.prometheus, "VLLMEnginesUnseen"), PATIENCE_SECONDS)
    site.until("silence", lambda: not seen(stage), PATIENCE_SECONDS)
    for name, cause in TRIED.items():
        cause.begin(stage, name)
    fired: set[tuple[str, str]] = set()

    def all_have_fired() -> bool:
        fired.update(seen(stage))
        return fired >= wanted

    with contextlib.suppress(AssertionError):
        site.until("all alerts", all_have_fired, PATIENCE_SECONDS)
    assert wanted - fired == set()
    for name, cause in TRIED.items():
        cause.end(stage, name)
    left: set[tuple[str, str]] = set()

    def all_have_stopped() -> bool:
        left.clear()
        left.update(seen(stage))
        return not left

    with contextlib.suppress(AssertionError):
        site.until("the end of all alerts", all_have_stopped, PATIENCE_SECONDS)
    assert left == set()


def test_no_alert_about_models_and_engines_is_without_a_cause() -> None:
    tried = {alert for cause in CAUSES.values() for alert in cause.fires} | {"VLLMEnginesUnseen"}
    elsewhere = {"VLLMModelStalled"}
    assert {alert.name for alert in alerts() if not alert.name.startswith("VLLMOperator")} == tried | elsewhere
