"""What managers say, in the status of a model on a real API server. Pods, their addresses and managers are played.

No controller runs here, so the test makes the pods from the operator's template, and writes what a kubelet would.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import ClusterSpec, NodeKind
from tests.cluster.fixtures import started
from tests.contract.conftest import define
from tests.support.configs import config
from tests.support.namespace import Namespace
from tests.support.operator_process import OperatorProcess
from tests.support.servers import free_port
from tests.support.waiting import until
from vllm_operator.planner.pace import PAUSE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.api_server

_NUMBERS = itertools.count(1)
LOADS = {
    "verdict": "starting",
    "cause": "Loading",
    "sentence": "nothing listens on the engine's port yet",
    "phase": {"name": "LoadingWeights", "detail": "3 of 8 shards", "since": "2026-11-22T11:02:03Z"},
    "ready": False,
    "in_flight": None,
    "trouble": "",
}
"""What a manager says of an engine that loads."""


class Manager:
    """A manager on an address of loopback: what it says, and how often it was asked."""

    def __init__(self, address: str, port: int) -> None:
        self.says: dict[str, Any] = LOADS
        self.asked = 0
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told.asked += 1
                content = json.dumps(told.says).encode() if self.path == "/status" else b""
                self.send_response(200 if content else 404)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((address, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """An API server with the resource and an operator, and no controller beside it; and a namespace on it."""
    spec = ClusterSpec(name=f"test-told-{os.getpid()}", node=NodeKind.NONE, controller_manager=False)
    with started(spec) as cluster:
        define(cluster)
        cluster.kubectl("create", "namespace", "told")
        with OperatorProcess(cluster.kubeconfig, tmp_path_factory.mktemp("operator")):
            yield Namespace(cluster, "told")


class Engines:
    """The pods of a model."""

    def __init__(self, namespace: Namespace, name: str, port: int) -> None:
        self.namespace, self.name, self.port = namespace, name, port
        self.replicas = 0

    def add(self, pod: str, address: str) -> None:
        """A pod whose engine runs and loads, as its kubelet tells."""
        template = self.namespace.wait_for("deployment", self.name)["spec"]["template"]
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod, "labels": template["metadata"]["labels"]},
            "spec": {**template["spec"], "nodeName": "played"},
        }
        self.namespace.kubectl("create", "--filename", "-", document=body)
        self.replicas += 1
        self.tell(pod, address, ready=False, started=False)

    def tell(self, pod: str, address: str, *, ready: bool, started: bool) -> None:
        """What the kubelet reports of a pod; its readiness changes now."""
        now = datetime.now(UTC)
        state = {"running": {"startedAt": f"{now - timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"}}
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": str(ready), "lastTransitionTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"},
            ],
            "containerStatuses": [
                {
                    "name": "vllm",
                    "image": "vllm",
                    "imageID": "",
                    "ready": ready,
                    "started": started,
                    "restartCount": 0,
                    "state": state,
                }
            ],
        }
        self._patch_status("pod", pod, status)

    def count(self, ready: int) -> None:
        """What the Deployment's controller tells."""
        generation = self.namespace.get("deployment", self.name)["metadata"]["generation"]
        counts = {"replicas": self.replicas, "updatedReplicas": self.replicas, "readyReplicas": ready}
        self._patch_status("deployment", self.name, {"observedGeneration": generation, **counts})

    def told(self) -> list[dict[str, Any]]:
        """`status.engines`."""
        found: list[dict[str, Any]] = self.namespace.get("vllmmodel", self.name).get("status", {}).get("engines", [])
        return found

    def message(self) -> str:
        """Of the condition Reconciling."""
        return str(self.namespace.condition("Reconciling", self.name).get("message", ""))

    def version(self) -> str:
        """Of the resource: it grows with every write."""
        return str(self.namespace.get("vllmmodel", self.name)["metadata"]["resourceVersion"])

    def _patch_status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        patch = json.dumps({"status": status})
        self.namespace.kubectl("patch", kind, name, "--subresource", "status", "--type", "merge", "--patch", patch)


@pytest.fixture
def engines(alone: Namespace) -> Engines:
    """A model of two engines, without any yet."""
    name, port = f"model-{next(_NUMBERS)}", free_port()
    alone.model(name, replicas=2, gates={"port": port})
    return Engines(alone, name, port)


@pytest.fixture
def manager(engines: Engines) -> Iterator[Manager]:
    """The manager of a pod at 127.0.0.2."""
    found = Manager("127.0.0.2", engines.port)
    yield found
    found.close()


