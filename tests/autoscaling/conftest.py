"""One cluster with the operator, the stub engine and Prometheus; what scales comes later, as on clusters of people."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster import ClusterSpec, NodeKind, OwnCluster
from tests.cluster.fixtures import started
from tests.support import images, keda, models
from tests.support.prometheus import URL_FOR_PODS, Prometheus
from tests.support.site import OPERATOR_NAMESPACE, WAIT_SECONDS, Site, install_operator
from vllm_operator.api.resource import parse_resource
from vllm_operator.render.context import RenderContext
from vllm_operator.render.policies import pod_monitor

if TYPE_CHECKING:
    from collections.abc import Iterator

GPUS: Final = 24
SETTINGS: Final = {
    "VLLM_OPERATOR_RESYNC_SECONDS": "15",
    "VLLM_OPERATOR_PROMETHEUS_ADDRESS": URL_FOR_PODS,
}
QUIET: Final[dict[str, Any]] = {"groups": []}
"""Rules of Prometheus: none."""

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def scaled() -> Iterator[OwnCluster]:
    """A cluster in which the operator runs, and nothing scales."""
    archives = (images.operator_image(), images.client_image(), models.stub().archive)
    spec = ClusterSpec(name=f"test-scaled-{os.getpid()}", node=NodeKind.REAL, gpus=GPUS, images=archives)
    with started(spec) as cluster:
        install_operator(cluster)
        place = ("--namespace", OPERATOR_NAMESPACE)
        cluster.kubectl(*place, "set", "env", "deployment/vllm-operator", *(f"{k}={v}" for k, v in SETTINGS.items()))
        words = ("rollout", "status", "deployment/vllm-operator", f"--timeout={WAIT_SECONDS}s")
        cluster.kubectl(*place, *words, timeout=WAIT_SECONDS + 30.0)
        yield cluster


@pytest.fixture(scope="module")
def prometheus(scaled: OwnCluster) -> Iterator[Prometheus]:
    """Debian's Prometheus, which reads the engines of all models as the PodMonitor of one has it."""
    document = models.model("any", models.stub(), monitoring={})
    metadata = {**document["metadata"], "namespace": "any", "uid": "0", "generation": 1}
    (monitor,) = pod_monitor(parse_resource({**document, "metadata": metadata}), RenderContext(pod_monitors=True))
    labels = dict(monitor["spec"]["selector"]["matchLabels"])
    labels.pop("app.kubernetes.io/instance")
    monitor["spec"] |= {"selector": {"matchLabels": labels}, "namespaceSelector": {"any": True}}
    with Prometheus(scaled, [monitor], QUIET) as running:
        yield running


@pytest.fixture(scope="module")
def with_keda(scaled: OwnCluster, prometheus: Prometheus) -> OwnCluster:
    """KEDA, which comes while the operator runs."""
    assert prometheus.query("vector(1)")
    keda.install(scaled)
    return scaled


@pytest.fixture
def site(scaled: OwnCluster) -> Iterator[Site]:
    """A namespace for one test. Its models go first: KEDA lets go of its objects only as long as it runs."""
    name = f"scaled-{next(_NUMBERS)}"
    scaled.kubectl("create", "namespace", name)
    yield Site(scaled, name)
    scaled.kubectl("--namespace", name, "delete", "vllmmodels", "--all", "--wait=false")
    scaled.kubectl("delete", "namespace", name, "--wait=false")
