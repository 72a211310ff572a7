"""Each alert about the operator fires by a cause that is brought about, and stops when that is mended.

The operators are processes of this machine, the API server and Prometheus are real, and the rules are those of the
chart, hurried (`hurried_rules`). Each cause has operators, a namespace and a proxy of its own, so that all run side by
side: what fires anywhere else is a false alarm. ALERTS=whole (`make alerts`) has those too that take minutes.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster import ClusterSpec, NodeKind
from tests.cluster.fixtures import started
from tests.contract.conftest import define
from tests.support.api_proxy import ApiProxy, Loss, Refusal
from tests.support.namespace import Namespace
from tests.support.operator_process import OperatorProcess
from tests.support.prometheus import LoopbackPrometheus, hurried_rules
from tests.support.waiting import until
from tools.metrics_reference import alerts
from vllm_operator.cluster.kinds import POD
from vllm_operator.cluster.watches import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster import OwnCluster
    from tests.support.api_proxy import Call, Fault

pytestmark = pytest.mark.api_server

WHOLE: Final = os.environ.get("ALERTS") == "whole"
PATIENCE_SECONDS: Final = 150.0
CALM_SECONDS: Final = 12.0
"""In which nothing may fire: longer than any of these alerts has to hold."""
FAILING_MODELS: Final = 12
"""So that some fail in any minute, although the pauses between their tries grow."""
SHORT_LEASE: Final = {"LEASE_DURATION_SECONDS": "8", "RENEW_DEADLINE_SECONDS": "5", "RETRY_PERIOD_SECONDS": "1"}
PATIENT_LEASE: Final = {"LEASE_DURATION_SECONDS": "90", "RENEW_DEADLINE_SECONDS": "60"}
"""On a machine that does much else nobody loses it who should not."""
NO_RIGHTS: Final = "without-rights"
MISTAKEN: Final = """
import pathlib, sys
from vllm_operator.controller import app, reconcile
decide, mistake = reconcile.decide, pathlib.Path(sys.argv.pop())
def mistaken(observation):
    if mistake.exists():
        raise KeyError("a mistake of ours")
    return decide(observation)
reconcile.decide = mistaken
app.main()
"""


@dataclass
class Stage:
    """Where one cause is brought about: a namespace, operators that follow it alone, and a proxy before them."""

    namespace: Namespace
    proxy: ApiProxy
    folder: Path
    processes: list[OperatorProcess] = field(default_factory=list)

    def operator(self, **settings: str) -> OperatorProcess:
        """One more of them, which is started."""
        program = settings.pop("program", "")
        folder = self.folder / f"{self.namespace.name}-{len(self.processes)}"
        folder.mkdir()
        given = {"NAMESPACE": self.namespace.name, "NAMESPACES": self.namespace.name, **PATIENT_LEASE, **settings}
        words = (sys.executable, "-c", program, str(self.mistake)) if program else ()
        found = OperatorProcess(self.proxy.kubeconfig(folder), folder, program=words, **given)
        found.launch()
        self.processes.append(found)
        return found

    @property
    def mistake(self) -> Path:
        """The file that makes an operator mistaken."""
        return self.folder / f"{self.namespace.name}-mistake"

    def models(self, count: int) -> None:
        """Apply so many."""
        items = [self.namespace.document(f"model-{number}") for number in range(count)]
        self.namespace.kubectl(
            "apply", "--filename", "-", document={"apiVersion": "v1", "kind": "List", "items": items}
        )

    def targets(self) -> list[dict[str, Any]]:
        """Its operators, as Prometheus' discovery would label them."""
        labels = {"namespace": self.namespace.name, "job": f"{self.namespace.name}/vllm-operator"}
        return [
            {"targets": [f"127.0.0.1:{one.port}"], "labels": {**labels, "pod": f"operator-{number}"}}
            for number, one in enumerate(self.processes)
        ]


