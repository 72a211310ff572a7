"""Engines over two nodes: the real controller of LeaderWorkerSets, real kubelets, and the stub engine in each pod.

The stub stands still while a worker of its group is silent, as vLLM does, whose steps need all of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import ClusterError, ClusterSpec, NodeKind, OwnCluster, start
from tests.support import images, lws, models
from tests.support.site import Site, install_operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.models import EngineChoice

pytestmark = pytest.mark.node

NAME = "wide"
HOSTNAME = "kubernetes.io/hostname"
GPUS_OF_A_NODE = 8
FURTHER = ("node-2", "node-3")
KILLED = "exit code 137"
WORKER_INDEX = "leaderworkerset.sigs.k8s.io/worker-index"
AT_ONCE_SECONDS = 40.0
"""A group that cannot serve is out of its Service by then, on a machine that does much else beside."""
PATIENCE_SECONDS = 240.0

SPEC: dict[str, Any] = {
    "parallelism": {"tensor": 2, "nodes": 2},
    "gates": {"restartWindowSeconds": 20},
    "engine": {"maxModelLen": 1024, "shutdownTimeoutSeconds": 5, "shutdownDelaySeconds": 2},
    "scheduling": {
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": HOSTNAME, "operator": "NotIn", "values": ["node-1"]}]}
                    ]
                }
            }
        },
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway"}],
    },
}


@pytest.fixture(scope="module")
def three_nodes(stub: EngineChoice) -> Iterator[OwnCluster]:
    """A cluster of three nodes in which the operator runs, and nothing knows LeaderWorkerSets."""
    spec = ClusterSpec(
        name=f"test-groups-{os.getpid()}",
        node=NodeKind.REAL,
        nodes=3,
        gpus=GPUS_OF_A_NODE,
        images=(images.operator_image(), images.client_image(), stub.archive, lws.image()),
    )
    with start(spec) as cluster:
        assert isinstance(cluster, OwnCluster)
        cluster.kubectl("cordon", *FURTHER)  # what is to outlive them does not run there
        install_operator(cluster)
        yield cluster


@pytest.fixture(scope="module")
def lacking(three_nodes: OwnCluster, stub: EngineChoice) -> tuple[Site, dict[str, Any]]:
    """A model over two nodes before its cluster can have one, and what its status says then; then the kind is there."""
    three_nodes.kubectl("create", "namespace", "groups")
    site = Site(three_nodes, "groups")
    site.apply(models.model(NAME, stub, **SPEC))
    told = site.wait_reason("LeaderWorkerSetMissing", NAME)
    lws.install(three_nodes)
    three_nodes.kubectl("uncordon", *FURTHER)
    return site, told


@pytest.fixture
def site(lacking: tuple[Site, dict[str, Any]]) -> Site:
    """The namespace of the model, whose one group serves, whatever the test before has left."""
    found, _ = lacking
    found.patch(NAME, {"replicas": 1, "parallelism": SPEC["parallelism"]})
    wait_group(found)
    return found


def wait_group(site: Site) -> None:
    """Until what serves is the one group that there is: for a moment, Ready tells of what that has replaced."""

    def serves() -> bool:
        pods = members(site)
        return set(pods) == {"0", "1"} and site.endpoints(NAME) == {pods["0"]["status"].get("podIP")}

    site.wait_ready(NAME, PATIENCE_SECONDS)
    site.until("a group that serves", serves, PATIENCE_SECONDS)
    site.wait_ready(NAME, PATIENCE_SECONDS)


def members(site: Site) -> dict[str, dict[str, Any]]:
    """The pods of the first group by their number: the leader's is 0."""
    return {
        pod["metadata"]["labels"][WORKER_INDEX]: pod
        for pod in site.pods(NAME)
        if pod["metadata"]["labels"].get("leaderworkerset.sigs.k8s.io/group-index") == "0"
    }


def uids(site: Site) -> set[str]:
    """Identities of the first group's pods."""
    return {pod["metadata"]["uid"] for pod in members(site).values()}


def send(site: Site, pod: dict[str, Any], name: str) -> None:
    """Send a signal to all processes of the engine in a pod, by the name that Python has for it."""
    program = f"""
import contextlib, os, signal
for number in filter(str.isdigit, os.listdir("/proc")):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        words = open(f"/proc/{{number}}/cmdline", "rb").read().split(b"\\0")
        if b"serve" in words and b"stem.py" not in words[4]:
            os.kill(int(number), signal.{name})
"""
    try:
        site.kubectl("exec", pod["metadata"]["name"], "-c", "vllm", "--", "python3", "-c", program)
    except ClusterError as error:
        if KILLED not in str(error):  # a container that ends takes this program with it
            raise


