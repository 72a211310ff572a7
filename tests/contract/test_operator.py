"""The operator and a real API server: children, repairs, refusals, restarts, and how little it writes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import ClusterSpec, NodeKind
from tests.cluster.fixtures import started
from tests.contract.conftest import define
from tests.support.definitions import MODELS
from tests.support.namespace import Namespace
from tests.support.operator_process import OperatorProcess
from tests.support.waiting import until
from vllm_operator.cluster.kinds import CHILDREN as CHILDREN_KINDS
from vllm_operator.planner.pace import PAUSE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

CHILDREN = [
    ("configmap", "qwen-client"),
    ("secret", "qwen-binding"),
    ("serviceaccount", "qwen-engines"),
    ("service", "qwen"),
    ("service", "qwen-engines"),
    ("deployment", "qwen"),
]
WRITTEN = {kind.plural for kind in CHILDREN_KINDS}
FOREIGN_CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a-client"}, "data": {"MINE": "1"}}
FOREIGN_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "b"},
    "spec": {"ports": [{"name": "http", "port": 8000}]},
}
FOREIGN_DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "c"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "c"}},
        "template": {
            "metadata": {"labels": {"app": "c"}},
            "spec": {"containers": [{"name": "c", "image": "example.com/c:1"}]},
        },
    },
}


def requests(namespace: Namespace) -> dict[str, int]:
    """Writes that only the operator makes, as the API server counts them: by resource, applies and status patches."""
    found: dict[str, int] = {}
    for line in namespace.kubectl("get", "--raw", "/metrics").splitlines():
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line)) if line.startswith("apiserver_request_total{") else {}
        applied = labels.get("verb") == "APPLY" and labels["resource"] in WRITTEN
        told = labels.get("resource") == "vllmmodels" and labels.get("subresource") == "status"
        if applied or told:
            key = f"{labels['verb']} {labels['resource']} {labels['code']}"
            found[key] = found.get(key, 0) + int(float(line.rsplit(" ", 1)[1]))
    return found


def quiet(namespace: Namespace, operator: OperatorProcess) -> dict[str, int]:
    """The requests so far, once the operator has looked at all that happened before, and told what it held back."""

    def look() -> dict[str, int]:
        before, looks = requests(namespace), operator.looks()
        namespace.kubectl("annotate", "vllmmodel", "qwen", "--overwrite", f"seen-after={looks}")
        operator.wait_for_look(looks)
        time.sleep(2 * PAUSE.total_seconds())
        return before if requests(namespace) == before else {}

    return until(look, what="an operator that has nothing to write")


@pytest.fixture
def made(operator: OperatorProcess, namespace: Namespace) -> Namespace:
    """A namespace with a model whose children are there, and no other that is on its way out: writes are counted."""
    until(lambda: not leaving_namespaces(namespace), what="the end of other tests' namespaces")
    assert operator.get("/healthz") == "ok\n"
    namespace.model(engine={"env": [{"name": "A", "value": "1"}]}, resources={"requests": {"cpu": "0.5"}})
    for kind, name in [*CHILDREN, ("configmap", "vllm-manager")]:
        namespace.wait_for(kind, name)
    namespace.wait_reason("EnginesStarting")
    return namespace


def leaving_namespaces(namespace: Namespace) -> list[str]:
    """Names of namespaces that are being deleted, into which the API server lets nobody write."""
    return [
        str(one["metadata"]["name"]) for one in namespace.list("namespaces") if one["status"]["phase"] == "Terminating"
    ]


@pytest.fixture(scope="module")
def no_crd() -> Iterator[OwnCluster]:
    """An API server that does not know the resource, and nobody else beside the tests."""
    spec = ClusterSpec(name=f"test-no-crd-{os.getpid()}", node=NodeKind.NONE, controller_manager=False)
    with started(spec) as cluster:
        yield cluster


@contextlib.contextmanager
def operator_ended(operator: OperatorProcess) -> Iterator[None]:
    """The operator ends with the block, in time."""
    try:
        yield
    finally:
        assert operator.stop() == 0


def engine(namespace: Namespace) -> dict[str, Any]:
    """The engine's container in the live Deployment."""
    containers = namespace.get("deployment", "qwen")["spec"]["template"]["spec"]["containers"]
    return next(dict(container) for container in containers if container["name"] == "vllm")


def env(namespace: Namespace) -> dict[str, str]:
    """Its environment."""
    return {variable["name"]: variable.get("value", "") for variable in engine(namespace)["env"]}


def wait_for_another(namespace: Namespace, kind: str, name: str, uid: str) -> None:
    """Until the object is another one."""
    until(lambda: namespace.get(kind, name).get("metadata", {}).get("uid", uid) != uid, what=f"another {kind} {name}")


