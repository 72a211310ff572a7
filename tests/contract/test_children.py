"""Children on a real API server: edits that apply cannot repair, what is no longer wanted, and what is refused."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import ClusterSpec, NodeKind
from tests.cluster.fixtures import started
from tests.contract.conftest import REPOSITORY
from tests.support.definitions import wait_established
from tests.support.namespace import Namespace
from tests.support.operator_process import OperatorProcess
from tests.support.waiting import until
from vllm_operator.api.meta import FIELD_MANAGER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
        lambda: [port["containerPort"] for port in pod_spec(made)["containers"][0]["ports"]] == [8000, 8480],
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
    edit(made, "deployment", f"{CONTAINER}/readinessProbe", {"exec": {"command": ["true"]}})
    until(lambda: "httpGet" in pod_spec(made)["containers"][0]["readinessProbe"], what="the manager's answer")
    assert "exec" not in pod_spec(made)["containers"][0]["readinessProbe"]


def as_an_earlier_version_made_it(live: dict[str, Any]) -> dict[str, Any]:
    """The Deployment with probes, a hook and programs of the ConfigMap vllm-gates, as applied by the operator."""
    pod = live["spec"]["template"]["spec"]
    program = {"command": ["python3", "/opt/vllm-gates/probe.py"]}
    (engine,) = pod["containers"]
    own = ("manager", "manager-state")
    old = {key: value for key, value in engine.items() if key not in ("args", "resources")}
    old |= {"command": engine["args"], "lifecycle": {"preStop": {"exec": program}}}
    old |= {probe: {"exec": program} for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    old["ports"] = [port for port in engine["ports"] if port["name"] == "http"]
    old["env"] = [one for one in engine["env"] if not one["name"].startswith("POD_")]
    mounts = [one for one in engine["volumeMounts"] if one["name"] not in own]
    old["volumeMounts"] = [*mounts, {"name": "gates", "mountPath": "/opt/vllm-gates", "readOnly": True}]
    volumes = [one for one in pod["volumes"] if one["name"] not in own]
    pod = {**pod, "containers": [old], "volumes": [*volumes, {"name": "gates", "configMap": {"name": "vllm-gates"}}]}
    kept = ("name", "namespace", "labels", "ownerReferences")
    return {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": {key: live["metadata"][key] for key in kept},
        "spec": {**live["spec"], "template": {"metadata": live["spec"]["template"]["metadata"], "spec": pod}},
    }


def test_the_engines_of_an_earlier_version_get_a_manager_and_keep_nothing_of_what_was_before(made: Namespace) -> None:
    live = made.get("deployment", "qwen")
    wanted, generation = pod_spec(made), live["metadata"]["generation"]
    words = ("apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}", "--filename", "-")
    made.kubectl(*words, document=as_an_earlier_version_made_it(live))
    until(lambda: made.get("deployment", "qwen")["metadata"]["generation"] >= generation + 2, what="the rollout")
    until(lambda: pod_spec(made) == wanted, what="the manager alone")


FALSE_OR_ZERO = (
    "/spec/template/spec/automountServiceAccountToken",
    "/spec/template/spec/enableServiceLinks",
    "/spec/template/spec/securityContext/runAsGroup",
    "/spec/template/spec/securityContext/fsGroup",
    f"{CONTAINER}/securityContext/allowPrivilegeEscalation",
)


def test_what_is_false_or_zero_comes_back_when_somebody_takes_it_out_and_is_not_written_again(
    made: Namespace, operator: OperatorProcess
) -> None:
    wanted = pod_spec(made)
    for path in FALSE_OR_ZERO:
        edit(made, "deployment", path, None, "remove")
        until(lambda: pod_spec(made) == wanted, what=path)
    made.kubectl("patch", "serviceaccount", "qwen-engines", "--patch", '{"automountServiceAccountToken": null}')
    until(
        lambda: made.get("serviceaccount", "qwen-engines").get("automountServiceAccountToken") is False,
        what="no token for the account",
    )
    version = made.get("deployment", "qwen")["metadata"]["generation"]
    settle(made, operator)  # the line of what it wrote comes after the write
    writes = operator.log().count(f"{made.name}/qwen: applied")
    settle(made, operator)
    assert operator.log().count(f"{made.name}/qwen: applied") == writes
    assert made.get("deployment", "qwen")["metadata"]["generation"] == version


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


# --- each kind of child


CACHE = {"cache": {"persistentVolumeClaim": {"size": "1Gi"}}}
KEPT = {"cache": {"persistentVolumeClaim": {"size": "1Gi", "keep": True}}}
EXTRAS: dict[str, dict[str, Any]] = {
    "networkpolicy": {"network": {"allowFrom": [{"podSelector": {"matchLabels": {"app": "a"}}}]}},
    "poddisruptionbudget": {"disruption": {"minAvailable": 1}},
    "persistentvolumeclaim": {"storage": CACHE},
}
NAMES = {"persistentvolumeclaim": "qwen-cache"}


def settle(namespace: Namespace, operator: OperatorProcess) -> None:
    """Until the operator has looked at what is there now."""
    looks = operator.looks()
    namespace.kubectl("annotate", "vllmmodel", "qwen", "--overwrite", f"look={looks}")
    operator.wait_for_look(looks)


def test_children_come_and_go_with_their_sections_and_come_back_when_somebody_deletes_them(made: Namespace) -> None:
    made.model(**{name: section for spec in EXTRAS.values() for name, section in spec.items()})
    for kind in EXTRAS:
        found = made.wait_for(kind, NAMES.get(kind, "qwen"))
        assert [owner["name"] for owner in found["metadata"]["ownerReferences"]] == ["qwen"]
    for kind in ("networkpolicy", "poddisruptionbudget"):
        before = made.get(kind, "qwen")["metadata"]["uid"]
        made.kubectl("delete", kind, "qwen", "--wait=false")
        until(
            lambda kind=kind, before=before: made.get(kind, "qwen").get("metadata", {}).get("uid", before) != before,  # type: ignore[misc] # of this round
            what=f"another {kind}",
        )
    made.model(replicas=0)  # nothing schedules pods here, so engines that mount the claim would never be replaced
    for kind in EXTRAS:
        made.wait_gone(kind, NAMES.get(kind, "qwen"))


def test_a_rival_field_in_a_disruption_budget_is_taken_out(made: Namespace) -> None:
    made.model(disruption={"minAvailable": 1})
    made.wait_for("poddisruptionbudget", "qwen")
    changed = json.dumps({"spec": {"minAvailable": None, "maxUnavailable": 1}})
    made.kubectl("patch", "poddisruptionbudget", "qwen", "--type=merge", "--patch", changed)
    until(
        lambda: made.get("poddisruptionbudget", "qwen")["spec"].get("minAvailable") == 1, what="the budget of the spec"
    )
    assert "maxUnavailable" not in made.get("poddisruptionbudget", "qwen")["spec"]


def test_a_budget_that_changes_its_measure_is_followed(made: Namespace) -> None:
    made.model(disruption={"minAvailable": 1})
    made.wait_for("poddisruptionbudget", "qwen")
    made.model(disruption={"maxUnavailable": "50%"})
    until(
        lambda: made.get("poddisruptionbudget", "qwen")["spec"].get("maxUnavailable") == "50%", what="the new measure"
    )
    assert "minAvailable" not in made.get("poddisruptionbudget", "qwen")["spec"]


def test_a_claim_that_cannot_grow_is_told_in_its_own_words_and_the_rest_is_followed(made: Namespace) -> None:
    made.model(storage=CACHE)
    made.wait_for("persistentvolumeclaim", "qwen-cache")
    made.model(storage={"cache": {"persistentVolumeClaim": {"size": "2Gi"}}}, replicas=2)
    told = made.wait_reason("ChildRefused")["message"]
    assert told.startswith("PersistentVolumeClaim qwen-cache: ")
    assert made.get("deployment", "qwen")["spec"]["replicas"] == 2
    made.model(replicas=0)
    made.wait_reason("ScaledToZero")
    made.wait_gone("persistentvolumeclaim", "qwen-cache")


def test_a_claim_that_is_kept_outlives_its_model_and_is_used_again(made: Namespace, operator: OperatorProcess) -> None:
    made.model(storage=CACHE)
    uid = made.wait_for("persistentvolumeclaim", "qwen-cache")["metadata"]["uid"]

    def owners() -> list[str]:
        found = made.get("persistentvolumeclaim", "qwen-cache")["metadata"]
        assert found["uid"] == uid
        return [owner["name"] for owner in found.get("ownerReferences", [])]

    made.model(storage=KEPT)
    until(lambda: owners() == [], what="a claim without an owner")
    made.kubectl("delete", "vllmmodel", "qwen")
    made.wait_gone("deployment", "qwen")
    assert owners() == []
    made.model(storage=KEPT)
    made.wait_reason("EnginesStarting")
    made.model(storage=CACHE)
    until(lambda: owners() == ["qwen"], what="a claim of the model's")
    made.model(storage=KEPT)
    until(lambda: owners() == [], what="a claim without an owner")
    made.model()
    settle(made, operator)
    assert "deletionTimestamp" not in made.get("persistentvolumeclaim", "qwen-cache")["metadata"]


def owner_of_claim(namespace: Namespace) -> str:
    """Name of the model that owns the claim, if any."""
    found = namespace.get("persistentvolumeclaim", "qwen-cache")["metadata"]
    assert "deletionTimestamp" not in found
    return ",".join(owner["name"] for owner in found.get("ownerReferences", []))


NAMED: dict[str, dict[str, Any]] = {
    "cache": {"storage": {"cache": {"existingClaim": "qwen-cache"}}},
    "source": {"model": {"source": "pvc://qwen-cache/model"}},
    "volume": {"pod": {"volumes": [{"name": "x", "persistentVolumeClaim": {"claimName": "qwen-cache"}}]}},
}


@pytest.mark.parametrize("spec", NAMED.values(), ids=NAMED)
def test_a_claim_that_the_spec_goes_on_mounting_by_its_name_is_the_users_from_then_on(
    made: Namespace, operator: OperatorProcess, spec: dict[str, Any]
) -> None:
    made.model(storage=CACHE, replicas=0)
    uid = made.wait_for("persistentvolumeclaim", "qwen-cache")["metadata"]["uid"]
    made.model(**{"replicas": 0, **spec})
    until(lambda: not owner_of_claim(made), what="a claim without an owner")
    assert "app.kubernetes.io/instance" not in made.get("persistentvolumeclaim", "qwen-cache")["metadata"]["labels"]
    settle(made, operator)
    made.model(storage=CACHE, replicas=0)
    until(lambda: owner_of_claim(made) == "qwen", what="a claim of the model's, when the edit is undone")
    made.model(**{"replicas": 0, **spec})
    until(lambda: not owner_of_claim(made), what="a claim without an owner")
    made.kubectl("delete", "vllmmodel", "qwen")
    made.wait_gone("deployment", "qwen")
    assert made.get("persistentvolumeclaim", "qwen-cache")["metadata"]["uid"] == uid


def test_a_claim_that_another_model_mounts_outlives_the_one_that_had_it_made(made: Namespace) -> None:
    made.model(storage=CACHE, replicas=0)
    made.wait_for("persistentvolumeclaim", "qwen-cache")
    made.model("other", model={"source": "pvc://qwen-cache/model"}, replicas=0)
    until(lambda: not owner_of_claim(made), what="a claim without an owner")
    until(lambda: "warnings" in made.get("vllmmodel", "qwen")["status"], what="a warning")
    made.kubectl("delete", "vllmmodel", "other")
    until(lambda: owner_of_claim(made) == "qwen", what="a claim of the model's own again")
    made.model("other", model={"source": "pvc://qwen-cache/model"}, replicas=0)
    until(lambda: not owner_of_claim(made), what="a claim without an owner")
    made.kubectl("delete", "vllmmodel", "qwen")
    made.wait_gone("deployment", "qwen")
    assert not owner_of_claim(made)


def test_a_claim_that_nobody_wants_stays_as_long_as_a_pod_mounts_it(made: Namespace, operator: OperatorProcess) -> None:
    made.model(storage=CACHE, replicas=0)
    made.wait_for("persistentvolumeclaim", "qwen-cache")
    volume = {"name": "x", "persistentVolumeClaim": {"claimName": "qwen-cache"}}
    job = {"volumes": [volume], "containers": [{"name": "copy", "image": "copy:1"}]}
    made.kubectl("create", "--filename", "-", document=pod_document("copy-job", job))
    made.model(replicas=0)
    told = until(lambda: made.get("vllmmodel", "qwen")["status"].get("warnings"), what="a warning")
    assert "pod copy-job mounts it" in told[0]
    assert owner_of_claim(made) == "qwen"
    made.kubectl("delete", "pod", "copy-job", "--grace-period=0", "--force")
    settle(made, operator)
    made.wait_gone("persistentvolumeclaim", "qwen-cache")


def pod_document(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A pod that is nobody's."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


# --- API keys


def api_key(namespace: Namespace) -> str:
    """The key that clients get; empty where they get none."""
    data = namespace.get("secret", "qwen-binding").get("data", {})
    return base64.b64decode(data.get("VLLM_API_KEY", "")).decode()


def test_a_generated_key_stays_and_is_nowhere_but_in_its_secret(made: Namespace, operator: OperatorProcess) -> None:
    made.model(auth={"generate": True})
    key = until(lambda: api_key(made), what="a key")
    assert len(key) >= 32
    made.kubectl("label", "secret", "qwen-binding", "app.kubernetes.io/managed-by-")
    until(
        lambda: made.get("secret", "qwen-binding")["metadata"]["labels"].get("app.kubernetes.io/managed-by"),
        what="the label",
    )
    assert operator.stop() == 0
    operator.start()
    settle(made, operator)
    assert api_key(made) == key
    assert made.get("secret", "qwen-binding")["type"].startswith("servicebinding.io/")
    assert made.get("vllmmodel", "qwen")["status"]["binding"]["name"] == "qwen-binding"
    hidden = base64.b64encode(key.encode()).decode()
    for text in (operator.log(), *(made.kubectl("get", kind, "--output=yaml") for kind in ("vllmmodel", "deployment"))):
        assert key not in text
        assert hidden not in text
    made.kubectl("delete", "secret", "qwen-binding")
    until(lambda: api_key(made) not in {"", key}, what="another key")


def test_a_key_of_the_users_reaches_clients_and_a_missing_one_is_told(
    made: Namespace, operator: OperatorProcess
) -> None:
    made.model(auth={"keys": [{"name": "team-key", "key": "token"}]})

    def warnings() -> list[str]:
        found: list[str] = made.get("vllmmodel", "qwen")["status"].get("warnings", [])
        return found

    (warning,) = until(warnings, what="a warning")
    assert warning.startswith("spec.auth.keys[0]: there is no Secret team-key ")
    made.kubectl("create", "secret", "generic", "team-key", "--from-literal=other=1")
    settle(made, operator)
    until(lambda: warnings()[0].startswith("spec.auth.keys[0]: Secret team-key has no key token"), what="a warning")
    before = made.get("secret", "team-key")["metadata"]
    made.kubectl("patch", "secret", "team-key", "--patch", json.dumps({"stringData": {"token": "s3cret"}}))
    until(lambda: api_key(made) == "s3cret", what="the key in the binding, without a nudge")
    until(lambda: not warnings(), what="no warning")
    assert made.get("secret", "team-key")["metadata"].get("labels") == before.get("labels")
    assert "s3cret" not in operator.log()


# --- a kind that comes and goes


POD_MONITORS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "podmonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {
            "kind": "PodMonitor",
            "listKind": "PodMonitorList",
            "plural": "podmonitors",
            "singular": "podmonitor",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        ],
    },
}


def test_pod_monitors_are_made_repaired_and_missed_as_their_kind_comes_and_goes(tmp_path: Path) -> None:
    spec = ClusterSpec(name=f"test-monitors-{os.getpid()}", node=NodeKind.NONE, controller_manager=False)
    with started(spec) as cluster:
        cluster.kubectl("apply", "--kustomize", str(REPOSITORY / "crds"))
        wait_established(cluster)
        namespace = Namespace(cluster, "default")

        def warned() -> bool:
            return "warnings" in namespace.get("vllmmodel", "qwen")["status"]

        def interval() -> str:
            text: str = namespace.get("podmonitor", "qwen")["spec"]["podMetricsEndpoints"][0]["interval"]
            return text

        with OperatorProcess(cluster.kubeconfig, tmp_path, RESYNC_SECONDS="1"):
            namespace.model(monitoring={"intervalSeconds": 20})
            namespace.wait_reason("EnginesStarting")
            assert warned()
            namespace.kubectl("create", "--filename", "-", document=POD_MONITORS)
            wait_established(cluster, "podmonitors.monitoring.coreos.com")
            namespace.wait_for("podmonitor", "qwen")
            until(lambda: not warned(), what="the end of the warning")
            edit(namespace, "podmonitor", "/spec/podMetricsEndpoints/0/interval", "1s")
            until(lambda: interval() == "20s", what="the interval of the spec")
            namespace.kubectl("delete", "podmonitor", "qwen")
            namespace.wait_for("podmonitor", "qwen")
            namespace.model()
            namespace.wait_gone("podmonitor", "qwen")
            namespace.model(monitoring={})
            namespace.wait_for("podmonitor", "qwen")
            cluster.kubectl("delete", "crd", "podmonitors.monitoring.coreos.com")
            until(warned, what="the warning")
            namespace.model(monitoring={}, replicas=2)
            until(lambda: namespace.get("deployment", "qwen")["spec"]["replicas"] == 2, what="two replicas")
