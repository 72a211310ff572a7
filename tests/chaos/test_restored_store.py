"""etcd is restored from a backup while the operator runs: it ends, and the next one begins anew with what is there."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.scenario import CREATED, EDITED, NAME, apply
from tests.cluster import ClusterSpec, NodeKind
from tests.cluster.fixtures import started
from tests.contract.conftest import define
from tests.support.api import Api, done
from tests.support.operator_process import OperatorProcess
from tests.support.waiting import until
from vllm_operator.cluster.kinds import DEPLOYMENT, MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster import OwnCluster

pytestmark = [
    pytest.mark.api_server,
    # Python's ssl leaves a socket open whose peer has gone between its connection and its handshake
    pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning"),
]

NAMESPACE = "default"
WORST_SECONDS = 300.0


def back_up(cluster: OwnCluster, folder: Path) -> None:
    """Copy the store as it is at this moment."""
    etcd = cluster.process("etcd")
    etcd.kill(signal.SIGSTOP)
    shutil.copytree(cluster.layout.state / "etcd", folder)
    etcd.kill(signal.SIGCONT)


def restore(cluster: OwnCluster, folder: Path) -> None:
    """Have etcd begin with a copy, and the API server without its caches, as the instructions for it say."""
    data = cluster.layout.state / "etcd"
    etcd, server = cluster.process("etcd"), cluster.process("kube-apiserver")
    for process in (server, etcd):
        process.kill(signal.SIGSTOP)
    data.rename(data.with_name("etcd-before"))
    shutil.copytree(folder, data)
    for process in (etcd, server):
        process.kill()


def replicas(api: Api) -> tuple[int, int]:
    """Of the model and its Deployment."""
    model = done(api.call("GET", MODEL.path(NAMESPACE, NAME)))
    found = api.call("GET", DEPLOYMENT.path(NAMESPACE, NAME))
    return model["spec"]["replicas"], found.body.get("spec", {}).get("replicas", -1)


def answers(api: Api) -> Any:
    """What the API server says of the model; nothing while it is away."""
    try:
        return api.call("GET", MODEL.path(NAMESPACE, NAME)).body
    except (OSError, http.client.HTTPException):
        return None


def test_a_store_that_went_back_in_time_ends_the_operator_and_the_next_one_follows_it(tmp_path: Path) -> None:
    spec = ClusterSpec(name=f"test-restored-{os.getpid()}", node=NodeKind.NONE, controller_manager=False)
    with started(spec) as cluster:
        define(cluster)
        api = Api(cluster.kubeconfig)
        with OperatorProcess(cluster.kubeconfig, tmp_path, RESYNC_SECONDS="5") as operator:
            apply(CREATED)(api, NAMESPACE)
            until(lambda: replicas(api) == (2, 2), what="the model", seconds=WORST_SECONDS)
            operator.wait_for_look(operator.looks())
            back_up(cluster, tmp_path / "backup")
            apply(EDITED)(api, NAMESPACE)
            until(lambda: replicas(api) == (3, 3), what="the edit", seconds=WORST_SECONDS)
            restore(cluster, tmp_path / "backup")
            until(lambda: answers(api), what="the API server", seconds=WORST_SECONDS)
            assert operator.wait(WORST_SECONDS) == 1
            last = operator.log().rstrip().splitlines()[-1]
            assert "went back in time" in last
            assert last.startswith("vllm-operator: ")
            assert replicas(api) == (2, 2)
            operator.start()
            apply({**CREATED, "replicas": 1})(api, NAMESPACE)
            until(lambda: replicas(api) == (1, 1), what="an edit of what was restored", seconds=WORST_SECONDS)
        api.close()
