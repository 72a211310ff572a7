"""Installing the operator: kustomize and helm give the same objects, an API server takes them, the role suffices."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.contract.test_causes_outside import no_node_for, wait_told
from tests.support.definitions import wait_established
from tests.support.operator_process import OperatorProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster
    from tests.support.namespace import Namespace

pytestmark = pytest.mark.api_server

REPOSITORY = Path(__file__).parent.parent.parent
BASE = REPOSITORY / "manifests" / "base"
CHART = REPOSITORY / "charts" / "vllm-operator"
HELM_LABELS = {"helm.sh/chart", "app.kubernetes.io/managed-by"}

EVERY_CHILD: dict[str, Any] = {
    "auth": {"keys": [{"name": "team-key", "key": "token"}]},
    "disruption": {"minAvailable": 1},
    "monitoring": {},
    "network": {"allowFrom": []},
    "storage": {"cache": {"persistentVolumeClaim": {"size": "1Gi"}}},
}

Objects = dict[tuple[str, str], dict[str, Any]]


def by_name(text: str) -> Objects:
    """Objects by kind and name."""
    documents = [document for document in yaml.safe_load_all(text) if document]
    found = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert len(found) == len(documents)
    return found


def helm(cluster: OwnCluster, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run helm."""
    command = [str(cluster.binaries / "helm"), *arguments]
    done = subprocess.run(command, env=cluster.env, capture_output=True, text=True, check=False, timeout=120)
    assert not check or done.returncode == 0, done.stderr
    return done


def chart(cluster: OwnCluster, *options: str) -> Objects:
    """What the chart renders."""
    words = ["template", "vllm-operator", str(CHART), "--namespace", "vllm-system", *options]
    return by_name(helm(cluster, *words).stdout)


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """An object without what only helm says."""
    metadata = document["metadata"]
    labels = {key: value for key, value in metadata.get("labels", {}).items() if key not in HELM_LABELS}
    annotations = {
        key: value for key, value in metadata.get("annotations", {}).items() if key != "helm.sh/resource-policy"
    }
    rest = {key: value for key, value in metadata.items() if key not in {"labels", "annotations"}}
    return {**document, "metadata": {**rest, "labels": labels, "annotations": annotations}}


@pytest.fixture(scope="module")
def base(api_server: OwnCluster) -> Objects:
    """What kustomize renders."""
    return by_name(api_server.kubectl("kustomize", str(BASE)))


@pytest.fixture(scope="module")
def installed(api_server: OwnCluster) -> Iterator[OwnCluster]:
    """The API server with everything of manifests/base."""
    api_server.kubectl("apply", "--kustomize", str(BASE))
    wait_established(api_server)
    yield api_server
    api_server.kubectl("delete", "namespace", "vllm-system", "--wait=false")


def test_the_chart_gives_the_same_objects_as_the_manifests(api_server: OwnCluster, base: Objects) -> None:
    rendered = chart(api_server, "--set", "image.tag=dev")
    assert set(rendered) == set(base) - {("Namespace", "vllm-system")}
    for key, document in rendered.items():
        assert plain(document) == plain(base[key]), key


def test_the_chart_is_sound_and_takes_its_options(api_server: OwnCluster) -> None:
    helm(api_server, "lint", "--strict", str(CHART))
    options = ["image.repository=registry.example.com/vllm-operator", "logLevel=DEBUG", "nodeSelector.pool=cpu"]
    options += ["imagePullSecrets[0].name=pull", "tolerations[0].operator=Exists", "prometheusAddress=http://p:9090"]
    rendered = chart(api_server, *(word for option in options for word in ("--set", option)))
    pod = rendered["Deployment", "vllm-operator"]["spec"]["template"]["spec"]
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    assert pod["containers"][0]["image"] == f"registry.example.com/vllm-operator:{version}"
    variables = {one["name"]: one.get("value", one.get("valueFrom")) for one in pod["containers"][0]["env"]}
    assert variables["VLLM_OPERATOR_LOG_LEVEL"] == "DEBUG"
    assert variables["VLLM_OPERATOR_PROMETHEUS_ADDRESS"] == "http://p:9090"
    assert variables["VLLM_OPERATOR_NAMESPACE"]["fieldRef"]["fieldPath"] == "metadata.namespace"
    assert pod["nodeSelector"] == {"pool": "cpu"}
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["tolerations"] == [{"operator": "Exists"}]


def test_the_definition_outlives_the_chart_unless_told_otherwise(api_server: OwnCluster) -> None:
    key = ("CustomResourceDefinition", "vllmmodels.vllm.echo-roots.io")
    assert chart(api_server)[key]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "annotations" not in chart(api_server, "--set", "crds.keep=false")[key]["metadata"]
    assert key not in chart(api_server, "--set", "crds.enabled=false")


