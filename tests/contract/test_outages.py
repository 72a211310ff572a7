"""What breaks under a running operator: one line of the log with the remedy, a pod that is not ready, no stack trace.

And it goes on by itself when that is mended. Each outage is a real one of a real API server, its etcd, or a real disk.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster import ClusterSpec, NodeKind
from tests.cluster.errors import ClusterError
from tests.cluster.fixtures import started
from tests.contract.conftest import define
from tests.contract.test_rights import Installed
from tests.support.definitions import MODELS
from tests.support.namespace import Namespace
from tests.support.waiting import until
from vllm_operator.cluster.remedies import Outage
from vllm_operator.telemetry.log_output import HELPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster
    from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api_server

QUOTA_BYTES: Final = 24 << 20
FILLER_BYTES: Final = 900_000
"""A ConfigMap holds a mebibyte at most."""

QUICK: Final = {"LEASE_DURATION_SECONDS": "4", "RENEW_DEADLINE_SECONDS": "3", "RETRY_PERIOD_SECONDS": "0.5"}
RIGHTS: Final = ("clusterrolebinding/vllm-operator",)


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    """An API server whose etcd takes in little, and nobody beside the tests."""
    spec = ClusterSpec(
        name=f"test-outages-{os.getpid()}", node=NodeKind.NONE, controller_manager=False, etcd_quota_bytes=QUOTA_BYTES
    )
    with started(spec) as running:
        define(running)
        yield running


@pytest.fixture(scope="module")
def installed(cluster: OwnCluster, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The chart, but for its Deployment."""
    return Installed(cluster, "outages-home", tmp_path_factory.mktemp("installed"))


@pytest.fixture
def operator(installed: Installed, tmp_path: Path) -> Iterator[OperatorProcess]:
    """The operator as its service account, with a Lease that is lost soon; it writes no stack trace in any test."""
    installed.folder = tmp_path
    process = installed.process()
    process.settings.update(QUICK)
    with process as running:
        until(running.leads, what="a leader")
        yield running
    assert "Traceback" not in running.log()


@pytest.fixture
def place(cluster: OwnCluster, request: pytest.FixtureRequest) -> Namespace:
    """A namespace for one test."""
    name = request.node.name.replace("_", "-")[:60].strip("-")
    cluster.kubectl("create", "namespace", name)
    return Namespace(cluster, name)


def told(operator: OperatorProcess, remedy: str) -> list[str]:
    """Lines of the log with a remedy."""
    return [line for line in operator.log().splitlines() if remedy in line]


def causes(operator: OperatorProcess) -> list[str]:
    """What the log says of why the Lease cannot be held, in its order: a line for each cause until another one follows.

    There may be several in one outage: an etcd that defragments its store answers nothing for a while.
    """
    lines = told(operator, "cannot be held or read")
    found = [next((outage for outage in Outage if outage in line), line) for line in lines]
    assert all(one != after for one, after in itertools.pairwise(found)), "none is told twice in a row"
    return found


def wait_unready(operator: OperatorProcess) -> None:
    """Until kubelet would take the pod for not ready, and leave it alone all the same."""
    until(lambda: not operator.get("/readyz"), what="an operator that is not ready")
    assert operator.get("/healthz") == "ok\n"


def wait_follows(operator: OperatorProcess, place: Namespace) -> None:
    """Until it is ready, and a new model has its children and a status."""
    until(lambda: operator.get("/readyz"), what="an operator that is ready")
    place.model("after")
    place.wait_reason("EnginesStarting", "after")
    place.wait_for("deployment", "after")


def test_a_definition_that_is_deleted(cluster: OwnCluster, operator: OperatorProcess, place: Namespace) -> None:
    cluster.kubectl("delete", "crd", MODELS)
    wait_unready(operator)
    (line,) = until(lambda: told(operator, Outage.NO_DEFINITION), what="the remedy")
    assert "cannot watch vllmmodels" in line
    define(cluster)
    wait_follows(operator, place)
    assert len(told(operator, Outage.NO_DEFINITION)) == 1


def test_rights_that_are_taken_away(cluster: OwnCluster, operator: OperatorProcess, place: Namespace) -> None:
    """The watches are open and stay so: it is the next write that is refused."""
    binding = json.loads(cluster.kubectl("get", *RIGHTS, "--output", "json"))
    cluster.kubectl("delete", *RIGHTS)
    try:
        place.model()
        wait_unready(operator)
        (line,) = until(lambda: told(operator, Outage.NO_RIGHT), what="the remedy")
        assert "the operator may not " in line
    finally:
        del binding["metadata"]["resourceVersion"], binding["metadata"]["uid"]
        cluster.kubectl("create", "--filename", "-", input=json.dumps(binding))
    place.wait_reason("EnginesStarting")
    wait_follows(operator, place)
    assert len(told(operator, Outage.NO_RIGHT)) == 1


