"""Models in queues of the real Kueue: who waits, who goes first, and what is told of it. Run by `make kueue`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import ClusterSpec, NodeKind, OwnCluster, start
from tests.support import images, kueue, lws, models, plugin
from tests.support.site import Site, install_operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.models import EngineChoice

pytestmark = pytest.mark.node

GPUS = 32
PATIENCE_SECONDS = 240.0
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
SOON = {"surgeTimeoutSeconds": 3}
QUICK = {"maxModelLen": 1024, "shutdownTimeoutSeconds": 2, "shutdownDelaySeconds": 1}
FULL = "insufficient unused quota for nvidia.com/gpu in flavor default-flavor, 1 more needed"
FULL_REMEDY = "suspend or delete a model of the queue, or raise nominalQuota of its ClusterQueue"


def spec(queue: str | None = "gpus", **more: Any) -> dict[str, Any]:
    """Fields of a model in a queue."""
    scheduling = {**more.pop("scheduling", {}), **({"queueName": queue} if queue else {})}
    engine = {**QUICK, **more.pop("engine", {})}
    return {"engine": engine, "rollout": SOON, **({"scheduling": scheduling} if scheduling else {}), **more}


@pytest.fixture(scope="module")
def without(stub: EngineChoice) -> Iterator[tuple[OwnCluster, dict[str, Any]]]:
    """A cluster with Kueue, and the pod of a model that named a queue before there was any."""
    archives = (images.operator_image(), images.client_image(), stub.archive, lws.image(), kueue.image())
    shape = ClusterSpec(name=f"test-kueue-{os.getpid()}", node=NodeKind.REAL, gpus=GPUS, images=archives)
    with start(shape) as cluster:
        assert isinstance(cluster, OwnCluster)
        install_operator(cluster)
        cluster.kubectl("create", "namespace", "early")
        early = Site(cluster, "early")
        early.apply(models.model("early", stub, **spec()))
        early.wait_ready("early", PATIENCE_SECONDS)
        (pod,) = early.pods("early")
        lws.install(cluster)
        kueue.install(cluster)
        yield cluster, pod


@pytest.fixture
def site(without: tuple[OwnCluster, dict[str, Any]], request: pytest.FixtureRequest) -> Iterator[Site]:
    """A namespace for one test."""
    cluster, _ = without
    namespace = request.node.originalname.removeprefix("test_").replace("_", "-")[:30].rstrip("-")
    cluster.kubectl("create", "namespace", namespace)
    yield Site(cluster, namespace)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def serve(site: Site, name: str, stub: EngineChoice, **more: Any) -> None:
    """Have a model serve."""
    site.apply(models.model(name, stub, **spec(**more)))
    site.wait_ready(name, PATIENCE_SECONDS)


def told(site: Site, name: str, *words: str) -> dict[str, Any]:
    """The Ready condition, once its message has all of these words."""

    def look() -> dict[str, Any]:
        found = site.condition("Ready", name)
        return found if all(one in str(found.get("message")) for one in words) else {}

    return site.until(f"{words} of {name}", look, PATIENCE_SECONDS)


def events(site: Site, name: str, reason: str) -> list[str]:
    """What Events about a model say under a reason."""
    found = site.kubectl(
        "get",
        "events",
        "--field-selector",
        f"involvedObject.name={name},involvedObject.kind=VLLMModel,reason={reason}",
        "--output",
        'jsonpath={range .items[*]}{.message}{"\\n"}{end}',
    )
    return found.splitlines()


def warnings(site: Site, name: str) -> str:
    """What the status warns of."""
    return " ".join(site.get("vllmmodel", name).get("status", {}).get("warnings", []))


def uids(site: Site, name: str) -> set[str]:
    """Identities of a model's pods."""
    return {pod["metadata"]["uid"] for pod in site.pods(name)}


def test_where_there_is_no_kueue_a_queue_holds_nobody_back_and_its_coming_replaces_nothing(
    without: tuple[OwnCluster, dict[str, Any]],
) -> None:
    cluster, pod = without
    site = Site(cluster, "early")
    assert not pod["spec"].get("schedulingGates")
    assert site.get("deployment", "early")["metadata"]["labels"][QUEUE_LABEL] == "gpus"
    site.wait_ready("early", PATIENCE_SECONDS)
    assert uids(site, "early") == {pod["metadata"]["uid"]}


