"""Two operators on one API server: who leads is replaced in time, and never do two of them write.

The API server's audit log is the witness: it has each write with its user, and every operator is a user of its own.
LEADER_TRIALS says how often the leader is stopped, cut off, slowed down, killed, ended, or its API server frozen
(`make chaos`: 50 times).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

from tests.chaos.relay import Relay
from tests.chaos.writers import outside, terms_of, writes_of
from tests.cluster import ClusterSpec, NodeKind
from tests.cluster.fixtures import started
from tests.contract.conftest import define
from tests.support.api import Api
from tests.support.operator_process import OperatorProcess
from tests.support.resources import SOURCE
from tests.support.waiting import until
from vllm_operator.cluster.kinds import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

WHOLE: Final = 50
TRIALS: Final = int(os.environ.get("LEADER_TRIALS", "6"))
LEASE_SECONDS: Final = 6
TIMES: Final = {
    "LEASE_DURATION_SECONDS": str(LEASE_SECONDS),
    "RENEW_DEADLINE_SECONDS": "4",
    "RETRY_PERIOD_SECONDS": "0.5",
}
EXIT_SECONDS: Final = 3.0 if TRIALS >= WHOLE else 10.0
"""The goal, and, where other tests run beside, what says that the Lease was released and did not run out."""
OVER_SECONDS: Final = 2.0 * LEASE_SECONDS
"""A fault lasts longer than the lease."""
TEAM: Final = "storm"
MODELS: Final = 8
EDIT_SECONDS: Final = 0.15


class Replica:
    """An operator with a user and a line to the API server of its own."""

    def __init__(self, cluster: OwnCluster, name: str, folder: Path, relay: Relay, **settings: str) -> None:
        self.name = name
        self.user = f"system:serviceaccount:{TEAM}:{name}"
        self.relay = relay
        folder = folder / name
        folder.mkdir()
        config = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
        token = cluster.kubectl("create", "token", name, "--namespace", TEAM, "--duration", "24h").strip()
        config["users"] = [{**user, "user": {"token": token}} for user in config["users"]]
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
        (folder / "kubeconfig").write_text(json.dumps(config), encoding="utf-8")
        self.process = OperatorProcess(folder / "kubeconfig", folder, **settings)

    def leads(self) -> bool:
        """Whether it says so."""
        return self.process.leads()


class Storm:
    """Somebody who edits the models all the time, so that whoever leads has something to write at every moment."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._edit, name="storm")
        self.edits = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _edit(self) -> None:
        api = Api(self._kubeconfig)
        while not self._over.wait(EDIT_SECONDS):
            self.edits += 1
            path = MODEL.path(TEAM, f"model-{self.edits % MODELS}")
            spec = {"replicas": 1 + self.edits // MODELS % 3}
            with contextlib.suppress(OSError):  # the API server is the one that is frozen
                api.call("PATCH", path, {"spec": spec}, "application/merge-patch+json")
        api.close()


class Pair:
    """Two operators, and what is done to the one that leads."""

    def __init__(self, cluster: OwnCluster, replicas: tuple[Replica, Replica]) -> None:
        self.cluster = cluster
        self.replicas = replicas

    def leader(self) -> Replica:
        """The one that leads, once there is one and the other is ready to follow."""

        def settled() -> list[Replica]:
            leading = [one for one in self.replicas if one.leads()]
            return leading if all(one.process.get("/readyz") for one in self.replicas) else []

        return until(settled, what="a leader")[0]

    def other(self, replica: Replica) -> Replica:
        """The other one."""
        return next(one for one in self.replicas if one is not replica)

    def followed(self, replica: Replica, seconds: float = 60.0) -> float:
        """Wait until the other one leads; returns how long that took."""
        began = time.monotonic()
        until(self.other(replica).leads, what="the other one to lead", seconds=seconds, closely=True)
        return time.monotonic() - began

    def exits(self) -> None:
        """The leader is told to end."""
        leader = self.leader()
        assert leader.process.stop() == 0
        self.followed(leader)
        leader.process.start()

    def killed(self) -> None:
        """The leader is gone without a word."""
        leader = self.leader()
        leader.process.kill()
        self.followed(leader)
        leader.process.start()

    def stopped(self) -> None:
        """The leader stands still, longer than its lease, and then goes on where it was."""
        leader = self.leader()
        os.kill(leader.process.pid, signal.SIGSTOP)
        try:
            self.followed(leader)
            time.sleep(LEASE_SECONDS / 4)
        finally:
            os.kill(leader.process.pid, signal.SIGCONT)
        until(lambda: not leader.leads(), what="the one that stood still to stand by")

    def cut_off(self) -> None:
        """The leader has no line to the API server."""
        leader = self.leader()
        leader.relay.cut()
        try:
            self.followed(leader)
        finally:
            leader.relay.mend()

    def slow(self) -> None:
        """What the leader sends takes longer than its lease."""
        leader = self.leader()
        leader.relay.slow(OVER_SECONDS)
        try:
            self.followed(leader)
            time.sleep(OVER_SECONDS - LEASE_SECONDS)
        finally:
            leader.relay.slow(0.0)
            leader.relay.cut()  # what is on its way would hold up what comes after it
            leader.relay.mend()

    def frozen_api_server(self) -> None:
        """The API server stands still for longer than the lease; whoever leads then does so alone."""
        self.leader()
        server = self.cluster.process("kube-apiserver").pid
        os.kill(server, signal.SIGSTOP)
        try:
            time.sleep(OVER_SECONDS)
        finally:
            os.kill(server, signal.SIGCONT)

    @property
    def faults(self) -> tuple[Callable[[], None], ...]:
        """All that may befall them."""
        return (self.stopped, self.cut_off, self.slow, self.killed, self.exits, self.frozen_api_server)


def entries(cluster: OwnCluster) -> list[dict[str, Any]]:
    """The audit log, across its rotations."""
    paths = sorted(cluster.logs.glob("audit*.log"))
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def audited() -> Iterator[OwnCluster]:
    """An API server that keeps an audit log, with the models of the storm."""
    spec = ClusterSpec(name=f"test-leaders-{os.getpid()}", node=NodeKind.NONE, controller_manager=False, audit_log=True)
    with started(spec) as cluster:
        define(cluster)
        cluster.kubectl("create", "namespace", TEAM)
        for number in range(MODELS):
            metadata = {"name": f"model-{number}", "namespace": TEAM}
            model = {"apiVersion": MODEL.api_version, "kind": MODEL.kind, "metadata": metadata}
            spec_of_it = {"model": {"source": SOURCE}}
            cluster.kubectl("create", "--filename", "-", input=json.dumps({**model, "spec": spec_of_it}))
        yield cluster


@contextlib.contextmanager
def pair(cluster: OwnCluster, folder: Path, *names: str, **settings: str) -> Iterator[Pair]:
    """Two operators with these users."""
    address = urlsplit(yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    assert address.hostname
    assert address.port
    with contextlib.ExitStack() as stack:
        replicas = []
        for name in names:
            cluster.kubectl("create", "serviceaccount", name, "--namespace", TEAM)
            binding = ("clusterrolebinding", name, "--clusterrole=cluster-admin", f"--serviceaccount={TEAM}:{name}")
            cluster.kubectl("create", *binding)
            relay = stack.enter_context(Relay(address.hostname, address.port))
            replicas.append(Replica(cluster, name, folder, relay, **settings))
            stack.enter_context(replicas[-1].process)
        yield Pair(cluster, (replicas[0], replicas[1]))


def test_two_operators_never_write_at_the_same_time_whatever_befalls_the_leader(
    audited: OwnCluster, tmp_path: Path
) -> None:
    storm = Storm(audited.kubeconfig)
    with pair(audited, tmp_path, "one", "two", **TIMES) as both, storm:
        for trial in range(TRIALS):
            both.faults[trial % len(both.faults)]()
        both.leader()
        users = [replica.user for replica in both.replicas]
    writes = writes_of(entries(audited), users)
    terms = terms_of(writes)
    print(f"{TRIALS} trials, {len(terms)} terms, {len(writes)} writes, {storm.edits} edits")
    assert len(terms) > TRIALS * 2 / 3
    assert len(writes) > storm.edits
    assert outside(writes, terms) == []


@pytest.mark.parametrize("load", ["idle", "storm"])
def test_a_leader_that_exits_is_replaced_within_three_seconds(audited: OwnCluster, tmp_path: Path, load: str) -> None:
    with contextlib.ExitStack() as stack:
        both = stack.enter_context(pair(audited, tmp_path, f"{load}-one", f"{load}-two"))
        if load == "storm":
            stack.enter_context(Storm(audited.kubeconfig))
        leader = both.leader()
        os.kill(leader.process.pid, signal.SIGTERM)
        seconds = both.followed(leader)
        print(f"replaced after {seconds:.2f} s")
        assert seconds < EXIT_SECONDS


def test_a_leader_that_is_cut_off_is_replaced_when_its_lease_is_over_and_leads_no_longer_by_then(
    audited: OwnCluster, tmp_path: Path
) -> None:
    with pair(audited, tmp_path, "cut-one", "cut-two") as both:
        leader = both.leader()
        leader.relay.cut()
        seconds = both.followed(leader)
        assert not leader.leads()
        print(f"replaced after {seconds:.2f} s")
        assert 15 - 3 < seconds < 15 + EXIT_SECONDS
        leader.relay.mend()
        until(lambda: leader.process.get("/readyz"), what="the one that was cut off to stand by")
        assert not leader.leads()


def test_one_that_stands_by_is_ready_with_everything_in_its_cache_and_writes_nothing(
    audited: OwnCluster, tmp_path: Path
) -> None:
    with pair(audited, tmp_path, "by-one", "by-two") as both, Storm(audited.kubeconfig):
        standby = both.other(both.leader())
        time.sleep(2)
        assert standby.process.get("/readyz")
        assert standby.process.looks() == 0
        user = standby.user
    assert writes_of(entries(audited), [user]) == []
