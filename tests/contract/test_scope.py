"""Which part of a cluster an operator follows, on a real API server that grants it no more than that."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.contract.test_causes_outside import no_node_for, wait_told
from tests.contract.test_operator import CHILDREN
from tests.support.charts import template
from tests.support.namespace import Namespace
from tests.support.operator_process import OperatorProcess
from tests.support.waiting import until
from vllm_operator.api.names import OPERATOR_LABEL, operator_pod_labels
from vllm_operator.cluster.node_sight import NODES_HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

HOME = "scope-home"
"""Namespace of the operators' service accounts."""
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def home(with_crd: OwnCluster) -> Iterator[OwnCluster]:
    """The API server, with a namespace for operators."""
    with_crd.kubectl("create", "namespace", HOME)
    yield with_crd
    with_crd.kubectl("delete", "namespace", HOME, "--wait=false")


@pytest.fixture
def alone(operator: OperatorProcess) -> Iterator[None]:
    """The operator that follows everything is not there for a while."""
    operator.stop()
    yield
    operator.start()


def unmade(cluster: OwnCluster) -> Namespace:
    """A namespace that does not exist yet."""
    return Namespace(cluster, f"scope-{next(_NUMBERS)}")


def make(space: Namespace) -> Namespace:
    """Have it exist."""
    space.cluster.kubectl("create", "namespace", space.name)
    return space


def grant(cluster: OwnCluster, *namespaces: Namespace, name: str = "") -> None:
    """The rights of an operator that follows these namespaces, as the chart gives them."""
    options = ["crds.enabled=false", "userRoles=false", f"name={name}"]
    options += [f"namespaces[{number}]={space.name}" for number, space in enumerate(namespaces)]
    words = [word for option in options for word in ("--set", option)]
    rendered = template("--skip-tests", "--namespace", HOME, *words)
    found = [document for document in yaml.safe_load_all(rendered) if document and document["kind"] != "Deployment"]
    cluster.kubectl("apply", "--filename", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": found}))


def account(cluster: OwnCluster, path: Path, name: str = "") -> Path:
    """A kubeconfig of that operator's service account."""
    user = operator_pod_labels(name)["app.kubernetes.io/name"]
    config = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    token = cluster.kubectl("create", "token", user, "--namespace", HOME).strip()
    config["users"] = [{**one, "user": {"token": token}} for one in config["users"]]
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def may(cluster: OwnCluster, verb: str, kind: str, *where: str) -> bool:
    """Whether the default operator's account may do this."""
    user = f"system:serviceaccount:{HOME}:vllm-operator"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": {"verb": verb, "resource": kind, "namespace": "".join(where)}},
    }
    answer = cluster.kubectl("create", "--filename", "-", "--output", "json", input=json.dumps(review))
    return bool(json.loads(answer)["status"]["allowed"])


def wait_made(space: Namespace, model: str = "qwen") -> None:
    """Until a model has all its children and a status."""
    for kind, name in CHILDREN:
        space.wait_for(kind, name.replace("qwen", model))
    space.wait_reason("EnginesStarting", model)


def labels(space: Namespace, kind: str, name: str) -> dict[str, str]:
    """Labels of an object."""
    found: dict[str, str] = space.get(kind, name)["metadata"]["labels"]
    return found


def settled(space: Namespace, model: str = "qwen") -> dict[str, object]:
    """A model that nobody writes to any more."""

    def look() -> dict[str, object]:
        before = space.get("vllmmodel", model)
        events = space.kubectl("get", "events", "--output", "name")
        again = space.get("vllmmodel", model)
        quiet = before == again and events == space.kubectl("get", "events", "--output", "name")
        return before if quiet and before.get("status") else {}

    return until(look, what="a model that nobody writes to")


