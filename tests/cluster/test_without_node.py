"""Clusters without nodes: an API server on loopback, for anyone, as many as wanted, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterError, ClusterSpec, NodeKind, OwnCluster, attach, start, state
from tests.cluster.binaries import ensure_binaries
from tests.cluster.fixtures import started
from tests.cluster.paths import REPOSITORY
from tests.cluster.processes import Process
from tests.cluster.traces import Traces

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.api_server


def spec(name: str) -> ClusterSpec:
    return ClusterSpec(name=f"{name}-{os.getpid()}", node=NodeKind.NONE)


def await_gone(traces: Traces, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while traces.left() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert traces.left() == []


def foreign_cache(tmp_path: Path) -> Path:
    """A cache folder of its own that shares the built programs."""
    cache = tmp_path / "cache"
    (cache / "binaries").mkdir(parents=True)
    (cache / "binaries" / ensure_binaries().name).symlink_to(ensure_binaries())
    return cache


def test_the_api_server_serves_and_controllers_work(api_server: OwnCluster) -> None:
    api_server.kubectl("create", "namespace", "work")
    api_server.kubectl("-n", "work", "create", "deployment", "web", "--image=web", "--replicas=2")
    wait = ("wait", "--for=jsonpath={.status.replicas}=2", "deployment/web", "--timeout=30s")
    api_server.kubectl("-n", "work", *wait)
    api_server.kubectl("delete", "namespace", "work", "--wait", "--timeout=60s")


def test_kubectl_failures_carry_the_servers_words(api_server: OwnCluster) -> None:
    with pytest.raises(ClusterError, match='namespaces "absent" not found'):
        api_server.kubectl("get", "namespace", "absent")


def test_a_name_is_taken_only_once_and_the_message_says_what_to_do(api_server: OwnCluster) -> None:
    name = api_server.spec.name
    with pytest.raises(ClusterError, match=f"named '{name}' runs already: take it down .* or choose another --name"):
        start(ClusterSpec(name=name, node=NodeKind.NONE))


def test_a_killed_component_comes_back(api_server: OwnCluster) -> None:
    before = api_server.process("kube-controller-manager")
    log = api_server.logs / "kube-controller-manager.log"
    before.kill()
    deadline = time.monotonic() + 15
    while not (after := [row for row in api_server.components() if row.log == log and row.restarts]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert after[0].process not in {None, before}


def test_another_cluster_runs_beside_and_stops_without_a_trace(api_server: OwnCluster) -> None:
    with started(spec("beside")) as second:
        traces = Traces.of(second)
        second.kubectl("create", "namespace", "only-here")
        assert "only-here" not in api_server.kubectl("get", "namespaces")
    assert traces.left() == []
    assert "default" in api_server.kubectl("get", "namespaces")


@pytest.mark.parametrize("victim", ["guard", "supervisor"])
def test_kill_9_of_guard_or_supervisor_leaves_nothing(victim: str) -> None:
    with started(spec(victim)) as cluster:
        traces = Traces.of(cluster)
        process = Process.load(cluster.layout.state / f"{victim}.json")
        assert process is not None
        process.kill()
        if victim == "guard":  # nobody is left to clean up: the next command does
            assert process.wait(10)
            state.running()
        await_gone(traces)


def test_a_component_that_dies_at_the_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    cache = foreign_cache(tmp_path)
    programs = cache / "binaries" / ensure_binaries().name
    programs.unlink()
    programs.mkdir()
    for program in ensure_binaries().iterdir():
        (programs / program.name).symlink_to(program)
    (programs / "kube-apiserver").unlink()
    (programs / "kube-apiserver").write_text("#!/bin/sh\necho no luck today\nexit 3\n", encoding="utf-8")
    (programs / "kube-apiserver").chmod(0o755)
    env = {**os.environ, "VLLM_OPERATOR_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster", "up", "--node", "none"],
        env=env,
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:  # it should not have started: take it down before the test says so
        subprocess.run([sys.executable, "-m", "tests.cluster", "down"], env=env, cwd=REPOSITORY, check=True)
    assert done.returncode == 1
    assert "kube-apiserver ended with code 3 before: API server ready" in done.stderr
    assert "kube-apiserver: no luck today" in done.stderr
    assert [path.name for path in (cache / "clusters").iterdir()] == [".lock"]
    assert (cache / "failed-logs" / "default" / "kube-apiserver.log").read_text() == "no luck today\n"


def test_ctrl_c_during_the_start_takes_everything_down(tmp_path: Path) -> None:
    cache = foreign_cache(tmp_path)
    env = {**os.environ, "VLLM_OPERATOR_CACHE": str(cache)}
    as_at_a_terminal = ["env", "--default-signal=INT"]  # what runs in the background has inherited that it is ignored
    command = [*as_at_a_terminal, sys.executable, "-m", "tests.cluster", "up", "--node", "none"]
    with subprocess.Popen(command, env=env, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
        listing = cache / "clusters" / "default" / "components" / "cluster.json"
        while not listing.exists():
            assert process.poll() is None
            time.sleep(0.02)
        parts = [Process(row["pid"], row["start"]) for row in json.loads(listing.read_text())]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert parts
    assert not any(part.alive() for part in parts)
    assert [path.name for path in (cache / "clusters").iterdir()] == [".lock"]


def test_a_user_without_privileges_runs_one_and_takes_it_down(tmp_path: Path) -> None:
    """The user `nobody`, whose only privilege is to read the files of this checkout."""
    cache = foreign_cache(tmp_path)
    for path in (cache, cache / "binaries", tmp_path):
        os.chown(path, 65534, 65534)
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]
    drop += [f"--{name}=-all,+dac_read_search" for name in ("bounding-set", "inh-caps", "ambient-caps")]
    env = {**os.environ, "VLLM_OPERATOR_CACHE": str(cache), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments: str) -> str:
        command = [*drop, sys.executable, "-m", "tests.cluster", *arguments]
        done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "cluster 'default' is up" in run("up")
    try:
        assert "kube-system" in run("kubectl", "get", "namespaces")
        assert "default: --node none, ready" in run("status")
        owner = (cache / "clusters" / "default" / "kubeconfig").stat().st_uid
        assert owner == 65534
    finally:
        run("down", "--all")
    assert [path.name for path in (cache / "clusters").iterdir()] == [".lock"]


def test_a_detached_cluster_is_found_by_its_name_and_stopped() -> None:
    with started(spec("detached")) as cluster:
        cluster.detach()
        found = attach(cluster.spec.name)
        assert found.kubeconfig == cluster.kubeconfig
        assert isinstance(found, OwnCluster)
        traces = Traces.of(found)
        found.stop()
        assert traces.left() == []


def test_the_audit_log_names_writes_and_no_reads() -> None:
    chosen = ClusterSpec(name=f"audit-{os.getpid()}", node=NodeKind.NONE, controller_manager=False, audit_log=True)
    with started(chosen) as cluster:
        cluster.kubectl("create", "configmap", "written")
        cluster.kubectl("get", "configmap", "written")
        entries = [json.loads(line) for line in (cluster.logs / "audit.log").read_text().splitlines()]
    assert any(entry["verb"] == "create" and entry["objectRef"].get("name") == "written" for entry in entries)
    assert {entry["verb"] for entry in entries} <= {"create", "update", "patch", "delete", "deletecollection"}