def test_a_second_model_waits_with_queue_and_remedy_told_until_the_first_gives_its_quota_back(
    site: Site, stub: EngineChoice
) -> None:
    kueue.queue(site, 1)
    serve(site, "first", stub)
    site.apply(models.model("second", stub, **spec()))
    found = told(site, "second", "kueue.x-k8s.io/admission", "LocalQueue gpus says: ", FULL, FULL_REMEDY)
    assert (found["status"], found["reason"]) == ("False", "SchedulingGated")
    (event,) = site.until("an Event", lambda: events(site, "second", "SchedulingGated"))
    assert "LocalQueue gpus says: " in event
    assert FULL_REMEDY in event
    shown = json.loads(plugin.said(site, "status", "second", "-o", "json"))
    assert "LocalQueue gpus says: " in shown["engines"][0]["sentence"]
    assert FULL_REMEDY in shown["diagnosis"][0]["advice"]
    site.patch("first", {"suspend": True})
    site.wait_ready("second", PATIENCE_SECONDS)
    assert site.condition("Ready", "first")["reason"] == "Suspended"
    site.patch("first", {"suspend": False})
    told(site, "first", "LocalQueue gpus says: ", FULL)
    site.kubectl("delete", "vllmmodel", "second")
    site.wait_ready("first", PATIENCE_SECONDS)


def test_a_rollout_without_quota_to_spare_goes_on_in_place(site: Site, stub: EngineChoice) -> None:
    kueue.queue(site, 1)
    serve(site, "qwen", stub)
    before = uids(site, "qwen")
    site.patch("qwen", {"engine": {"maxModelLen": 1025}})
    site.until("other pods", lambda: len(uids(site, "qwen")) == 1 and not uids(site, "qwen") & before, PATIENCE_SECONDS)
    site.wait_ready("qwen", PATIENCE_SECONDS)
    site.until(
        "a Deployment at rest",
        lambda: site.get("deployment", "qwen")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1,
    )


def test_no_engine_goes_for_one_that_its_queue_would_never_admit(site: Site, stub: EngineChoice) -> None:
    kueue.queue(site, 1)
    serve(site, "qwen", stub)
    before = uids(site, "qwen")
    site.patch("qwen", {"parallelism": {"tensor": 2}})
    found = told(site, "qwen", "more nvidia.com/gpu than its queue ever has (1)", "so none goes")
    assert found["reason"] == "RolloutWaits"
    assert before < uids(site, "qwen")
    assert len(site.endpoints("qwen")) == 1
    site.patch("qwen", {"parallelism": {"tensor": 1}})
    site.wait_ready("qwen", PATIENCE_SECONDS)
    assert uids(site, "qwen") == before, "taken back, nothing was replaced"


def test_an_engine_that_kueue_takes_away_for_another_is_told_as_that_and_as_no_failure(
    site: Site, stub: EngineChoice
) -> None:
    kueue.queue(site, 1, preemption={"withinClusterQueue": "LowerPriority"})
    for name, value in (("low", 10), ("high", 1000)):
        body = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}}
        site.apply({**body, "value": value, "preemptionPolicy": "Never"})
    serve(site, "lesser", stub, scheduling={"priorityClassName": "low"})
    site.apply(models.model("greater", stub, **spec(scheduling={"priorityClassName": "high"})))
    seen: set[str] = set()

    def waits() -> bool:
        found = site.condition("Ready", "lesser")
        seen.add(str(found.get("reason")))
        return FULL in str(found.get("message"))

    site.until("the lesser one waits in its queue", waits, PATIENCE_SECONDS)
    assert "Kueue has taken lesser-" in site.condition("Ready", "lesser")["message"]
    site.wait_ready("greater", PATIENCE_SECONDS)
    assert seen <= {"AllEnginesServe", "EnginesStarting", "SchedulingGated", "Scaling"}
    site.patch("greater", {"suspend": True})
    site.wait_ready("lesser", PATIENCE_SECONDS)


