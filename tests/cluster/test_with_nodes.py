"""Clusters with real nodes: pods, Services, DNS and GPUs work, and whatever ends them leaves the host as it was."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterError, ClusterSpec, GpuMount, OwnCluster, images, state
from tests.cluster.components import GPU_RESOURCE
from tests.cluster.fixtures import started
from tests.cluster.processes import Process
from tests.cluster.spec import Layout
from tests.cluster.traces import HostState, Traces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.node


def web(name: str, *, replicas: int, gpus: int, script: str = "") -> str:
    """A Deployment of web servers, each serving its own name, and their Service."""
    serve = f"{script}hostname > index.html; exec python3 -m http.server 8000"
    container = {
        "name": "web",
        "image": images.BASE_IMAGE,
        "workingDir": "/tmp",  # noqa: S108 - in the container
        "command": ["sh", "-ec", serve],
        "readinessProbe": {"httpGet": {"port": 8000}, "periodSeconds": 1},
        "resources": {"limits": {GPU_RESOURCE: gpus}} if gpus else {},
    }
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [deployment, service]})


def serve(cluster: OwnCluster, name: str, *, replicas: int, gpus: int = 0, script: str = "") -> None:
    cluster.kubectl("apply", "-f", "-", input=web(name, replicas=replicas, gpus=gpus, script=script))
    cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")


FETCH = """
import sys, urllib.request
for _ in range(20):
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
    except OSError:
        pass
"""


def eventually(heard: Callable[[], set[str]], expected: set[str], seconds: float = 15.0) -> None:
    """kube-proxy follows the endpoints within a second or so."""
    deadline = time.monotonic() + seconds
    while (last := heard()) != expected:
        assert time.monotonic() < deadline, f"heard {last}, expected {expected}"


def ask(cluster: OwnCluster, name: str) -> set[str]:
    """Who answers a pod that asks the Service by its DNS name."""
    url = f"http://{name}.default.svc.cluster.local"
    return set(cluster.kubectl("exec", f"deployment/{name}", "--", "python3", "-c", FETCH, url).split())


def pods(cluster: OwnCluster, name: str) -> list[dict[str, dict[str, str]]]:
    found = json.loads(cluster.kubectl("get", "pods", "-l", f"app={name}", "-o", "json"))["items"]
    assert isinstance(found, list)
    return found


def names(cluster: OwnCluster, name: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods(cluster, name)}


def test_pods_with_gpus_answer_by_their_services_name(cluster: OwnCluster) -> None:
    serve(cluster, "gpu-web", replicas=2, gpus=1)
    eventually(lambda: ask(cluster, "gpu-web"), names(cluster, "gpu-web"))
    devices = cluster.kubectl("exec", "deployment/gpu-web", "--", "sh", "-c", "echo $FAKE_VISIBLE_DEVICES")
    assert devices.startswith("fake-")
    assert "GET / HTTP/1.1" in cluster.kubectl("logs", "deployment/gpu-web")
    cluster.kubectl("delete", "deployment,service", "gpu-web")


def test_a_ninth_gpu_waits_for_a_node_that_has_one(cluster: OwnCluster) -> None:
    cluster.kubectl("apply", "-f", "-", input=web("greedy", replicas=1, gpus=9))
    wait = "--for=jsonpath={.status.conditions[?(@.type=='PodScheduled')].reason}=Unschedulable"
    cluster.kubectl("wait", wait, "pod", "-l", "app=greedy", "--timeout=30s")
    messages = cluster.kubectl(
        "get", "pods", "-l", "app=greedy", "-o", "jsonpath={.items[*].status.conditions[*].message}"
    )
    assert f"Insufficient {GPU_RESOURCE}" in messages
    cluster.kubectl("delete", "deployment,service", "greedy")


def test_an_image_loaded_later_runs(cluster: OwnCluster) -> None:
    layers = [images.base_layer(), images.files_layer({"srv/greeting": b"hello from a later image"})]
    name = "docker.io/library/later:1"
    cluster.load_image(images.build_image(name, layers=layers))
    run = ("run", "later", f"--image={name}", "--restart=Never", "--image-pull-policy=Never", "--")
    cluster.kubectl(*run, "cat", "/srv/greeting")
    cluster.kubectl("wait", "pod/later", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    assert "hello from a later image" in cluster.kubectl("logs", "later")
    cluster.kubectl("delete", "pod", "later")


def test_a_program_of_the_host_reaches_services_from_inside_the_network(cluster: OwnCluster) -> None:
    serve(cluster, "reached", replicas=1)
    address = cluster.kubectl("get", "service", "reached", "-o", "jsonpath={.spec.clusterIP}")
    fetch = [sys.executable, "-c", FETCH, f"http://{address}"]
    eventually(lambda: set(cluster.run_inside(fetch).stdout.split()), names(cluster, "reached"))
    cluster.kubectl("delete", "deployment,service", "reached")


def test_nothing_inside_reaches_the_outside(cluster: OwnCluster) -> None:
    connect = "import socket; socket.create_connection(('203.0.113.9', 80), timeout=10)"
    done = cluster.run_inside([sys.executable, "-c", connect], timeout=20)
    assert "No route to host" in done.stderr


def test_the_host_keeps_its_paths_sysctls_mounts_and_interfaces_while_pods_run(cluster: OwnCluster) -> None:
    before = HostState.now()
    serve(cluster, "quiet", replicas=1)
    assert HostState.now() == before
    cluster.kubectl("delete", "deployment,service", "quiet")


def test_two_nodes_share_pods_and_services_and_stop_without_a_trace(cluster: OwnCluster, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("heavy", encoding="utf-8")
    spec = ClusterSpec(
        name=f"pair-{os.getpid()}",
        nodes=2,
        gpus=1,
        images=(images.base_image(),),
        gpu_mounts=(GpuMount(tmp_path, str(tmp_path)),),
    )
    before = HostState.now()
    with started(spec) as pair:
        check = f"test heavy = $(cat {tmp_path}/weights); ! touch {tmp_path}/weights 2>/dev/null; "
        serve(pair, "spread", replicas=2, gpus=1, script=check)
        found = pods(pair, "spread")
        assert {pod["spec"]["nodeName"] for pod in found} == {"node-1", "node-2"}
        eventually(lambda: ask(pair, "spread"), names(pair, "spread"))
        traces = Traces.of(pair)
        assert traces.count("net") == 5, "the host's, two nodes', two pods'"
    assert traces.left() == []
    assert HostState.now() == before
    assert "node-1" in cluster.kubectl("get", "nodes"), "the cluster beside it goes on"


@pytest.mark.parametrize("victim", ["guard", "supervisor"])
def test_kill_9_of_guard_or_supervisor_takes_nodes_and_pods_away(victim: str) -> None:
    before = HostState.now()
    with started(ClusterSpec(name=f"{victim}-{os.getpid()}", images=(images.base_image(),))) as doomed:
        serve(doomed, "doomed", replicas=1)
        traces = Traces.of(doomed)
        process = Process.load(doomed.layout.state / f"{victim}.json")
        assert process is not None
        process.kill()
        if victim == "guard":  # nobody is left to clean up: the next command does
            assert process.wait(10)
            state.running()
        deadline = time.monotonic() + 20
        while traces.left() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert traces.left() == []
    assert HostState.now() == before


def test_a_broken_image_stops_the_start_with_its_name(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"no archive")
    with pytest.raises(ClusterError, match=r"cannot import .*broken\.tar"):
        started(ClusterSpec(name=f"broken-{os.getpid()}", images=(broken,)))
    assert not Layout.of(f"broken-{os.getpid()}").state.exists()