def is_made_anew(site: Site, before: set[str]) -> None:
    """The group is out of its Service at once, and every pod of it is another afterwards."""
    site.until("the group is out", lambda: not site.endpoints(NAME), AT_ONCE_SECONDS, closely=True)
    site.until("other pods", lambda: len(uids(site)) == len(before) and not uids(site) & before, PATIENCE_SECONDS)
    wait_group(site)


def test_without_leader_worker_sets_the_status_says_how_to_get_them_and_a_group_serves_once_they_are_there(
    lacking: tuple[Site, dict[str, Any]], site: Site
) -> None:
    _, told = lacking
    assert told["status"] == "False"
    assert "kubectl apply --server-side -f https://github.com/kubernetes-sigs/lws/" in told["message"]
    assert not site.get("deployment", NAME)
    assert site.get("leaderworkerset", NAME)["spec"]["leaderWorkerTemplate"]["size"] == 2
    pods = members(site)
    assert sorted(pods) == ["0", "1"]
    assert site.endpoints(NAME) == site.endpoints(f"{NAME}-engines") == {pods["0"]["status"]["podIP"]}
    status = site.get("vllmmodel", NAME)["status"]
    assert status["readyReplicas"] == status["replicas"] == 1, "an engine is a group"
    assert site.ask(NAME, "who serves?")


def test_a_group_whose_worker_is_killed_is_out_at_once_and_made_anew(site: Site) -> None:
    before, pods = uids(site), members(site)
    send(site, pods["1"], "SIGKILL")
    is_made_anew(site, before)


def test_a_group_whose_worker_hangs_is_out_and_made_anew(site: Site) -> None:
    before, pods = uids(site), members(site)
    send(site, pods["1"], "SIGSTOP")
    is_made_anew(site, before)


def test_a_group_whose_leader_is_killed_is_made_anew(site: Site) -> None:
    before, pods = uids(site), members(site)
    send(site, pods["0"], "SIGKILL")
    is_made_anew(site, before)


def test_a_rollout_replaces_one_group_after_the_other(site: Site) -> None:
    site.patch(NAME, {"replicas": 2})
    site.wait_ready(NAME, PATIENCE_SECONDS)
    site.wait_endpoints(NAME, 2)
    before = {pod["metadata"]["uid"] for pod in site.pods(NAME)}
    site.patch(NAME, {"engine": {"maxModelLen": 2048}})

    def is_over() -> bool:
        assert len(site.endpoints(NAME)) >= 1, site.report()
        pods = site.pods(NAME)
        return len(pods) == len(before) and not before & {pod["metadata"]["uid"] for pod in pods}

    site.until("other pods", is_over, PATIENCE_SECONDS, closely=True)
    site.wait_ready(NAME, PATIENCE_SECONDS)
    words = [pod["spec"]["containers"][0]["args"] for pod in site.pods(NAME)]
    assert {given[given.index("--max-model-len") + 1] for given in words} == {"2048"}
    site.patch(NAME, {"replicas": 1})
    site.until("one group", lambda: len(site.pods(NAME)) == 2, PATIENCE_SECONDS)


def test_one_pod_and_several_take_each_others_place(site: Site) -> None:
    site.patch(NAME, {"parallelism": {"nodes": 1}})
    site.wait_gone("leaderworkerset", NAME)
    site.wait_ready(NAME, PATIENCE_SECONDS)
    assert site.get("deployment", NAME)["status"]["readyReplicas"] == 1
    site.patch(NAME, {"parallelism": {"nodes": 2}})
    site.wait_gone("deployment", NAME)
    wait_group(site)


def test_a_group_that_loses_a_node_is_out_and_is_made_anew_once_the_node_is_given_up(
    site: Site, three_nodes: OwnCluster
) -> None:
    pods, before = members(site), uids(site)
    lost = pods["1"]["spec"]["nodeName"]
    assert lost != pods["0"]["spec"]["nodeName"]
    cut = three_nodes.run_inside(["ip", "link", "set", f"wire-{lost.rpartition('-')[2]}", "down"])
    assert cut.returncode == 0, cut.stderr
    site.until("the group is out", lambda: not site.endpoints(NAME), AT_ONCE_SECONDS, closely=True)
    three_nodes.kubectl("delete", "node", lost, "--wait=false")
    site.until("other pods", lambda: len(uids(site)) == len(before) and not uids(site) & before, PATIENCE_SECONDS)
    wait_group(site)
    assert site.list("nodes")