@dataclass(frozen=True)
class Cause:
    """Why alerts fire."""

    fires: tuple[str, ...]
    begin: Callable[[Stage], object]
    end: Callable[[Stage], object]
    settings: dict[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    """What is true besides, and may fire."""
    slow: bool = False
    """Whether its alerts take long to begin, or to end."""


def faulty(fault: Callable[[Call], Fault]) -> Callable[[Stage], None]:
    """Let the proxy do this to requests from now on."""

    def begin(stage: Stage) -> None:
        stage.proxy.fault = fault

    return begin


def mend(stage: Stage) -> None:
    """Let everything through again."""
    stage.proxy.fault, stage.proxy.event = (lambda _: None), (lambda _, line: line)
    stage.proxy.break_connections()


def silence(stage: Stage) -> None:
    """Say nothing of pods any more, as where a firewall has forgotten the connection, and lets no new one through."""
    place = Place(POD, stage.namespace.name)
    stage.proxy.event = lambda call, line: None if call.place == place else line
    stage.proxy.fault = lambda call: Loss.SILENCE if call.place == place else None


def hold_writes(stage: Stage) -> None:
    """Answer no write: the one worker waits, and so does whatever comes after."""
    stage.proxy.fault = lambda call: Loss.SILENCE if call.writes else None
    stage.models(3)


def refuse_writes(stage: Stage) -> None:
    """Answer writes as an API server does whose webhook is down."""
    down = Refusal(500, 'failed calling webhook "guard.example.com": connection refused', reason="InternalError")
    stage.proxy.fault = lambda call: down if call.writes and not call.event else None
    stage.models(FAILING_MODELS)


def withhold_rights(stage: Stage) -> None:
    """Have an operator whose list has a namespace more, in which nobody has bound its Role."""
    forbidden = Refusal(403, "vllmmodels is forbidden", reason="Forbidden")
    stage.proxy.fault = lambda call: forbidden if call.namespace == NO_RIGHTS else None
    stage.operator(NAMESPACES=f"{stage.namespace.name},{NO_RIGHTS}", LEASE_NAME="of-two")


def make_mistakes(stage: Stage) -> None:
    """Have the operator be wrong about every model."""
    stage.mistake.touch()
    stage.models(1)


def make_invalid(stage: Stage) -> None:
    """Apply what the schema lets through, and the operator cannot follow."""
    stage.namespace.model("invalid", engine={"extraArgs": ["--tensor-parallel", "2"]})


CAUSES: Final = {
    "elects": Cause(
        ("VLLMOperatorWithoutLeader",),
        faulty(lambda call: Refusal(403, "leases is forbidden", reason="Forbidden") if call.elects else None),
        mend,
        SHORT_LEASE,
    ),
    "two": Cause(
        ("VLLMOperatorTwoLeaders",),
        lambda stage: stage.operator(LEASE_NAME="of-a-second-release"),
        lambda stage: stage.processes.pop().stop(),
    ),
    "stuck": Cause(
        ("VLLMOperatorQueueStuck", "VLLMOperatorReconcileStuck"),
        hold_writes,
        mend,
        {"WORKERS": "1"},
        also=("VLLMOperatorApiErrors", "VLLMModelNotReady"),
    ),
    "failing": Cause(
        ("VLLMOperatorReconcileFailing", "VLLMOperatorApiErrors"),
        refuse_writes,
        mend,
        also=("VLLMModelNotReady",),
        slow=True,
    ),
    "mistaken": Cause(
        ("VLLMOperatorMistake",),
        make_mistakes,
        lambda stage: stage.mistake.unlink(),
        {"program": MISTAKEN},
        also=("VLLMModelNotReady",),
    ),
    "unfollowed": Cause(
        ("VLLMOperatorNamespaceUnfollowed",),
        withhold_rights,
        mend,
        also=("VLLMOperatorTwoLeaders",),
    ),
    "invalid": Cause(
        ("VLLMModelStalled",),
        make_invalid,
        lambda stage: stage.namespace.kubectl("delete", "vllmmodel", "invalid"),
        also=("VLLMModelNotReady",),
    ),
    "silent": Cause(("VLLMOperatorWatchSilent",), silence, mend, also=("VLLMOperatorApiErrors",), slow=True),
}
TRIED: Final = {name: cause for name, cause in CAUSES.items() if WHOLE or not cause.slow}


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[dict[str, Stage]]:
    """One for each cause, with an operator that follows it."""
    spec = ClusterSpec(name=f"test-alerts-{os.getpid()}", node=NodeKind.NONE, controller_manager=False)
    found: dict[str, Stage] = {}
    with started(spec) as cluster:
        define(cluster)
        try:
            for name, cause in TRIED.items():
                found[name] = stage = _stage(cluster, name, tmp_path)
                stage.operator(**cause.settings)
            for stage in found.values():
                until(stage.processes[0].leads, seconds=PATIENCE_SECONDS, what=f"a leader of {stage.namespace.name}")
            yield found
        finally:
            for stage in found.values():
                for process in stage.processes:
                    process.kill()
                stage.proxy.__exit__(None, None, None)


def _stage(cluster: OwnCluster, name: str, folder: Path) -> Stage:
    cluster.kubectl("create", "namespace", name)
    return Stage(Namespace(cluster, name), ApiProxy(cluster.kubeconfig).__enter__(), folder)


@pytest.fixture
def prometheus(stages: dict[str, Stage]) -> Iterator[LoopbackPrometheus]:
    """Reads all operators."""
    with LoopbackPrometheus(
        lambda: [target for stage in stages.values() for target in stage.targets()], hurried_rules()
    ) as running:
        yield running


def firing(prometheus: LoopbackPrometheus) -> set[tuple[str, str]]:
    """Name and namespace of all that fires; each has its words, and says what is filled in."""
    found = prometheus.alerts()
    for alert in found:
        texts = alert["annotations"]
        assert texts["runbook_url"] == f"docs/runbooks/{alert['labels']['alertname']}.md"
        assert not re.search(r"\{\{|<no value>|<error", texts["summary"] + texts["description"]), texts
    return {(alert["labels"]["alertname"], alert["labels"].get("namespace", "")) for alert in found}


def false_alarms(seen: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What fires without a cause."""
    true = {(alert, name) for name, cause in TRIED.items() for alert in (*cause.fires, *cause.also)}
    return seen - true


def test_each_alert_about_the_operator_fires_by_its_cause_alone_and_stops_when_that_is_mended(
    stages: dict[str, Stage], prometheus: LoopbackPrometheus
) -> None:
    wanted = {(alert, name) for name, cause in TRIED.items() for alert in cause.fires}

    def seen() -> set[tuple[str, str]]:
        found = firing(prometheus)
        assert not false_alarms(found)
        return found & wanted

    all_read = f"count(vllm_operator_leader == 1) == {len(stages)}"
    until(lambda: prometheus.query(all_read), seconds=PATIENCE_SECONDS, what="the first scrape of all operators")
    until(lambda: not firing(prometheus), seconds=PATIENCE_SECONDS, what="the end of what fired until then")
    calm_until = time.monotonic() + CALM_SECONDS
    until(lambda: not seen() and time.monotonic() > calm_until, seconds=PATIENCE_SECONDS, what="silence that lasts")
    for name, cause in TRIED.items():
        cause.begin(stages[name])
    fired: set[tuple[str, str]] = set()

    def more_have_fired() -> bool:
        fired.update(seen())
        return fired == wanted

    with contextlib.suppress(AssertionError):
        until(more_have_fired, seconds=PATIENCE_SECONDS)
    assert fired == wanted
    for name, cause in TRIED.items():
        cause.end(stages[name])
    until(lambda: not seen(), seconds=PATIENCE_SECONDS, what="the end of all alerts")
    for stage in stages.values():
        for process in stage.processes:
            process.stop()
    down = ("VLLMOperatorDown", "")
    until(lambda: down in firing(prometheus), seconds=PATIENCE_SECONDS, what=down[0])
    stages["two"].processes[0].launch()
    until(lambda: down not in firing(prometheus), seconds=PATIENCE_SECONDS, what=f"the end of {down[0]}")


def test_no_alert_about_the_operator_is_without_a_cause() -> None:
    tried = {alert for cause in CAUSES.values() for alert in cause.fires} | {"VLLMOperatorDown"}
    assert {alert.name for alert in alerts() if alert.name.startswith("VLLMOperator")} <= tried
