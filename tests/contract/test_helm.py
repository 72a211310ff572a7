"""Both Helms against a real API server: install, upgrade, rollback, uninstall, and releases beside each other."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.conftest import define
from tests.contract.test_children import POD_MONITORS
from tests.support import pages
from tests.support.charts import CHART, FROM_MONITORING, NAMESPACE, RELEASE, Helm, Release, former_chart, helm, template
from tests.support.definitions import wait_established
from tests.support.namespace import Namespace
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

DEFINITION = "vllmmodels.vllm.echo-roots.io"
OURS = ("--selector", "app.kubernetes.io/part-of=vllm-operator")
FURTHER = ("--set", "crds.enabled=false,userRoles=false")
"""What each release but the first needs."""
_NUMBERS = itertools.count(1)

both = pytest.mark.parametrize("version", Helm)


@pytest.fixture
def bare(quiet_server: OwnCluster) -> Iterator[OwnCluster]:
    """An API server that knows nothing of us; afterwards it serves the resource again, as other tests expect."""
    quiet_server.kubectl("delete", "--ignore-not-found", "crd", DEFINITION)
    yield quiet_server
    quiet_server.kubectl("delete", "--ignore-not-found", "clusterroles,clusterrolebindings", *OURS)
    define(quiet_server)


def new_namespace(cluster: OwnCluster) -> str:
    """A namespace that nothing was in yet."""
    name = f"helm-{next(_NUMBERS)}"
    cluster.kubectl("create", "namespace", name)
    return name


def new_release(cluster: OwnCluster, version: Helm, name: str = RELEASE, namespace: str = "") -> Release:
    """A release that is yet to be installed."""
    return Release(cluster, version, name=name, namespace=namespace or new_namespace(cluster))


def definition(cluster: OwnCluster) -> dict[str, Any]:
    """The CustomResourceDefinition; empty where there is none."""
    return Namespace(cluster, "default").get("crd", DEFINITION)


def short_names(cluster: OwnCluster) -> list[str]:
    """Of the resource, as `kubectl get` takes it."""
    found: list[str] = definition(cluster)["spec"]["names"].get("shortNames", [])
    return found


def commands_of_pages() -> list[list[str]]:
    """What pages have people do with Helm, in their order. `helm test` needs a node: tests/e2e has it."""
    found = [words for where, words in pages.commands() if words[0] == "helm" and "zh-TW" not in where]
    return [[word.replace("REGISTRY", "registry.example.com/team") for word in words[1:]] for words in found]


def identity(document: dict[str, Any]) -> tuple[str, str]:
    """Which object it is, and in which state."""
    return document["metadata"]["uid"], document["metadata"]["resourceVersion"]


@both
def test_an_upgrade_keeps_selector_values_and_models_and_brings_the_new_definition(
    bare: OwnCluster, version: Helm, tmp_path: Path
) -> None:
    release = new_release(bare, version)
    release.install("--set", "logLevel=DEBUG,replicas=3", chart=former_chart(tmp_path))
    wait_established(bare)
    models = Namespace(bare, release.namespace)
    models.model()
    model, deployment = models.get("vllmmodel", "qwen"), release.get("deployment", RELEASE)
    assert short_names(bare) == []

    assert "missing properties 'podDisruptionBudget'" in release.refused("upgrade", "--reuse-values")
    release.upgrade("--set", "podLabels.team=ml")
    upgraded = release.get("deployment", RELEASE)
    assert upgraded["metadata"]["uid"] == deployment["metadata"]["uid"]
    assert upgraded["spec"]["selector"] == deployment["spec"]["selector"]
    assert upgraded["spec"]["replicas"] == 3
    assert {"name": "VLLM_OPERATOR_LOG_LEVEL", "value": "DEBUG"} in environment(upgraded)
    assert upgraded["spec"]["template"]["metadata"]["labels"]["team"] == "ml"
    assert short_names(bare) == ["vllm"], "a definition of a chart's crds/ would have stayed as it was"

    release("rollback", "1")
    assert release.get("deployment", RELEASE)["spec"] == deployment["spec"]
    assert short_names(bare) == []
    release.upgrade()
    assert identity(models.get("vllmmodel", "qwen")) == identity(model), "nothing of all that is the models' business"


def environment(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """Variables of the operator."""
    found: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return found


@both
def test_models_outlive_the_release_unless_somebody_has_said_otherwise(bare: OwnCluster, version: Helm) -> None:
    release = new_release(bare, version)
    release.install()
    wait_established(bare)
    models = Namespace(bare, release.namespace)
    models.model()
    model, kept = models.get("vllmmodel", "qwen"), definition(bare)["metadata"]["uid"]
    release("uninstall")
    assert release.get("deployment", RELEASE) == {}
    assert bare.kubectl("get", "clusterroles,clusterrolebindings", *OURS, "--output", "name") == ""
    assert identity(models.get("vllmmodel", "qwen")) == identity(model)

    assert "invalid ownership metadata" in new_release(bare, version, "other").refused("install")
    release.install("--set", "crds.keep=true")
    assert definition(bare)["metadata"]["uid"] == kept, "the same release takes it over again"
    release.upgrade("--set", "crds.enabled=false")
    assert identity(models.get("vllmmodel", "qwen")) == identity(model), "handed over, as docs/install.md says"
    release("uninstall")

    release.install("--set", "crds.enabled=true,crds.keep=false")
    release("uninstall")
    until(lambda: not definition(bare), what="the end of the definition, and with it of all models")


@both
def test_releases_stand_beside_each_other_and_what_both_would_own_is_refused(bare: OwnCluster, version: Helm) -> None:
    default = new_release(bare, version)
    default.install()
    blue = new_release(bare, version, "blue", default.namespace)
    blue.install("--set", f"name=blue,networkPolicy.enabled=true,{FROM_MONITORING}", *FURTHER)
    assert blue.get("networkpolicy", "blue-vllm-operator")["spec"]["ingress"][0]["ports"][0]["port"] == "http"
    followed = new_namespace(bare)
    of_one = new_release(bare, version)
    of_one.install("--set", f"namespaces={{{followed}}}", *FURTHER)
    assert of_one.get("rolebinding", RELEASE, followed)["subjects"][0]["namespace"] == of_one.namespace
    said = new_release(bare, version, "third").refused("install", *FURTHER)
    assert 'ClusterRole "vllm-operator"' in said
    assert "invalid ownership metadata" in said

    blue("uninstall")
    of_one("uninstall")
    assert blue.get("deployment", "blue-vllm-operator") == {}
    assert default.get("deployment", RELEASE)
    bound = bare.kubectl("get", "clusterrolebindings", *OURS, "--output", "name").split()
    assert bound == ["clusterrolebinding.rbac.authorization.k8s.io/vllm-operator"]
    assert definition(bare)
    default("uninstall")


def is_what_is_there(cluster: OwnCluster, rendered: str) -> bool:
    """Whether another tool that applies by server-side apply would see no difference; what it would see is printed.

    A controller that writes between the two reads of a comparison makes one as well, but not for long.
    """
    words = ("diff", "--server-side", "--force-conflicts", "--field-manager", "argocd-controller", "--filename", "-")
    command = [str(cluster.binaries / "kubectl"), *words]
    done = subprocess.run(command, input=rendered, env=cluster.env, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    sys.stdout.write(done.stdout)
    return done.stdout == ""


@both
def test_a_field_that_was_changed_by_hand_is_told_or_taken_back_and_one_that_is_left_out_stays(
    bare: OwnCluster, version: Helm
) -> None:
    release = new_release(bare, version)
    release.install()
    rendered = template("--namespace", release.namespace, "--skip-tests", version=version)
    until(lambda: is_what_is_there(bare, rendered), what="that what is rendered is what is there")

    bare.kubectl("scale", "deployment", RELEASE, "--replicas=5", "--namespace", release.namespace)
    if version is Helm.V4:
        said = release.refused("upgrade", "--set", "replicas=4")
        assert "conflict" in said
        assert ".spec.replicas" in said
        release.upgrade("--set", "replicas=4", "--force-conflicts")
    else:
        release.upgrade("--set", "replicas=4")
    assert release.get("deployment", RELEASE)["spec"]["replicas"] == 4

    # Helm forgets a null where it merges it with the value of before: here it is given anew each time
    release("upgrade", str(CHART), "--reset-values", "--set", "replicas=null")
    bare.kubectl("scale", "deployment", RELEASE, "--replicas=5", "--namespace", release.namespace)
    release("upgrade", str(CHART), "--reset-values", "--set", "replicas=null,logLevel=DEBUG")
    found = release.get("deployment", RELEASE)
    assert found["spec"]["replicas"] == 5, "the number is somebody else's now"
    assert {"name": "VLLM_OPERATOR_LOG_LEVEL", "value": "DEBUG"} in environment(found)
    release("uninstall")


def test_a_release_of_helm_3_goes_on_with_helm_4_and_back(bare: OwnCluster) -> None:
    old = new_release(bare, Helm.V3)
    old.install()
    new = Release(bare, Helm.V4, namespace=old.namespace)
    for release, level in ((new, "DEBUG"), (old, "WARNING"), (new, "ERROR")):
        release.upgrade("--set", f"logLevel={level}")
        found = release.get("deployment", RELEASE)
        assert {"name": "VLLM_OPERATOR_LOG_LEVEL", "value": level} in environment(found)
    new("rollback", "1")
    assert {"name": "VLLM_OPERATOR_LOG_LEVEL", "value": "INFO"} in environment(new.get("deployment", RELEASE))
    new("uninstall")
    assert definition(bare)


def test_what_is_rendered_can_be_applied_again_and_again_without_a_change(bare: OwnCluster) -> None:
    namespace = new_namespace(bare)
    rendered = template("--namespace", namespace, "--skip-tests")
    apply = ("apply", "--server-side", "--filename", "-", "--output", "name")
    first = bare.kubectl(*apply, input=rendered).split()
    wait_established(bare)
    seen = [identity(Namespace(bare, namespace).get(*name.split("/"))) for name in first]
    assert bare.kubectl(*apply, input=rendered).split() == first
    assert [identity(Namespace(bare, namespace).get(*name.split("/"))) for name in first] == seen
    assert not [name for name in first if name.startswith("pod/")], "nothing of `helm test`"


@pytest.fixture
def of_prometheus(bare: OwnCluster) -> Iterator[None]:
    """The API server serves the kinds of the Prometheus operator."""
    rules = json.dumps(POD_MONITORS).replace("podmonitor", "prometheusrule").replace("PodMonitor", "PrometheusRule")
    definitions: tuple[dict[str, Any], ...] = (POD_MONITORS, json.loads(rules))
    for one in definitions:
        bare.kubectl("apply", "--filename", "-", input=json.dumps(one))
        wait_established(bare, one["metadata"]["name"])
    yield
    bare.kubectl("delete", "crd", *(one["metadata"]["name"] for one in definitions))


@both
@pytest.mark.usefixtures("of_prometheus")
def test_it_takes_each_command_of_the_pages(bare: OwnCluster, version: Helm) -> None:
    for name in (NAMESPACE, "team-a", "team-b"):
        place = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        bare.kubectl("apply", "--filename", "-", input=json.dumps(place))
    done = [taken(bare, version, *words) for words in commands_of_pages() if words[0] != "test"]
    assert {"install", "upgrade", "uninstall"} <= {*done}
    for name in releases(bare, version):
        Release(bare, version, name=name)("uninstall")


def releases(cluster: OwnCluster, version: Helm) -> list[str]:
    """Names of those that are there."""
    return helm(version, "list", "--short", "--namespace", NAMESPACE, env=cluster.env).stdout.split()


def taken(cluster: OwnCluster, version: Helm, verb: str, *words: str) -> str:
    """Run a command as a page shows it, where its release is there, or is not, as the page takes for granted."""
    name = next(word for word in words if not word.startswith("-"))
    release = Release(cluster, version, name=name)
    is_there = name in releases(cluster, version)
    if verb == "install" and is_there:
        release("uninstall")
    if verb != "install" and not is_there:
        release.install()
    helm(version, verb, *(str(CHART) if word == "charts/vllm-operator" else word for word in words), env=cluster.env)
    return verb
