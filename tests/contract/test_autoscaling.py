"""Autoscaling on a real API server, with the controller manager's own HorizontalPodAutoscaler controller at work.

Custom metrics are served by a few lines on loopback, to which the API server hands requests on. Of KEDA there is its
CustomResourceDefinition alone: what it would do with a ScaledObject is not seen here.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.cluster import ClusterSpec, NodeKind
from tests.cluster.fixtures import started
from tests.contract.conftest import REPOSITORY
from tests.contract.test_install import as_service_account
from tests.support import golden, keda
from tests.support.custom_metrics import custom_metrics
from tests.support.definitions import wait_established
from tests.support.namespace import Namespace, temporary
from tests.support.operator_process import OperatorProcess
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster
    from tests.support.custom_metrics import CustomMetrics

pytestmark = pytest.mark.api_server

SERVING: Final = json.dumps({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
QUICK: Final = {"loadSeconds": 15, "scaleDownWindowSeconds": 0}
SCALED: Final[dict[str, Any]] = {"maxReplicas": 4, "targets": {"waitingRequests": 5}, "behavior": QUICK}

THEIRS: Final = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "theirs"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "vllm.echo-roots.io/v1alpha1", "kind": "VLLMModel", "name": "qwen"},
        "maxReplicas": 4,
    },
}

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    """An API server with the controller manager: APIs come and go on it, which others must not see."""
    with started(ClusterSpec(name=f"test-scaling-{os.getpid()}", node=NodeKind.NONE)) as running:
        running.kubectl("apply", "--kustomize", str(REPOSITORY / "manifests" / "base"))
        wait_established(running)
        yield running


@pytest.fixture(scope="module")
def operator(cluster: OwnCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """The operator with the rights of its role, which looks every second for what has come or gone."""
    folder = tmp_path_factory.mktemp("operator")
    as_service_account(cluster, folder / "kubeconfig")
    settings = {"RESYNC_SECONDS": "1", "PROMETHEUS_ADDRESS": "http://prometheus.monitoring:9090"}
    with OperatorProcess(folder / "kubeconfig", folder, NAMESPACE="vllm-system", **settings) as running:
        yield running
    # so RBAC refuses; what is being deleted, a namespace or a definition, forbids writes in other words
    assert "forbidden: User" not in running.log()
    assert "Traceback" not in running.log()


@pytest.fixture
def place(cluster: OwnCluster, operator: OperatorProcess) -> Iterator[Namespace]:
    """A namespace for one test."""
    assert operator.get("/readyz") == "ok\n"
    with temporary(Namespace, cluster, f"scaling-{next(_NUMBERS)}") as found:
        yield found


@pytest.fixture
def metrics(cluster: OwnCluster) -> Iterator[CustomMetrics]:
    """A custom-metrics API, for one test."""
    with custom_metrics() as served:
        for document in served.objects():
            cluster.kubectl("apply", "--filename", "-", input=json.dumps(document))
        yield served
        for document in served.objects():
            cluster.kubectl("delete", "--filename", "-", input=json.dumps(document))


def replicas(place: Namespace) -> int:
    """What the resource says."""
    return int(place.get("vllmmodel", "qwen")["spec"]["replicas"])


def wait_engines(place: Namespace, count: int) -> None:
    """Until the Deployment is to have so many engines, and the resource says so."""
    until(lambda: place.get("deployment", "qwen").get("spec", {}).get("replicas") == count, what=f"{count} engines")
    assert replicas(place) == count


def wait_told(place: Namespace) -> None:
    """Until the status is that of the spec of now."""

    def told() -> bool:
        live = place.get("vllmmodel", "qwen")
        return bool(live.get("status", {}).get("observedGeneration") == live["metadata"]["generation"])

    until(told, what="the status of this spec")


def autoscaled(place: Namespace) -> tuple[str, str]:
    """Status and reason of the condition."""
    found = place.condition("Autoscaled")
    return found.get("status", ""), found.get("reason", "")


def warnings(place: Namespace) -> list[str]:
    """What the status tells beside."""
    found: list[str] = place.get("vllmmodel", "qwen").get("status", {}).get("warnings", [])
    return found


def apply(place: Namespace, *words: str, **spec: Any) -> None:
    """Apply the manifest, by one kind of `kubectl apply` or the other."""
    place.kubectl("apply", *words, "--filename", "-", document=place.document(**spec))


BOTH: Final = pytest.mark.parametrize("words", [(), ("--server-side",)], ids=["client-side", "server-side"])


@BOTH
def test_a_manifest_without_replicas_leaves_them_to_the_autoscaler_each_time(
    place: Namespace, words: tuple[str, ...]
) -> None:
    apply(place, *words, autoscaling=SCALED)
    wait_engines(place, 1)
    place.kubectl("scale", "vllmmodel", "qwen", "--replicas=3")
    wait_engines(place, 3)
    for seed in (1, 2):
        apply(place, *words, autoscaling=SCALED, engine={"seed": seed})
        wait_told(place)
        wait_engines(place, 3)
    apply(place, *words)
    wait_told(place)
    wait_engines(place, 3)
    assert place.condition("Autoscaled") == {}


@BOTH
def test_replicas_that_leave_a_manifest_for_an_autoscaler_take_no_engine_with_them(
    place: Namespace, words: tuple[str, ...]
) -> None:
    apply(place, *words, replicas=3)
    wait_engines(place, 3)
    apply(place, *words, autoscaling=SCALED)
    wait_told(place)
    wait_engines(place, 3)
    events = place.list("events")
    (told,) = [event["message"] for event in events if event["reason"] == "ReplicasKept"]
    assert "set spec.replicas to 1: kept at 3" in told
    revisions = place.list("replicasets")
    assert [found["metadata"]["generation"] for found in revisions] == [1], "no pod was ever taken away"


@BOTH
def test_a_manifest_that_sets_them_all_the_same_is_not_followed_and_told(
    place: Namespace, words: tuple[str, ...]
) -> None:
    apply(place, *words, autoscaling=SCALED)
    wait_engines(place, 1)
    apply(place, *words, autoscaling=SCALED, replicas=1)
    until(lambda: warnings(place), what="the warning")
    assert warnings(place)[0].startswith("the manifest of kubectl")
    forced = ("--force-conflicts",) if words else ()
    apply(place, *words, *forced, autoscaling=SCALED, replicas=4)
    until(lambda: replicas(place) == 1, what="the number of before")
    wait_told(place)
    wait_engines(place, 1)


def test_contradictions_are_refused_when_they_are_applied(place: Namespace) -> None:
    with pytest.raises(Exception, match=r"spec\.replicas and spec\.autoscaling contradict each other"):
        apply(place, autoscaling=SCALED, replicas=2)
    apply(place, autoscaling=SCALED)
    with pytest.raises(Exception, match=r"spec\.replicas belongs to spec\.autoscaling"):
        place.kubectl("scale", "vllmmodel", "qwen", "--replicas=9")


def test_a_model_begins_with_its_fewest_engines_though_nothing_scales_it_and_what_is_missing_is_told(
    place: Namespace,
) -> None:
    apply(place, autoscaling={**SCALED, "minReplicas": 2})
    wait_engines(place, 2)
    until(lambda: autoscaled(place) == ("False", "AutoscalerMissing"), what="the condition")
    assert "install KEDA" in place.condition("Autoscaled")["message"]
    events = place.list("events")
    assert [event for event in events if event["reason"] == "ReplicasKept"] == []


def serve(place: Namespace, count: int) -> list[str]:
    """Names of the pods, once there are so many, of which the oldest serves."""

    def found() -> list[dict[str, Any]]:
        pods = place.list("pods")
        return pods if len(pods) == count else []

    pods = until(found, what=f"{count} pods")
    names = [pod["metadata"]["name"] for pod in sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])]
    place.kubectl("patch", "pod", names[0], "--subresource=status", "--type=merge", "--patch", SERVING)
    return names


def test_the_autoscaler_of_kubernetes_follows_the_waiting_requests_and_owns_the_number(
    place: Namespace, metrics: CustomMetrics
) -> None:
    apply(place, autoscaling=SCALED)
    until(lambda: place.get("horizontalpodautoscaler", "qwen"), what="the autoscaler")
    engine, *_ = serve(place, 1)
    metrics.values = {"vllm_num_requests_waiting": {engine: "10"}}
    wait_engines(place, 2)
    until(lambda: autoscaled(place) == ("True", "AutoscalerWorks"), what="the condition")
    assert warnings(place) == []
    metrics.values = {}  # without metrics it leaves the number alone, as it does where the number suits it
    place.kubectl("scale", "vllmmodel", "qwen", "--replicas=4")
    until(lambda: any("set by hand" in told for told in warnings(place)), what="who owns the number")
    metrics.values = {"vllm_num_requests_waiting": dict.fromkeys(serve(place, 4), "0")}
    until(lambda: replicas(place) < 4, what="fewer engines")
    until(lambda: warnings(place) == [], what="the autoscaler's own number")
    place.kubectl("create", "--filename", "-", document=THEIRS)
    until(lambda: any("HorizontalPodAutoscaler theirs" in told for told in warnings(place)), what="the second one")
    before = replicas(place)
    apply(place)
    place.wait_gone("horizontalpodautoscaler", "qwen")
    assert replicas(place) == before
    assert place.get("horizontalpodautoscaler", "theirs")


def test_custom_metrics_that_come_and_go_make_and_take_the_autoscaler(cluster: OwnCluster, place: Namespace) -> None:
    apply(place, autoscaling=SCALED)
    until(lambda: autoscaled(place) == ("False", "AutoscalerMissing"), what="the condition")
    with custom_metrics() as served:
        for document in served.objects():
            cluster.kubectl("apply", "--filename", "-", input=json.dumps(document))
        until(lambda: place.get("horizontalpodautoscaler", "qwen"), what="the autoscaler")
        place.kubectl("delete", "horizontalpodautoscaler", "qwen")
        until(lambda: place.get("horizontalpodautoscaler", "qwen"), what="the autoscaler, made anew")
        for document in served.objects():
            cluster.kubectl("delete", "--filename", "-", input=json.dumps(document))
    place.wait_gone("horizontalpodautoscaler", "qwen")
    until(lambda: autoscaled(place) == ("False", "AutoscalerMissing"), what="the condition")


@pytest.fixture
def with_keda(cluster: OwnCluster) -> Iterator[None]:
    """The definition of ScaledObject, for one test."""
    cluster.kubectl("apply", "--server-side", "--filename", str(keda.definition()))
    wait_established(cluster, keda.DEFINITION)
    yield
    cluster.kubectl("delete", "crd", keda.DEFINITION)


def test_a_scaled_object_takes_the_place_of_an_autoscaler_of_the_cluster_and_goes_with_keda(
    cluster: OwnCluster, place: Namespace, metrics: CustomMetrics
) -> None:
    assert metrics.port
    apply(place, autoscaling=SCALED)
    until(lambda: place.get("horizontalpodautoscaler", "qwen"), what="the autoscaler")
    cluster.kubectl("apply", "--server-side", "--filename", str(keda.definition()))
    wait_established(cluster, keda.DEFINITION)
    live = until(lambda: place.get("scaledobject", "qwen"), what="the ScaledObject")
    assert live["spec"]["triggers"][0]["metadata"]["serverAddress"] == "http://prometheus.monitoring:9090"
    assert live["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert place.get("horizontalpodautoscaler", "qwen") == {}
    until(lambda: autoscaled(place) == ("True", "AutoscalerWorks"), what="the condition")
    version = live["metadata"]["resourceVersion"]
    wait_told(place)
    assert place.get("scaledobject", "qwen")["metadata"]["resourceVersion"] == version
    place.kubectl("patch", "scaledobject", "qwen", "--type=merge", "--patch", '{"spec": {"maxReplicaCount": 99}}')
    until(lambda: place.get("scaledobject", "qwen")["spec"]["maxReplicaCount"] == 4, what="the bound of the spec")
    cluster.kubectl("delete", "crd", keda.DEFINITION)
    until(lambda: place.get("horizontalpodautoscaler", "qwen"), what="the autoscaler of the cluster")


@pytest.mark.usefixtures("with_keda")
def test_the_definition_of_keda_takes_every_field_that_is_rendered(place: Namespace) -> None:
    documents = yaml.safe_load_all(golden.expected("autoscaled"))
    (wanted,) = [one for one in documents if one["kind"] == "ScaledObject"]
    wanted["metadata"] = {"name": "whole", "namespace": place.name}
    live = json.loads(place.kubectl("create", "--validate=strict", "--output=json", "--filename", "-", document=wanted))
    assert live["spec"] == wanted["spec"]