def wait_for_owner(namespace: Namespace, kind: str, name: str, uid: str) -> None:
    """Until the object belongs to the model of that uid."""

    def owners() -> list[str]:
        return [owner["uid"] for owner in namespace.get(kind, name).get("metadata", {}).get("ownerReferences", [])]

    until(lambda: owners() == [uid], what=f"{kind} {name} of the new model")


def test_children_are_made_and_then_nothing_is_written_any_more(made: Namespace, operator: OperatorProcess) -> None:
    before = quiet(made, operator)
    for number in range(5):
        looks = operator.looks()
        made.kubectl("annotate", "deployment", "qwen", "--overwrite", f"example.com/touched={number}")
        made.kubectl("annotate", "vllmmodel", "qwen", "--overwrite", f"example.com/touched={number}")
        operator.wait_for_look(looks)
    assert quiet(made, operator) == before


def test_a_restarted_operator_writes_nothing(made: Namespace, operator: OperatorProcess) -> None:
    before = quiet(made, operator)
    assert operator.stop() == 0
    operator.start()
    assert quiet(made, operator) == before


def test_every_child_belongs_to_the_model_and_is_applied_by_one_manager(made: Namespace) -> None:
    uid = made.get("vllmmodel", "qwen")["metadata"]["uid"]
    for kind, name in CHILDREN:
        metadata = made.get(kind, name)["metadata"]
        assert [owner["uid"] for owner in metadata["ownerReferences"]] == [uid]
        applied = [entry for entry in metadata["managedFields"] if entry["operation"] == "Apply"]
        assert [entry["manager"] for entry in applied] == ["vllm-operator"]


def test_an_edit_of_the_deployment_is_repaired(made: Namespace) -> None:
    made.kubectl("scale", "deployment", "qwen", "--replicas=7")
    until(lambda: made.get("deployment", "qwen")["spec"]["replicas"] == 1, what="one replica")
    made.kubectl("set", "image", "deployment/qwen", "vllm=example.com/other:1")
    until(lambda: engine(made)["image"].startswith("vllm/vllm-openai:"), what="the image")
    made.kubectl("label", "deployment", "qwen", "--overwrite", "app.kubernetes.io/part-of=mine")
    until(
        lambda: made.get("deployment", "qwen")["metadata"]["labels"]["app.kubernetes.io/part-of"] == "vllm-operator",
        what="the label",
    )


def test_a_child_that_lost_the_operators_label_is_found_and_then_left_alone(
    made: Namespace, operator: OperatorProcess
) -> None:
    made.kubectl("label", "deployment", "qwen", "app.kubernetes.io/managed-by-")
    until(
        lambda: made.get("deployment", "qwen")["metadata"]["labels"].get("app.kubernetes.io/managed-by"),
        what="the label",
    )
    quiet(made, operator)


def test_a_child_that_is_deleted_comes_back(made: Namespace) -> None:
    for kind, name in [*CHILDREN, ("configmap", "vllm-manager")]:
        before = made.get(kind, name)["metadata"]["uid"]
        made.kubectl("delete", kind, name, "--wait=false")
        wait_for_another(made, kind, name, before)


def test_a_field_that_leaves_the_spec_leaves_the_child_and_what_others_added_stays(made: Namespace) -> None:
    assert env(made)["A"] == "1"
    made.kubectl("annotate", "deployment", "qwen", "example.com/mine=1")
    made.kubectl("set", "env", "deployment/qwen", "FOREIGN=1")
    made.model()
    until(lambda: "A" not in env(made), what="the end of A")
    assert env(made)["FOREIGN"] == "1"
    assert "requests" not in engine(made)["resources"] or "cpu" not in engine(made)["resources"]["requests"]
    assert made.get("deployment", "qwen")["metadata"]["annotations"]["example.com/mine"] == "1"


def test_kubectl_scale_reaches_the_deployment(made: Namespace, operator: OperatorProcess) -> None:
    made.kubectl("scale", "vllmmodel", "qwen", "--replicas=3")
    until(lambda: made.get("deployment", "qwen")["spec"]["replicas"] == 3, what="three replicas")
    until(lambda: made.get("vllmmodel", "qwen")["status"]["replicas"] == 3, what="three engines in the status")
    scale = json.loads(
        made.kubectl("get", "--raw", f"/apis/vllm.echo-roots.io/v1alpha1/namespaces/{made.name}/vllmmodels/qwen/scale")
    )
    assert scale["status"]["selector"] == "app.kubernetes.io/instance=qwen,app.kubernetes.io/name=vllm"
    pods = json.loads(made.kubectl("get", "pods", "--selector", scale["status"]["selector"], "--output", "json"))
    assert len(pods["items"]) == 3
    made.kubectl("scale", "vllmmodel", "qwen", "--replicas=0")
    made.wait_reason("ScaledToZero")
    quiet(made, operator)


