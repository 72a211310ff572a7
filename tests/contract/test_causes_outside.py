"""What keeps engines from running, as real controllers word it, and nodes, claims and pods of a real API server show.

No scheduler and no kubelet runs here: the test says what they would, and everything else is real.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.namespace import Namespace
    from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api_server

RESOURCE = "example.com/card"
NODE = "outside-cards"
ANYWHERE = {"tolerations": [{"operator": "Exists"}]}


@pytest.fixture(autouse=True)
def running(operator: OperatorProcess) -> None:
    """The operator, at work."""
    assert operator.get("/healthz") == "ok\n"


@pytest.fixture
def cards(namespace: Namespace) -> Iterator[Namespace]:
    """A namespace of a cluster with one node, of whose four cards a pod holds three."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {"pool": "cards"}}}
    namespace.kubectl("apply", "--filename", "-", document=node)
    amounts = {"cpu": "64", "memory": "256Gi", "pods": "110", RESOURCE: "4"}
    patch_status(namespace, "node", NODE, {"capacity": amounts, "allocatable": amounts})
    container = {"name": "main", "image": "main", "resources": {"limits": {RESOURCE: "3"}}}
    spec = {"nodeName": NODE, "containers": [container], "tolerations": [{"operator": "Exists"}]}
    until(lambda: namespace.get("serviceaccount", "default"), what="the account of the namespace")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "notebook"}, "spec": spec}
    namespace.kubectl("apply", "--filename", "-", document=pod)
    yield namespace
    namespace.kubectl("delete", "pod", "notebook", "--force", "--grace-period=0")
    namespace.kubectl("delete", "node", NODE)


def patch_status(namespace: Namespace, kind: str, name: str, status: dict[str, Any]) -> None:
    """Write a part of an object's status."""
    patch = json.dumps({"status": status})
    namespace.kubectl("patch", kind, name, "--subresource=status", "--type=merge", "--patch", patch)


def pods_of(namespace: Namespace, model: str, count: int = 1) -> list[str]:
    """Names of a model's pods, once there are so many."""

    def look() -> list[str]:
        found = namespace.kubectl("get", "pods", "-l", f"app.kubernetes.io/instance={model}", "-o", "name").split()
        return found if len(found) == count else []

    return [name.removeprefix("pod/") for name in until(look, what=f"pods of {model}")]


def no_node_for(namespace: Namespace, model: str, words: str) -> None:
    """Say of a model's pod what a scheduler would."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": now}
    patch_status(namespace, "pod", pods_of(namespace, model)[0], {"conditions": [{**told, "message": words}]})


def wait_told(namespace: Namespace, model: str, *texts: str) -> str:
    """The message of a model's Ready condition, once it holds these texts."""

    def look() -> str:
        message: str = namespace.condition("Ready", model).get("message", "")
        return message if all(text in message for text in texts) else ""

    return until(look, what=f"{texts} of {model}")


def asking(count: int, **scheduling: Any) -> dict[str, Any]:
    """Spec of a model that wants so many cards."""
    return {"accelerator": {"resource": RESOURCE, "count": count}, "scheduling": {**ANYWHERE, **scheduling}}


def test_cards_that_others_hold_too_many_of_them_and_labels_that_no_node_has_are_told(cards: Namespace) -> None:
    cards.model("taken", **asking(2))
    cards.model("large", **asking(8))
    cards.model("lost", **asking(1, nodeSelector={"pool": "gpus"}))
    words = f"0/1 nodes are available: 1 Insufficient {RESOURCE}. preemption: 0/1 nodes are available: 1 No preemption."
    for model in ("taken", "large"):
        no_node_for(cards, model, words)
    no_node_for(cards, "lost", "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")
    wait_told(
        cards,
        "taken",
        f"one pod asks for 2 {RESOURCE}, node {NODE} that it may use has 4, 1 are free",
        f"held by pod {cards.name}/notebook (3)",
    )
    wait_told(cards, "large", f"one pod asks for 8 {RESOURCE}, and the largest node has 4")
    wait_told(cards, "lost", "no node meets spec.scheduling.nodeSelector pool=gpus, nodes have pool=cards")
    known = cards.get("vllmmodel", "large")["status"]["diagnosis"]
    assert [(one["id"], one["field"], one["value"]) for one in known] == [
        ("NodeTooSmall", "spec.parallelism.tensor", "4")
    ]


def test_a_claim_without_a_volume_is_told_in_the_words_of_its_controller(namespace: Namespace) -> None:
    claim = {"size": "1Gi", "storageClassName": "nowhere"}
    namespace.model("cached", storage={"cache": {"persistentVolumeClaim": claim}})
    no_node_for(namespace, "cached", "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
    wait_told(
        namespace, "cached", 'claim cached-cache has no volume: storageclass.storage.k8s.io "nowhere" not found: name a'
    )


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"pod": {"serviceAccountName": "nobody"}}, "spec.pod.serviceAccountName"),
        ({"scheduling": {"priorityClassName": "nothing"}}, "spec.scheduling.priorityClassName"),
        ({"scheduling": {"runtimeClassName": "nowhere"}}, "spec.scheduling.runtimeClassName"),
    ],
)
def test_what_a_pod_names_and_the_api_server_does_not_have_is_told_with_the_field(
    namespace: Namespace, spec: dict[str, Any], field: str
) -> None:
    namespace.model(**spec)
    message = namespace.wait_reason("PodsRefused")["message"]
    assert "not found" in message or "was found" in message
    assert field in message


def test_a_model_of_which_some_engines_serve_is_degraded_by_one_line_and_one_event(namespace: Namespace) -> None:
    namespace.model(replicas=2, engine={"image": "registry.invalid/none:1"})
    serves, fails = pods_of(namespace, "qwen", 2)
    patch_status(namespace, "pod", serves, {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
    error = 'Head "https://registry.invalid/v2/none/manifests/1": dial tcp: lookup registry.invalid: no such host'
    waiting = {"reason": "ErrImagePull", "message": f'failed to resolve reference "registry.invalid/none:1": {error}'}
    container = {"name": "vllm", "image": "none", "imageID": "", "ready": False, "restartCount": 0}
    statuses = [{**container, "state": {"waiting": waiting}}]
    placed = {"type": "PodScheduled", "status": "True"}
    patch_status(namespace, "pod", fails, {"containerStatuses": statuses, "conditions": [placed]})
    namespace.kubectl("wait", "--for=condition=Degraded", "vllmmodel/qwen", "--timeout=30s")
    told = namespace.condition("Degraded")
    assert told["reason"] == "EnginesFailing"
    assert told["message"] == (
        f"1 of 2 engines serve; {fails} does not serve: the node does not reach the registry, or gets no answer in "
        "time: look at the node's DNS, proxy and firewall, and at the host in spec.engine.image, kubelet tries again "
        "by itself"
    )
    assert "EnginesFailing" in namespace.kubectl("get", "vllm", "qwen"), "the column says why it is not ready"
    events = ["get", "events", "--field-selector", "reason=EnginesFailing", "--output", "name"]
    assert len(until(lambda: namespace.kubectl(*events).split(), what="the Event")) == 1
    patch_status(namespace, "pod", fails, {"conditions": [placed, {"type": "Ready", "status": "True"}]})
    namespace.kubectl("wait", "--for=condition=Degraded=False", "vllmmodel/qwen", "--timeout=30s")