def test_another_queue_is_taken_once_no_engine_is_ready_and_other_edits_are_followed_meanwhile(
    site: Site, stub: EngineChoice
) -> None:
    kueue.queue(site, 2)
    kueue.queue(site, 2, "others")
    serve(site, "qwen", stub)
    site.patch("qwen", {"scheduling": {"queueName": "others"}, "engine": {"maxModelLen": 1025}})
    site.until("the warning", lambda: "stay in LocalQueue gpus" in warnings(site, "qwen"))
    site.wait_ready("qwen", PATIENCE_SECONDS)
    assert "1025" in str(site.pods("qwen")[0]["spec"]["containers"])
    assert site.get("deployment", "qwen")["metadata"]["labels"][QUEUE_LABEL] == "gpus"
    site.patch("qwen", {"suspend": True})
    site.until(
        "the other queue",
        lambda: site.get("deployment", "qwen")["metadata"]["labels"][QUEUE_LABEL] == "others",
        PATIENCE_SECONDS,
    )
    site.patch("qwen", {"suspend": False})
    site.wait_ready("qwen", PATIENCE_SECONDS)
    assert {pod["metadata"]["labels"][QUEUE_LABEL] for pod in site.pods("qwen")} == {"others"}
    assert not warnings(site, "qwen")
    site.patch("qwen", {"scheduling": {"queueName": None}})
    site.until("the remedy", lambda: "`kubectl delete deployment qwen`" in warnings(site, "qwen"))
    site.kubectl("delete", "deployment", "qwen")
    site.until("pods without a queue", lambda: _queues(site, "qwen") == {None}, PATIENCE_SECONDS)
    site.wait_ready("qwen", PATIENCE_SECONDS)


def _queues(site: Site, name: str) -> set[str | None]:
    return {pod["metadata"]["labels"].get(QUEUE_LABEL) for pod in site.pods(name)}


def test_a_queue_that_is_not_there_is_told_and_its_coming_is_enough(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("qwen", stub, **spec("lost")))
    told(site, "qwen", "this namespace has no LocalQueue lost", "correct spec.scheduling.queueName")
    kueue.queue(site, 1, "lost")
    site.wait_ready("qwen", PATIENCE_SECONDS)


def test_a_group_over_several_nodes_is_admitted_as_a_whole(site: Site, stub: EngineChoice) -> None:
    kueue.queue(site, 3)
    wide: dict[str, Any] = {"parallelism": {"tensor": 2, "nodes": 2}}
    serve(site, "wide", stub, **wide)
    assert site.get("leaderworkerset", "wide")["metadata"]["labels"][QUEUE_LABEL] == "gpus"
    site.apply(models.model("wider", stub, **spec(**wide)))
    found = told(site, "wider", "LocalQueue gpus says: ", "insufficient unused quota for nvidia.com/gpu", FULL_REMEDY)
    assert found["reason"] == "SchedulingGated"
    site.patch("wide", {"scheduling": {"queueName": "others"}})
    site.until("the remedy", lambda: "`kubectl delete leaderworkerset wide`" in warnings(site, "wide"))
    site.wait_ready("wide", PATIENCE_SECONDS)
    site.patch("wide", {"suspend": True})
    site.wait_ready("wider", PATIENCE_SECONDS)


def test_a_kueue_that_gates_all_or_waits_too_short_for_a_start_is_told_with_the_remedy(
    site: Site, stub: EngineChoice
) -> None:
    here = {"matchLabels": {"kubernetes.io/metadata.name": site.name}}
    kueue.install(
        site.cluster,
        manageJobsWithoutQueueName=True,
        managedJobsNamespaceSelector=here,
        waitForPodsReady={"timeout": "20s", "recoveryTimeout": "20s"},
    )
    site.apply(models.model("qwen", stub, **spec(None)))
    told(site, "qwen", "Kueue holds pods back here that name no queue", "set spec.scheduling.queueName to a LocalQueue")
    kueue.queue(site, 2)
    site.patch("qwen", {"scheduling": {"queueName": "gpus"}})
    site.wait_ready("qwen", PATIENCE_SECONDS)
    for_ever = {"env": [{"name": "STUB_LOAD_SECONDS", "value": "3000"}]}
    site.apply(models.model("large", stub, **spec(engine=for_ever)))
    site.until(
        "an Event of the timeout",
        lambda: any("raise waitForPodsReady.timeout" in one for one in events(site, "large", "EnginesStarting")),
        PATIENCE_SECONDS,
    )