def test_a_suspended_model_keeps_everything_but_its_engines_and_gets_them_back(
    made: Namespace, operator: OperatorProcess
) -> None:
    made.kubectl("scale", "vllmmodel", "qwen", "--replicas=2")
    until(lambda: made.get("vllmmodel", "qwen")["status"]["replicas"] == 2, what="two engines in the status")
    before = [made.get(*child)["metadata"]["uid"] for child in CHILDREN]
    template = made.get("deployment", "qwen")["spec"]["template"]
    made.kubectl("patch", "vllmmodel", "qwen", "--type=merge", "--patch", '{"spec": {"suspend": true}}')
    made.wait_reason("Suspended")
    until(lambda: not made.list("pods"), what="the end of the pods")
    made.kubectl("scale", "vllmmodel", "qwen", "--replicas=3")
    quiet(made, operator)
    assert made.get("deployment", "qwen")["spec"]["replicas"] == 0
    assert made.condition("Reconciling")["status"] == made.condition("Available")["status"] == "False"
    assert [made.get(*child)["metadata"]["uid"] for child in CHILDREN] == before
    made.kubectl("patch", "vllmmodel", "qwen", "--type=merge", "--patch", '{"spec": {"suspend": null}}')
    until(lambda: made.get("vllmmodel", "qwen")["status"]["replicas"] == 3, what="as many engines as are asked for now")
    assert made.get("deployment", "qwen")["spec"]["template"] == template


def test_columns_say_what_is_going_on(made: Namespace) -> None:
    heads, row = made.kubectl("get", "vllm").splitlines()
    assert heads.split() == ["NAME", "READY", "REASON", "SERVING", "WANTED", "MODEL", "AGE"]
    assert row.split()[:6] == ["qwen", "False", "EnginesStarting", "0", "1", "org/tiny"]
    assert f"http://qwen.{made.name}.svc:8000/v1" in made.kubectl("get", "vllm", "--output", "wide")


def test_a_pod_that_cannot_be_scheduled_is_told(made: Namespace) -> None:
    pods = until(lambda: made.list("pods"), what="the pod")
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    patch = json.dumps({"status": {"conditions": [told]}})
    name = pods[0]["metadata"]["name"]
    made.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "--patch", patch)
    assert message.rstrip(".") in made.wait_reason("EnginesFailing")["message"]


def test_names_that_are_taken_are_left_alone_told_and_used_once_they_are_free(
    operator: OperatorProcess, namespace: Namespace
) -> None:
    assert operator.get("/readyz") == "ok\n"
    foreign = {"a": FOREIGN_CONFIG_MAP, "b": FOREIGN_SERVICE, "c": FOREIGN_DEPLOYMENT}
    before = {}
    for model, document in foreign.items():
        namespace.kubectl("create", "--filename", "-", document=document)
        before[model] = namespace.get(str(document["kind"]), document["metadata"]["name"])  # type: ignore[index]
        namespace.model(model)
    for model, document in foreign.items():
        kind, name = str(document["kind"]), before[model]["metadata"]["name"]
        assert f"{kind} {name} exists and is not the operator's" in namespace.wait_reason("NameTaken", model)["message"]
        assert namespace.condition("Stalled", model)["status"] == "True"
        found = namespace.get(kind, name)
        for part in ("spec", "data"):
            assert found.get(part) == before[model].get(part)
        assert "ownerReferences" not in found["metadata"]
        assert found["metadata"].get("labels") == before[model]["metadata"].get("labels")
        namespace.kubectl("delete", kind, name)
    for model in foreign:
        namespace.wait_reason("EnginesStarting", model)
        assert namespace.wait_for("deployment", model)["metadata"]["ownerReferences"][0]["name"] == model


def test_a_spec_that_only_the_operator_refuses_stops_its_model_and_leaves_the_children(made: Namespace) -> None:
    before = made.get("deployment", "qwen")["spec"]
    made.model(model={"source": "org/tiny", "servedNames": ["no-break\u00a0space"]}, replicas=5)
    told = made.wait_reason("InvalidSpec")
    assert told["message"].startswith("spec.model.servedNames.0: ")
    assert made.get("deployment", "qwen")["spec"] == before
    assert made.get("vllmmodel", "qwen")["status"]["observedGeneration"] == 2
    made.model(replicas=2)
    until(lambda: made.get("deployment", "qwen")["spec"]["replicas"] == 2, what="two replicas")