def test_the_manifests_are_taken_by_a_real_api_server_to_the_last_field(installed: OwnCluster) -> None:
    installed.kubectl("apply", "--kustomize", str(BASE), "--dry-run=server", "--validate=strict")
    found = json.loads(installed.kubectl("get", "deployment", "vllm-operator", "-n", "vllm-system", "--output", "json"))
    assert found["spec"]["template"]["spec"]["serviceAccountName"] == "vllm-operator"


def test_the_operators_pods_meet_the_restricted_standard_of_their_namespace(installed: OwnCluster) -> None:
    deployment = json.loads(
        installed.kubectl("get", "deployment", "vllm-operator", "-n", "vllm-system", "--output", "json")
    )
    template = deployment["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "try", **template["metadata"]},
        "spec": template["spec"],
    }
    installed.kubectl("create", "-n", "vllm-system", "--dry-run=server", "-f", "-", input=json.dumps(pod))


def test_users_get_their_rights_by_the_clusters_own_roles(installed: OwnCluster) -> None:
    def may(role: str, verb: str) -> bool:
        rules = json.loads(installed.kubectl("get", "clusterrole", role, "--output", "json"))["rules"]
        return any("vllmmodels" in rule.get("resources", []) and verb in rule["verbs"] for rule in rules)

    assert may("vllm-operator-view", "get")
    assert not may("vllm-operator-view", "create")
    for verb in ("create", "delete", "patch"):
        assert may("vllm-operator-edit", verb)


def as_service_account(cluster: OwnCluster, path: Path) -> None:
    """A kubeconfig of the operator's own service account."""
    config = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    token = cluster.kubectl("create", "token", "vllm-operator", "-n", "vllm-system").strip()
    config["users"] = [{**user, "user": {"token": token}} for user in config["users"]]
    path.write_text(yaml.safe_dump(config), encoding="utf-8")


def test_the_role_is_enough_for_all_that_the_operator_does(
    installed: OwnCluster, operator: OperatorProcess, namespace: Namespace, tmp_path: Path
) -> None:
    as_service_account(installed, tmp_path / "kubeconfig")
    operator.stop()
    try:
        with OperatorProcess(tmp_path / "kubeconfig", tmp_path, NAMESPACE="vllm-system") as limited:
            namespace.model(**EVERY_CHILD)
            namespace.wait_reason("EnginesStarting")
            for kind in ("networkpolicy", "poddisruptionbudget"):
                namespace.wait_for(kind, "qwen")
            no_node_for(namespace, "qwen", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
            wait_told(namespace, "qwen", "no node has nvidia.com/gpu")
            namespace.model(replicas=0, pod={"serviceAccountName": "default"})
            for kind, name in (("networkpolicy", "qwen"), ("serviceaccount", "qwen-engines")):
                namespace.wait_gone(kind, name)
            namespace.wait_gone("persistentvolumeclaim", "qwen-cache")
            namespace.wait_reason("ScaledToZero")
            namespace.kubectl("delete", "vllmmodel", "qwen")
            namespace.wait_gone("deployment", "qwen")
            namespace.wait_gone("configmap", "vllm-manager")
            log = limited.log()
    finally:
        operator.start()
    assert "forbidden" not in log.lower()
    assert "Traceback" not in log


def test_the_role_names_no_verb_that_is_not_needed(base: Objects) -> None:
    rules = base["ClusterRole", "vllm-operator"]["rules"]
    everything = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert not {pair for pair in everything if "*" in pair}
    every_model_has = {"services", "secrets"}
    deleted = {resource for resource, verb in everything if verb == "delete"}
    made = {resource for resource, verb in everything if verb == "create"} - {"events"}
    assert deleted == made - every_model_has
    assert {pair for pair in everything if pair[0] in ("nodes", "persistentvolumes")} == {
        ("nodes", "get"),
        ("nodes", "list"),
        ("persistentvolumes", "get"),
    }
    assert "podmonitors" in deleted
    listed_alone = {"podmonitors", "scaledobjects", "horizontalpodautoscalers", "leaderworkersets"}
    assert {resource for resource, verb in everything if verb == "watch"} & listed_alone == set()
    assert {verb for resource, verb in everything if resource == "vllmmodels/scale"} == {"patch"}


def test_helm_installs_upgrades_and_uninstalls_and_the_models_stay(installed: OwnCluster) -> None:
    # the manifests are there already: helm takes them over
    words = [str(CHART), "--namespace", "vllm-system", "--take-ownership", "--force-conflicts"]
    helm(installed, "install", "vllm-operator", *words)
    helm(installed, "upgrade", "vllm-operator", *words, "--set", "logLevel=DEBUG")
    deployment = json.loads(
        installed.kubectl("get", "deployment", "vllm-operator", "--namespace", "vllm-system", "-o", "json")
    )
    variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "VLLM_OPERATOR_LOG_LEVEL", "value": "DEBUG"} in variables
    helm(installed, "uninstall", "vllm-operator", "--namespace", "vllm-system")
    assert installed.kubectl("get", "clusterrole", "vllm-operator", "--ignore-not-found") == ""
    assert "vllmmodels.vllm.echo-roots.io" in installed.kubectl("get", "crd", "--output", "name")