@pytest.mark.usefixtures("alone")
def test_an_operator_of_some_namespaces_needs_no_rights_elsewhere_and_waits_for_those_to_come(
    home: OwnCluster, tmp_path: Path
) -> None:
    here, later, foreign = make(unmade(home)), unmade(home), make(unmade(home))
    grant(home, here)
    assert may(home, "list", "secrets", here.name)
    assert not may(home, "list", "secrets")
    assert not may(home, "list", "secrets", foreign.name)
    with OperatorProcess(
        account(home, tmp_path / "kubeconfig"),
        tmp_path,
        NAMESPACE=HOME,
        NAMESPACES=f"{here.name},{later.name}",
    ) as limited:
        for space in (here, foreign):
            space.model()
        wait_made(here)
        limited.wait_logged(f"cannot follow namespace {later.name}")
        assert "vllm_operator_namespaces_unfollowed 1.0" in limited.get("/metrics")
        make(later).model()
        grant(home, here, later)
        wait_made(later)
        until(lambda: "vllm_operator_namespaces_unfollowed 0.0" in limited.get("/metrics"), what="both namespaces")
        assert limited.get("/readyz") == "ok\n"
        later.kubectl("delete", "vllmmodel", "qwen")
        later.wait_gone("configmap", "vllm-manager")
        assert not may(home, "list", "nodes")
        no_node_for(here, "qwen", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
        wait_told(here, "qwen", "no node that the pod may use has enough nvidia.com/gpu free", NODES_HIDDEN)
        log = limited.log()
    assert "status" not in foreign.get("vllmmodel", "qwen")
    assert "Traceback" not in log
    assert f"in {here.name}: " not in "".join(line for line in log.splitlines() if "forbidden" in line)


@pytest.mark.usefixtures("alone")
def test_a_namespace_that_is_deleted_and_made_again_is_followed_again(home: OwnCluster, tmp_path: Path) -> None:
    kept, remade = make(unmade(home)), make(unmade(home))
    grant(home, kept, remade)
    config = account(home, tmp_path / "kubeconfig")
    with OperatorProcess(
        config, tmp_path, NAMESPACE=HOME, NAMESPACES=f"{kept.name},{remade.name}", RESYNC_SECONDS="2"
    ) as limited:
        remade.model()
        wait_made(remade)
        home.kubectl("delete", "namespace", remade.name)
        until(lambda: "vllm_operator_namespaces_unfollowed 1.0" in limited.get("/metrics"), what="one namespace less")
        kept.model()
        wait_made(kept)
        assert limited.get("/readyz"), "the other namespace is followed all the same"
        make(remade).model()
        grant(home, kept, remade)
        wait_made(remade)
        assert "Traceback" not in limited.log()


def test_two_operators_beside_each_other_follow_each_their_own(
    home: OwnCluster, operator: OperatorProcess, namespace: Namespace, tmp_path: Path
) -> None:
    with OperatorProcess(home.kubeconfig, tmp_path, NAME="blue") as blue:
        ours = namespace.document("blue")
        ours["metadata"]["labels"] = {OPERATOR_LABEL: "blue"}
        namespace.kubectl("apply", "--filename", "-", document=ours)
        namespace.model()
        wait_made(namespace)
        wait_made(namespace, "blue")
        for kind, name in CHILDREN:
            assert OPERATOR_LABEL not in labels(namespace, kind, name)
            assert labels(namespace, kind, name.replace("qwen", "blue"))[OPERATOR_LABEL] == "blue"
        for shared in ("vllm-manager", "vllm-catalog", "blue-vllm-manager", "blue-vllm-catalog"):
            namespace.wait_for("configmap", shared)
        status = settled(namespace, "blue")["status"]
        assert isinstance(status, dict)
        assert status["operator"] == "blue"
        namespace.kubectl("scale", "deployment", "blue", "--replicas=3")
        until(lambda: namespace.get("deployment", "blue")["spec"]["replicas"] == 1, what="the repair")
        looks = operator.looks()
        namespace.kubectl("delete", "vllmmodel", "blue")
        for shared in ("blue-vllm-manager", "blue-vllm-catalog"):
            namespace.wait_gone("configmap", shared)
        assert namespace.get("configmap", "vllm-manager")
        assert "Traceback" not in blue.log()
    assert operator.looks() >= looks


def test_of_two_operators_that_select_the_same_models_one_makes_all_children_of_each_and_nobody_writes_for_ever(
    home: OwnCluster, operator: OperatorProcess, namespace: Namespace, tmp_path: Path
) -> None:
    models = [f"m{number}" for number in range(8)]
    with OperatorProcess(home.kubeconfig, tmp_path, NAME="blue", NAMESPACES=namespace.name) as blue:
        documents = [namespace.document(model) for model in models]
        namespace.kubectl("apply", "--filename", "-", document={"kind": "List", "apiVersion": "v1", "items": documents})
        for model in models:
            wait_made(namespace, model)
            made = {
                labels(namespace, kind, name.replace("qwen", model)).get(OPERATOR_LABEL, "") for kind, name in CHILDREN
            }
            status = settled(namespace, model)["status"]
            assert isinstance(status, dict)
            assert made == {status.get("operator", "")}
        told = namespace.list("events")
        warned = [event["involvedObject"]["name"] for event in told if event["reason"] == "OtherOperator"]
        assert sorted(warned) == models, "once for each"
        assert "Traceback" not in blue.log() + operator.log()


@pytest.mark.usefixtures("alone")
def test_children_of_the_default_operator_stay_as_they_are_until_they_are_handed_over(
    home: OwnCluster, tmp_path: Path
) -> None:
    space = make(unmade(home))
    (tmp_path / "default").mkdir()
    with OperatorProcess(home.kubeconfig, tmp_path / "default"):
        space.model()
        wait_made(space)
    before = space.get("deployment", "qwen")
    with OperatorProcess(home.kubeconfig, tmp_path, NAME="blue") as blue:
        space.kubectl("label", "vllmmodel", "qwen", f"{OPERATOR_LABEL}=blue")
        message = space.wait_reason("OtherOperator")["message"]
        assert f"{OPERATOR_LABEL}=blue" in message
        assert space.get("deployment", "qwen")["metadata"]["generation"] == before["metadata"]["generation"]
        kinds = "deployment,service,configmap,secret,serviceaccount"
        select = "app.kubernetes.io/instance=qwen"
        space.kubectl("label", kinds, "--selector", select, f"{OPERATOR_LABEL}=blue")
        space.wait_reason("EnginesStarting")
        deployment = until(
            lambda: (
                found
                if (found := space.get("deployment", "qwen"))["metadata"]["generation"]
                > before["metadata"]["generation"]
                else {}
            ),
            what="a template of the new operator",
        )
        assert deployment["metadata"]["uid"] == before["metadata"]["uid"]
        assert deployment["spec"]["template"]["metadata"]["labels"][OPERATOR_LABEL] == "blue"
        assert "Traceback" not in blue.log()