def test_what_the_api_server_refuses_is_told_in_its_own_words_and_no_other_model_suffers(made: Namespace) -> None:
    made.model("bad", resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}})
    assert "must be less than or equal to memory limit" in made.wait_reason("ChildRefused", "bad")["message"]


def test_a_model_takes_its_children_with_it_and_the_last_one_the_gate_program(made: Namespace) -> None:
    made.model("other")
    made.wait_for("deployment", "other")
    made.kubectl("delete", "vllmmodel", "qwen")
    for kind, name in CHILDREN:
        made.wait_gone(kind, name)
    assert made.get("configmap", "vllm-manager")
    made.kubectl("delete", "vllmmodel", "other")
    made.wait_gone("configmap", "vllm-manager")


def test_a_model_that_is_deleted_and_made_again_at_once_is_whole(made: Namespace) -> None:
    made.kubectl("delete", "vllmmodel", "qwen")
    made.model()
    uid = made.get("vllmmodel", "qwen")["metadata"]["uid"]
    for kind, name in CHILDREN:
        wait_for_owner(made, kind, name, uid)
    made.wait_reason("EnginesStarting")


def test_children_that_outlive_their_model_as_orphans_are_taken_over_by_the_next_one(made: Namespace) -> None:
    before = {child: made.get(*child)["metadata"] for child in CHILDREN}
    key = made.get("secret", "qwen-binding")["data"]
    pods = until(lambda: made.kubectl("get", "pods", "--output", "name").split(), what="the pod")
    made.kubectl("delete", "vllmmodel", "qwen", "--cascade=orphan")
    for child in CHILDREN:
        assert "ownerReferences" not in made.get(*child)["metadata"]
    made.model(engine={"env": [{"name": "A", "value": "1"}]}, resources={"requests": {"cpu": "0.5"}})
    uid = made.get("vllmmodel", "qwen")["metadata"]["uid"]
    for child in CHILDREN:
        wait_for_owner(made, *child, uid)
        assert made.get(*child)["metadata"]["uid"] == before[child]["uid"]
    assert made.kubectl("get", "pods", "--output", "name").split() == pods, "no engine is rolled"
    assert made.get("secret", "qwen-binding")["data"] == key
    made.wait_reason("EnginesStarting")
    made.kubectl("delete", "vllmmodel", "qwen")
    for child in CHILDREN:
        made.wait_gone(*child)


def test_names_that_no_service_could_have_work(operator: OperatorProcess, namespace: Namespace) -> None:
    assert operator.get("/readyz") == "ok\n"
    name = "7b.chat-" + "x" * 100
    namespace.model(name)
    namespace.wait_reason("EnginesStarting", name)
    url = namespace.get("vllmmodel", name)["status"]["url"]
    assert namespace.get("service", url.removeprefix("http://").partition(".")[0])


def test_an_operator_without_the_resource_ends_with_a_message(no_crd: OwnCluster, tmp_path: Path) -> None:
    operator = OperatorProcess(no_crd.kubeconfig, tmp_path, START_TIMEOUT_SECONDS="1")
    assert operator.launch().wait(60) == 1
    last = operator.log().splitlines()[-1]
    assert last.startswith("vllm-operator: GET /apis/vllm.echo-roots.io/v1alpha1/vllmmodels: ")
    assert "(HTTP 404): install the CustomResourceDefinition of this version: " in last
    assert "Traceback" not in operator.log()


def test_an_operator_that_waits_for_the_resource_ends_when_it_is_told_to(no_crd: OwnCluster, tmp_path: Path) -> None:
    operator = OperatorProcess(no_crd.kubeconfig, tmp_path)
    operator.launch()
    with operator_ended(operator):
        operator.wait_logged("tries again until it can")
        assert operator.get("/healthz") == "ok\n"


def test_a_resource_that_comes_later_goes_and_comes_back_is_followed(no_crd: OwnCluster, tmp_path: Path) -> None:
    no_crd.kubectl("create", "namespace", "again")
    namespace = Namespace(no_crd, "again")
    operator = OperatorProcess(no_crd.kubeconfig, tmp_path)
    process = operator.launch()
    until(lambda: operator.get("/healthz"), what="an operator that waits")
    with operator_ended(operator):
        for model in ("first", "second"):
            define(no_crd)
            until(lambda: operator.get("/readyz"), what="an operator that follows", seconds=20)
            namespace.model(model)
            namespace.model("always")
            for name in (model, "always"):
                namespace.wait_reason("EnginesStarting", name)
                uid = namespace.get("vllmmodel", name)["metadata"]["uid"]
                wait_for_owner(namespace, "deployment", name, uid)
            no_crd.kubectl("delete", "crd", MODELS)
            until(lambda: not operator.get("/readyz"), what="an operator that says so", seconds=20)
            assert operator.get("/healthz") == "ok\n"
        assert process.poll() is None
    assert "cannot watch vllmmodels, tries again until it can: 404 page not found (HTTP 404)" in operator.log()
    assert "Traceback" not in operator.log()


