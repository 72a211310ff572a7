"""Children on a real API server: edits that apply cannot repair, what is no longer wanted, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.namespace import Namespace
    from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api_server

LABELS = {"app.kubernetes.io/managed-by": "vllm-operator", "app.kubernetes.io/name": "vllm"}
CONTAINER = "/spec/template/spec/containers/0"


@pytest.fixture
def made(operator: OperatorProcess, namespace: Namespace) -> Namespace:
    """A namespace with a model whose children are there."""
    assert operator.get("/readyz") == "ok\n"
    namespace.model(engine={"env": [{"name": "A", "value": "1"}]})
    namespace.wait_reason("EnginesStarting")
    return namespace


def pod_spec(namespace: Namespace) -> dict[str, Any]:
    """Of the live Deployment's template."""
    found: dict[str, Any] = namespace.get("deployment", "qwen")["spec"]["template"]["spec"]
    return found


def by_name(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A list's items by their name, each there once."""
    found = {item["name"]: item for item in items}
    assert len(found) == len(items)
    return found


def edit(namespace: Namespace, kind: str, path: str, value: object, operation: str = "replace") -> None:
    """What a hand does with `kubectl edit`."""
    change = json.dumps([{"op": operation, "path": path, "value": value}])
    namespace.kubectl("patch", kind, "qwen", "--type=json", "--patch", change, "--field-manager=kubectl-edit")


def index(namespace: Namespace, part: str, name: str) -> int:
    """Where in a list of the engine's container an item stands."""
    return [item["name"] for item in pod_spec(namespace)["containers"][0][part]].index(name)


def test_a_service_port_that_somebody_changed_is_repaired_and_a_foreign_one_stays(made: Namespace) -> None:
    edit(made, "service", "/spec/ports/-", {"name": "mine", "port": 7000, "protocol": "TCP"}, "add")
    edit(made, "service", "/spec/ports/0/port", 9000)
    until(
        lambda: (
            {port["name"]: port["port"] for port in made.get("service", "qwen")["spec"]["ports"]}
            == {"http": 8000, "mine": 7000}
        ),
        what="port 8000",
    )
    made.wait_reason("EnginesStarting")


def test_a_container_port_that_somebody_changed_is_repaired(made: Namespace) -> None:
    edit(made, "deployment", f"{CONTAINER}/ports/0/containerPort", 9000)
    until(
        lambda: [port["containerPort"] for port in pod_spec(made)["containers"][0]["ports"]] == [8000],
        what="port 8000",
    )
    made.wait_reason("EnginesStarting")


def test_a_variable_whose_value_somebody_made_a_reference_is_repaired_and_goes_when_it_leaves_the_spec(
    made: Namespace,
) -> None:
    made.kubectl("set", "env", "deployment/qwen", "FOREIGN=1")
    reference = {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    edit(made, "deployment", f"{CONTAINER}/env/{index(made, 'env', 'A')}", reference)
    until(
        lambda: by_name(pod_spec(made)["containers"][0]["env"])["A"] == {"name": "A", "value": "1"},
        what="the value of A",
    )
    assert by_name(pod_spec(made)["containers"][0]["env"])["FOREIGN"]["value"] == "1"
    made.model()
    until(lambda: "A" not in by_name(pod_spec(made)["containers"][0]["env"]), what="the end of A")
    assert by_name(pod_spec(made)["containers"][0]["env"])["FOREIGN"]["value"] == "1"


def test_a_volume_that_somebody_made_another_kind_of_is_repaired(made: Namespace) -> None:
    number = [volume["name"] for volume in pod_spec(made)["volumes"]].index("shm")
    edit(made, "deployment", f"/spec/template/spec/volumes/{number}", {"name": "shm", "hostPath": {"path": "/dev/shm"}})  # noqa: S108 # not opened here
    until(lambda: "hostPath" not in by_name(pod_spec(made)["volumes"])["shm"], what="a volume in memory")
    assert by_name(pod_spec(made)["volumes"])["shm"]["emptyDir"]["medium"] == "Memory"


def test_a_probe_that_somebody_replaced_is_repaired(made: Namespace) -> None:
    edit(made, "deployment", f"{CONTAINER}/readinessProbe", {"httpGet": {"path": "/health", "port": 8000}})
    until(lambda: "exec" in pod_spec(made)["containers"][0]["readinessProbe"], what="the gate")
    assert "httpGet" not in pod_spec(made)["containers"][0]["readinessProbe"]


def test_what_was_repaired_is_the_operators_by_apply_alone(made: Namespace) -> None:
    edit(made, "service", "/spec/ports/0/port", 9000)
    until(lambda: made.get("service", "qwen")["spec"]["ports"][0]["port"] == 8000, what="port 8000")

    def operations() -> list[str]:
        fields = made.get("service", "qwen")["metadata"]["managedFields"]
        return [entry["operation"] for entry in fields if entry["manager"] == "vllm-operator"]

    until(lambda: operations() == ["Apply"], what="one entry of the operator's")


def owned(namespace: Namespace, name: str, **owner: Any) -> dict[str, Any]:
    """A ConfigMap that looks like a child of the model."""
    reference = {
        "apiVersion": "vllm.echo-roots.io/v1alpha1",
        "kind": "VLLMModel",
        "name": "qwen",
        "uid": namespace.get("vllmmodel", "qwen")["metadata"]["uid"],
        **owner,
    }
    labels = {**LABELS, "app.kubernetes.io/instance": "qwen"}
    metadata = {"name": name, "labels": labels, "ownerReferences": [reference]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def test_a_child_that_is_no_longer_wanted_is_deleted_and_nothing_else(
    made: Namespace, operator: OperatorProcess
) -> None:
    kept = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "qwen-old", "labels": {**LABELS, "app.kubernetes.io/instance": "qwen"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    for document in (kept, owned(made, "not-controlled", controller=False), owned(made, "unwanted", controller=True)):
        made.kubectl("create", "--filename", "-", document=document)
    made.wait_gone("configmap", "unwanted")
    looks = operator.looks()
    made.kubectl("annotate", "vllmmodel", "qwen", "look=again")
    operator.wait_for_look(looks)
    assert made.get("configmap", "not-controlled")
    assert "deletionTimestamp" not in made.get("persistentvolumeclaim", "qwen-old")["metadata"]


def test_what_is_refused_does_not_keep_the_other_children_from_being_written(made: Namespace) -> None:
    made.model("bad", resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}})
    told = made.wait_reason("ChildRefused", "bad")["message"]
    assert told.startswith("Deployment bad: ")
    assert "must be less than or equal to memory limit" in told
    assert made.get("service", "bad")
    status = made.get("vllmmodel", "bad")["status"]
    assert status["binding"] == {"name": "bad-binding", "configMap": "bad-client"}


def test_a_refused_spec_goes_on_counting_the_engines(made: Namespace) -> None:
    made.model(model={"source": "org/tiny", "servedNames": ["no-break\u00a0space"]})
    made.wait_reason("InvalidSpec")
    counts = json.dumps({"status": {"replicas": 5, "readyReplicas": 2}})
    made.kubectl("scale", "deployment", "qwen", "--replicas=5")
    made.kubectl("patch", "deployment", "qwen", "--subresource=status", "--type=merge", "--patch", counts)
    until(lambda: made.get("vllmmodel", "qwen")["status"]["replicas"] == 5, what="five engines in the status")


@pytest.fixture
def webhook(namespace: Namespace) -> Iterator[str]:
    """A webhook for Services of this namespace that does not answer."""
    name = f"down-{namespace.name}"
    hook = {
        "name": "down.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["services"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    kind = "ValidatingWebhookConfiguration"
    document = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "webhooks": [hook],
    }
    namespace.kubectl("create", "--filename", "-", document=document)
    yield name
    namespace.kubectl("delete", kind, name, "--ignore-not-found")


def test_a_child_that_cannot_be_written_now_is_told_and_written_when_it_can(
    operator: OperatorProcess, namespace: Namespace, webhook: str
) -> None:
    assert operator.get("/readyz") == "ok\n"
    namespace.model()
    told = namespace.wait_reason("ChildNotWritten")["message"]
    assert "Service qwen: " in told
    assert "failed calling webhook" in told
    assert namespace.condition("Reconciling")["status"] == "True"
    assert namespace.condition("Stalled")["status"] == "False"
    assert namespace.get("deployment", "qwen")
    namespace.kubectl("delete", "validatingwebhookconfiguration", webhook)
    namespace.wait_reason("EnginesStarting")
    assert namespace.get("service", "qwen")
