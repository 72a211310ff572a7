"""A node is drained while a rollout is on its way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterSpec, NodeKind, OwnCluster, start
from tests.e2e.test_rollouts import WINDOW, edit, lengths, loses_nothing, rolled, serve
from tests.support import images
from tests.support.load import asking
from tests.support.site import Site, install_operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.models import EngineChoice

pytestmark = pytest.mark.node

GPUS_OF_A_NODE = 4


@pytest.fixture(scope="module")
def two_nodes(stub: EngineChoice) -> Iterator[OwnCluster]:
    """A cluster of two nodes in which the operator runs."""
    spec = ClusterSpec(
        name=f"test-drain-{os.getpid()}",
        node=NodeKind.REAL,
        nodes=2,
        gpus=GPUS_OF_A_NODE,
        images=(images.operator_image(), images.client_image(), stub.archive),
    )
    with start(spec) as cluster:
        assert isinstance(cluster, OwnCluster)
        install_operator(cluster)
        yield cluster


def test_a_node_that_is_drained_during_a_rollout_costs_no_request(two_nodes: OwnCluster, stub: EngineChoice) -> None:
    two_nodes.kubectl("create", "namespace", "drained")
    site = Site(two_nodes, "drained")
    apart = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    spread = {"topologySpreadConstraints": [apart]}
    serve(site, "moved", stub, replicas=2, rollout=WINDOW, disruption={"minAvailable": 1}, scheduling=spread)
    client = asking(site, "moved")
    asks_from = site.get("pod", client)["spec"]["nodeName"]
    nodes = {one["metadata"]["name"] for one in site.list("nodes")}
    (drained,) = nodes - {asks_from}
    edit(site, "moved", 2048)
    site.until("an engine of the change", lambda: "2048" in lengths(site, "moved"))
    engines = "--pod-selector=app.kubernetes.io/name=vllm"
    words = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s", engines)
    site.kubectl("drain", drained, *words)
    rolled(site, "moved", fewest=1)
    assert {pod["spec"]["nodeName"] for pod in site.pods("moved")} == {asks_from}
    loses_nothing(site, client)