def test_the_load_phase_of_each_engine_is_told_and_what_does_not_answer_is_told_as_that(
    engines: Engines, manager: Manager
) -> None:
    engines.add("b-loads", "127.0.0.2")
    engines.add("a-silent", "127.0.0.3")
    engines.count(ready=0)
    phase = "loads its weights (3 of 8 shards) since 2026-11-22T11:02:03Z"
    silent = f"its manager cannot be reached at 127.0.0.3:{engines.port} (Connection refused): a NetworkPolicy?"
    until(lambda: phase in engines.message() and silent in engines.message(), what="the words of both")
    first, second = engines.told()
    assert (first["pod"], first["state"], "phase" in first) == ("a-silent", "Starting", False)
    assert first["sentence"].endswith(silent)
    assert (second["pod"], second["state"], second["phase"], second["sentence"]) == (
        "b-loads",
        "Starting",
        "LoadingWeights",
        phase,
    )
    time.sleep(2 * PAUSE.total_seconds())  # what was held back is told by then
    asked, version = manager.asked, engines.version()
    until(lambda: manager.asked > asked, what="another question")
    assert engines.version() == version, "no news, no write"
    manager.says = {**LOADS, "phase": {"name": "Compiling", "detail": "", "since": "2026-11-22T11:02:03Z"}}
    engines.namespace.kubectl("annotate", "pod", "b-loads", "example.com/changed=yes")  # so it is asked again sooner
    until(lambda: engines.told()[1].get("phase") == "Compiling", what="the next phase")
    assert engines.told()[1]["sentence"] == "compiles its kernels since 2026-11-22T11:02:03Z"


def test_an_engine_is_told_while_it_serves_and_when_it_sleeps(engines: Engines, manager: Manager) -> None:
    engines.add("sleeper", "127.0.0.2")
    engines.count(ready=1)
    engines.tell("sleeper", "127.0.0.2", ready=True, started=True)
    until(lambda: [one["state"] for one in engines.told()] == ["Serving"], what="an engine that serves")
    assert set(engines.told()[0]) == {"pod", "state", "since"}
    asked = manager.asked
    manager.says = {"verdict": "withdrawn", "cause": "Asleep", "sentence": "asleep until it is woken up"}
    engines.count(ready=0)
    engines.tell("sleeper", "127.0.0.2", ready=False, started=True)
    found = engines.namespace.wait_reason("Asleep", engines.name)
    assert found["message"].endswith(": asleep until it is woken up")
    assert engines.told()[0]["state"] == "Withdrawn"
    assert manager.asked > asked


def test_the_trouble_of_a_manager_is_a_warning(engines: Engines, manager: Manager) -> None:
    manager.says = {**LOADS, "trouble": "its judge ended: SyntaxError"}
    engines.add("troubled", "127.0.0.2")

    def warnings() -> list[str]:
        found: list[str] = engines.namespace.get("vllmmodel", engines.name)["status"].get("warnings", [])
        return found

    until(warnings, what="a warning")
    assert warnings() == ["troubled: its manager is in trouble: its judge ended: SyntaxError"]


def test_what_an_engine_reported_at_its_start_is_told_and_asked_for_once(engines: Engines, manager: Manager) -> None:
    engines.add("reports", "127.0.0.2")
    engines.tell("reports", "127.0.0.2", ready=True, started=True)
    engines.count(ready=1)
    manager.says = {"verdict": "serving", "ready": True, "capacity": {"weights_gib": 14.99, "kv_cache_tokens": 26400}}
    until(lambda: "capacity" in (engines.told() or [{}])[0], what="what it reported")
    started_at = engines.told()[0]["capacity"].pop("startedAt")
    assert engines.told()[0]["capacity"] == {
        "weights": "14.99Gi",
        "kvCacheTokens": 26400,
        "startedAt": started_at,
    }
    found = engines.namespace.condition("Fits", engines.name)
    assert (found["status"], found["reason"]) == ("True", "EngineStarted")
    time.sleep(2 * PAUSE.total_seconds())
    asked, version = manager.asked, engines.version()
    engines.namespace.kubectl("annotate", "pod", "reports", "example.com/changed=yes")
    time.sleep(4 * PAUSE.total_seconds())
    assert (manager.asked, engines.version()) == (asked, version), "an engine that serves is left alone"


def test_a_model_without_room_is_told_before_there_is_a_pod_and_nothing_waits_for_it(alone: Namespace) -> None:
    """No controller makes pods here."""
    data = {"config.json": json.dumps(config("llama-3.1-8b-instruct"))}
    sizes = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sizes"}, "data": data}
    alone.kubectl("apply", "--filename", "-", document=sizes)
    spec = {"accelerator": {"memory": "24Gi"}, "estimate": {"configMapRef": {"name": "sizes"}}}

    def told(reason: str) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            found = alone.condition("Fits", "llama")
            return found if found.get("reason") == reason else {}

        return until(look, what=reason)

    alone.model("llama", **spec)
    found = told("GpuMemoryTooSmall")
    assert found["status"] == "False"
    assert found["message"].endswith(
        "it would fit with spec.engine.maxModelLen 26320, or with spec.parallelism.tensor 2"
    )
    assert alone.wait_for("deployment", "llama")["spec"]["replicas"] == 1, "it is a warning"
    assert alone.get("vllmmodel", "llama")["status"]["estimate"]["weights"] == "14.96Gi"
    alone.model("llama", **spec, parallelism={"tensor": 2})
    assert told("EstimatedToFit")["status"] == "True"
    row = alone.kubectl("get", "vllm", "llama", "--output", "wide").splitlines()
    assert row[1][row[0].index("FITS") :].split()[0] == "True"
    alone.kubectl("delete", "configmap", "sizes")
    alone.model("llama", **spec, parallelism={"tensor": 4})
    found = told("SizesUnknown")
    assert found["status"] == "Unknown"
    assert "ConfigMap sizes, which spec.estimate names, does not exist" in found["message"]