def test_rights_that_come_after_the_operator(
    cluster: OwnCluster, installed: Installed, tmp_path: Path, place: Namespace
) -> None:
    binding = json.loads(cluster.kubectl("get", *RIGHTS, "--output", "json"))
    cluster.kubectl("delete", *RIGHTS)
    installed.folder = tmp_path
    operator = installed.process()
    try:
        operator.launch()
        until(lambda: told(operator, Outage.NO_RIGHT), what="the remedy")
        wait_unready(operator)
        del binding["metadata"]["resourceVersion"], binding["metadata"]["uid"]
        cluster.kubectl("create", "--filename", "-", input=json.dumps(binding))
        wait_follows(operator, place)
    finally:
        operator.stop()
    assert len(told(operator, Outage.NO_RIGHT)) == 1
    assert "Traceback" not in operator.log()


def test_an_api_server_that_is_away(cluster: OwnCluster, operator: OperatorProcess, place: Namespace) -> None:
    """Without etcd it does not come back, so connections are refused until etcd goes on."""
    etcd, server = cluster.process("etcd"), cluster.process("kube-apiserver")
    began = time.monotonic()
    etcd.kill(signal.SIGSTOP)
    try:
        server.kill()
        wait_unready(operator)
        until(lambda: told(operator, Outage.UNREACHABLE), what="the remedy")
        time.sleep(5)  # each kind is tried again several times
    finally:
        etcd.kill(signal.SIGCONT)
    until(lambda: answers(cluster), what="the API server", seconds=90)
    wait_follows(operator, place)
    lines = told(operator, Outage.UNREACHABLE)
    of_lease = causes(operator)
    assert of_lease[0] is Outage.UNREACHABLE
    of_watches = [line for line in lines if "cannot watch" in line]
    assert 1 <= len(of_watches) <= 1 + (time.monotonic() - began) // 60, "one a minute for all that is watched"
    assert len(lines) == of_lease.count(Outage.UNREACHABLE) + len(of_watches)


def answers(cluster: OwnCluster) -> bool:
    """Whether the API server does what it is asked."""
    with contextlib.suppress(ClusterError, subprocess.TimeoutExpired):
        return bool(cluster.kubectl("get", "namespaces", timeout=10))
    return False


def ask_etcd(cluster: OwnCluster, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A call of etcd's own API, as etcdctl makes it."""
    words = Path(f"/proc/{cluster.process('kube-apiserver').pid}/cmdline").read_bytes().decode().split("\0")
    (port,) = [word.rpartition(":")[2] for word in words if word.startswith("--etcd-servers=")]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), timeout=30) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def fill(place: Namespace) -> list[str]:
    """ConfigMaps until the store takes in no more; returns their names."""
    names = [f"filler-{number}" for number in range(2 * QUOTA_BYTES // FILLER_BYTES)]
    for number, name in enumerate(names):
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {"text": "x" * FILLER_BYTES},
        }
        try:
            place.kubectl("create", "--filename", "-", document=document)
        except ClusterError as error:
            assert "database space exceeded" in str(error)  # noqa: PT017 # any other error is a failure
            return names[:number]
    raise AssertionError("the store has no end")


def empty(cluster: OwnCluster, place: Namespace, names: list[str]) -> None:
    """What the remedy says: make room, compact, defragment, disarm."""
    place.kubectl("delete", "configmap", *names)
    revision = ask_etcd(cluster, "/v3/kv/range", {"key": "AA=="})["header"]["revision"]
    ask_etcd(cluster, "/v3/kv/compaction", {"revision": revision, "physical": True})
    ask_etcd(cluster, "/v3/maintenance/defragment", {})
    alarms = ask_etcd(cluster, "/v3/maintenance/alarm", {"action": "GET"})["alarms"]
    for alarm in alarms:
        ask_etcd(cluster, "/v3/maintenance/alarm", {"action": "DEACTIVATE", **alarm})


def test_a_store_without_room(cluster: OwnCluster, operator: OperatorProcess, place: Namespace) -> None:
    names = fill(place)
    wait_unready(operator)
    until(lambda: told(operator, Outage.STORE_FULL), what="the remedy")
    empty(cluster, place, names)
    wait_follows(operator, place)
    of_lease = causes(operator)
    assert of_lease[0] is Outage.STORE_FULL
    assert len(told(operator, Outage.STORE_FULL)) == of_lease.count(Outage.STORE_FULL)


@pytest.mark.node
def test_a_disk_without_room_for_the_log(installed: Installed, tmp_path: Path, place: Namespace) -> None:
    """A file system of its own, which takes root to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        installed.folder = tmp_path
        operator = installed.process()
        operator.log_path = disk / "operator.log"
        with operator:
            until(operator.leads, what="a leader")
            take_all(disk / "filler")
            for number in range(6):  # each is some lines of the log, and a page of its file may be free yet
                place.model(f"model-{number}")
                place.wait_reason("EnginesStarting", f"model-{number}")
            wait_unready(operator)
            (disk / "filler").unlink()
            wait_follows(operator, place)  # kubelet's question, whether it is ready, has it try again
        lines = told(operator, HELPS)
        assert len(lines) == 1
        assert "No space left on device" in lines[0]
        assert "Traceback" not in operator.log()
        assert "Logging error" not in operator.log()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def take_all(path: Path) -> None:
    """Write until there is no room."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))