def test_an_operator_without_an_api_server_ends_with_a_message(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n"
        "clusters: [{name: x, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "contexts: [{name: x, context: {cluster: x, user: x}}]\nusers: [{name: x, user: {token: t}}]\n",
        encoding="utf-8",
    )
    operator = OperatorProcess(tmp_path / "kubeconfig", tmp_path, START_TIMEOUT_SECONDS="1")
    assert operator.launch().wait(60) == 1
    assert operator.log().splitlines()[-1].startswith("vllm-operator: GET /apis/vllm.echo-roots.io/")
    assert "Traceback" not in operator.log()


@pytest.mark.parametrize("levels", [300, 3000, 9900])
def test_a_model_of_any_depth_is_told_so_and_nobody_else_waits_for_it(
    namespace: Namespace, operator: OperatorProcess, levels: int
) -> None:
    """The API server takes 10,000 levels. Python's parsers end at a thousand: a dead watch would be everybody's."""
    document = json.dumps(namespace.document("deep", pod={"patch": {"spec": "HERE"}}))
    text = document.replace('"HERE"', '{"a":' * levels + "1" + "}" * levels)
    namespace.cluster.kubectl("create", "--filename", "-", input=text)
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')]}"  # Python's own parser would end at the whole of it
    told = until(lambda: namespace.kubectl("get", "vllmmodel", "deep", "--output", ready), what="the status")
    assert json.loads(told)["reason"] == "InvalidSpec"
    assert json.loads(told)["message"].startswith("spec.pod.patch.spec: maps and lists stand in each other more than")
    namespace.model("after")
    namespace.wait_for("deployment", "after")
    operator.stop()
    operator.start()  # it lists what is there
    namespace.model("later")
    namespace.wait_for("deployment", "later")


def forcing_policy(namespace: Namespace) -> list[dict[str, Any]]:
    """A policy of the cluster that sets the replicas of a namespace's Deployments, and stamps each write."""
    group, name = "admissionregistration.k8s.io/v1", f"force-{namespace.name}"
    rules = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    stamp = 'has(object.metadata.resourceVersion) ? object.metadata.resourceVersion : "new"'
    metadata = f'Object.metadata{{annotations: {{"example.com/stamp": {stamp}}}}}'
    forced = f"Object{{metadata: {metadata}, spec: Object.spec{{replicas: 3}}}}"
    return [
        {
            "apiVersion": group,
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [rules]},
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": forced}}],
            },
        },
        {
            "apiVersion": group,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "matchResources": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}
                },
            },
        },
    ]


def test_a_field_that_a_policy_forces_is_told_written_seldom_and_mended_when_the_policy_is_gone(
    operator: OperatorProcess, namespace: Namespace
) -> None:
    policy = forcing_policy(namespace)
    for part in policy:
        namespace.cluster.kubectl("create", "-f", "-", input=json.dumps(part))

    def in_force() -> bool:
        """Whether the API server has begun to apply the policy, which takes it some moments."""
        tried = namespace.kubectl("create", "-f", "-", "--dry-run=server", "-o", "json", document=FOREIGN_DEPLOYMENT)
        return bool(json.loads(tried)["spec"]["replicas"] == 3)

    until(in_force, what="a policy that is in force")
    namespace.model(replicas=1)

    def warned() -> list[str]:
        found = namespace.get("vllmmodel", "qwen").get("status", {}).get("warnings", [])
        return [warning for warning in found if warning.startswith("Deployment qwen: spec.replicas: 3 -> 1: ")]

    until(warned, what="a warning about the field that does not stick")
    before = requests(namespace)
    time.sleep(30)
    applied = {key: count - before.get(key, 0) for key, count in requests(namespace).items()}
    assert applied.get("APPLY deployments 200", 0) <= 4, "a write a second would be 30"
    assert warned()
    for part in policy:
        namespace.cluster.kubectl("delete", part["kind"], part["metadata"]["name"])
    until(lambda: namespace.get("deployment", "qwen")["spec"]["replicas"] == 1, seconds=120, what="the wanted replicas")
    until(lambda: not warned(), what="a status without the warning")
    assert operator.get("/healthz") == "ok\n"
