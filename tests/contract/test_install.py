"""Installing the operator: kustomize and helm give the same objects, an API server takes them, the role suffices."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.cluster.paths import REPOSITORY
from tests.contract.test_causes_outside import no_node_for, wait_told
from tests.support.charts import EXAMPLES, FROM_MONITORING, RELEASE, Helm, Objects, Release, by_name, template
from tests.support.definitions import wait_established
from tests.support.operator_process import OperatorProcess
from tests.support.pages import blocks
from tests.support.waiting import until
from tools.install_file import install_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster import OwnCluster
    from tests.support.namespace import Namespace

pytestmark = pytest.mark.api_server

MANIFESTS = REPOSITORY / "manifests"
BASE = MANIFESTS / "base"
OVERLAYS = MANIFESTS / "overlays"
COMPONENTS = MANIFESTS / "components"
HELM_LABELS = {"helm.sh/chart", "app.kubernetes.io/managed-by"}

EVERY_CHILD: dict[str, Any] = {
    "auth": {"keys": [{"name": "team-key", "key": "token"}]},
    "disruption": {"minAvailable": 1},
    "monitoring": {},
    "network": {"allowFrom": []},
    "storage": {"cache": {"persistentVolumeClaim": {"size": "1Gi"}}},
}


def chart(*options: str) -> Objects:
    """What the chart renders, without what `helm test` runs."""
    return by_name(template("--skip-tests", *options))


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """An object without what only helm says, its variables in the order of their names."""
    metadata = document["metadata"]
    labels = {key: value for key, value in metadata.get("labels", {}).items() if key not in HELM_LABELS}
    annotations = {
        key: value for key, value in metadata.get("annotations", {}).items() if key != "helm.sh/resource-policy"
    }
    rest = {key: value for key, value in metadata.items() if key not in {"labels", "annotations"}}
    if document["kind"] == "Deployment":
        document["spec"]["template"]["spec"]["containers"][0]["env"].sort(key=lambda one: one["name"])
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


def test_the_chart_gives_the_same_objects_as_the_manifests(base: Objects) -> None:
    same(chart("--set", "image.tag=dev"), base)


@pytest.mark.parametrize("overlay", sorted(path.parent.name for path in OVERLAYS.glob("*/kustomization.yaml")))
def test_an_overlay_gives_the_same_objects_as_the_chart_with_the_values_of_its_name(
    api_server: OwnCluster, overlay: str
) -> None:
    rendered = chart("--set", "image.tag=dev", "--values", str(EXAMPLES / f"{overlay}.yaml"))
    same(rendered, by_name(api_server.kubectl("kustomize", str(OVERLAYS / overlay))))


@pytest.mark.parametrize("component", sorted(path.name for path in COMPONENTS.iterdir()))
def test_a_component_adds_the_same_objects_as_the_chart_with_the_values_of_its_name(
    api_server: OwnCluster, component: str, tmp_path: Path
) -> None:
    rendered = chart("--set", "image.tag=dev", "--values", str(EXAMPLES / f"{component}.yaml"))
    overlay = {"resources": [relative(BASE, tmp_path)], "components": [relative(COMPONENTS / component, tmp_path)]}
    same(rendered, kustomized(api_server, tmp_path, yaml.safe_dump(overlay)))


def test_the_overlay_of_the_page_gives_the_same_objects_as_the_chart(api_server: OwnCluster, tmp_path: Path) -> None:
    [block] = [one for one in blocks(REPOSITORY / "docs/install.md") if one.mark == "<!-- file kustomization.yaml -->"]
    remote = re.compile(r"https://github\.com/OWNER/REPOSITORY//(\S+)\?ref=TAG")
    options = ["--set", "image.repository=registry.example.com/vllm-operator,image.tag=0.1.0"]
    for name in ("monitoring", "network-policy"):
        options += ["--values", str(EXAMPLES / f"{name}.yaml")]
    rendered = chart(*options, "--set", FROM_MONITORING)
    text = remote.sub(lambda found: relative(REPOSITORY / found[1], tmp_path), block.text)
    same(rendered, kustomized(api_server, tmp_path, text))


def relative(folder: Path, start: Path) -> str:
    """The path as kustomize takes it: of folders outside its own only relative ones."""
    return os.path.relpath(folder.resolve(), start.resolve())


def kustomized(cluster: OwnCluster, folder: Path, text: str) -> Objects:
    """What kustomize makes of a file of that text in a folder."""
    (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
    return by_name(cluster.kubectl("kustomize", str(folder)))


def test_every_file_of_values_that_the_chart_brings_has_its_overlay_or_component() -> None:
    found = [path.name for folder in (OVERLAYS, COMPONENTS) for path in folder.iterdir()]
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == set(found)


def test_the_one_file_holds_the_same_objects_as_the_chart() -> None:
    same(chart(), by_name((REPOSITORY / "dist" / "install.yaml").read_text(encoding="utf-8")))
    image = "registry.example.com/vllm-operator:9.9.9"
    options = ("--set", "image.repository=registry.example.com/vllm-operator,image.tag=9.9.9")
    same(chart(*options), by_name(install_text(image)))


def same(rendered: Objects, manifests: Objects) -> None:
    """The same objects but for namespaces, which Helm makes by an option."""
    assert set(rendered) == {key for key in manifests if key[0] != "Namespace"}
    for key, document in rendered.items():
        assert plain(document) == plain(manifests[key]), key


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


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("view", ("get", "list", "watch"), ("create", "patch", "delete")),
        ("edit", ("get", "create", "update", "patch", "delete", "deletecollection"), ()),
        ("admin", ("get", "create", "update", "patch", "delete", "deletecollection"), ()),
    ],
)
def test_users_get_their_rights_by_the_clusters_own_roles(
    installed: OwnCluster, role: str, may: tuple[str, ...], may_not: tuple[str, ...]
) -> None:
    """As the API server judges a user who holds the role, once its controller has aggregated ours into it."""

    def granted() -> set[str]:
        rules = json.loads(installed.kubectl("get", "clusterrole", role, "--output", "json"))["rules"]
        return {verb for rule in rules if "vllmmodels" in rule.get("resources", []) for verb in rule["verbs"]}

    found = until(granted, what=f"our rights in {role}")
    assert set(may) <= found
    assert not set(may_not) & found


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
    listed_alone = {
        "podmonitors",
        "scaledobjects",
        "horizontalpodautoscalers",
        "leaderworkersets",
        "resourceclaimtemplates",
    }
    assert {resource for resource, verb in everything if verb == "watch"} & listed_alone == set()
    assert {verb for resource, verb in everything if resource == "vllmmodels/scale"} == {"patch"}


def test_helm_takes_over_what_kubectl_has_applied(installed: OwnCluster) -> None:
    release = Release(installed, Helm.V4)
    assert "invalid ownership metadata" in release.refused("install")
    release.install("--take-ownership", "--force-conflicts", "--set", "logLevel=DEBUG")
    variables = release.get("deployment", RELEASE)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "VLLM_OPERATOR_LOG_LEVEL", "value": "DEBUG"} in variables
    release("uninstall")
    assert installed.kubectl("get", "clusterrole", "vllm-operator", "--ignore-not-found") == ""
    assert "vllmmodels.vllm.echo-roots.io" in installed.kubectl("get", "crd", "--output", "name")
