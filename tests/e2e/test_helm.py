"""The chart on a real node: `helm test` serves a model, and an upgrade under load restarts no engine."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import callers
from tests.support.charts import Helm, Release, values_file
from tests.support.load import asking, ended
from tests.support.models import model
from tests.support.network_policies import enforced
from vllm_operator.api.conditions import by_type
from vllm_operator.api.names import OPERATOR_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster import OwnCluster
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

BLUE = "blue-vllm-operator"
ANSWERS = 40
"""Least number of them while the operator is upgraded twice, which takes some seconds."""
UNPROBED_SECONDS = 20.0
"""By then a pod whose probes are dropped is not ready: three of them, of 5 s each."""


@pytest.fixture(scope="module")
def release(operated: OwnCluster) -> Iterator[Release]:
    """A second operator from the chart, beside the one of the manifests, in a namespace that enforces `restricted`."""
    namespace = f"helm-{os.getpid()}"
    operated.kubectl("create", "namespace", namespace)
    operated.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    installed = Release(operated, Helm.V4, name="blue", namespace=namespace)
    options = "name=blue,crds.enabled=false,userRoles=false,image.tag=dev"
    installed.install("--set", options, "--wait", "--timeout", "600s")
    yield installed
    installed("uninstall")
    operated.kubectl("delete", "namespace", namespace, "--wait=false")


def spec_file(folder: Path, stub: EngineChoice, **engine: Any) -> str:
    """Values by which `helm test` serves the stub engine."""
    spec = model("test", stub, engine=engine)["spec"]
    return values_file(folder, {"test": {"spec": spec, "timeoutSeconds": 600}})


def left_over(release: Release) -> list[str]:
    """What `helm test` has made and what is still there, but for engines on their way out."""
    kinds = "vllmmodels,serviceaccounts,roles,rolebindings,pods"
    found = release.cluster.kubectl("get", kinds, "--namespace", release.namespace, "--output", "name").split()
    return [name for name in found if name.endswith(f"/{BLUE}-test") or name.startswith("vllmmodel.")]


def test_helm_test_serves_a_model_completes_a_prompt_and_leaves_nothing(
    release: Release, stub: EngineChoice, tmp_path: Path
) -> None:
    release.upgrade("--values", spec_file(tmp_path, stub), "--wait", "--timeout", "600s")
    done = release("test", "--timeout", "660s")
    assert "'The sky is' is completed with" in done.stdout + done.stderr
    assert left_over(release) == []


def test_helm_test_that_fails_says_what_the_status_says_and_takes_the_model_away(
    release: Release, stub: EngineChoice, tmp_path: Path
) -> None:
    wrong = spec_file(tmp_path, stub, extraArgs=["--tensor-parallel", "2"])
    release.upgrade("--values", wrong, "--wait", "--timeout", "600s")
    done = release("test", "--timeout", "660s", check=False)
    assert done.returncode != 0
    assert "not served: InvalidSpec: spec.engine.extraArgs" in done.stdout + done.stderr
    assert [name for name in left_over(release) if not name.startswith("pod/")] == []


def test_an_upgrade_and_a_rollback_of_the_chart_restart_no_engine_and_lose_no_request(
    release: Release, site: Site, stub: EngineChoice
) -> None:
    document = model("qwen", stub)
    document["metadata"]["labels"] = {OPERATOR_LABEL: "blue"}
    site.apply(document)
    site.wait_ready("qwen", 300)
    before = {pod["metadata"]["uid"]: restarts(pod) for pod in site.pods("qwen")}
    client = asking(site, "qwen")
    operator = uids(release)
    release.upgrade("--set", "logLevel=DEBUG,podAnnotations.example\\.com/note=new", "--wait", "--timeout", "600s")
    assert not operator & uids(release), "the operator's own pods are new"
    release("rollback", "1", "--wait", "--timeout", "600s")
    site.patch("qwen", {"replicas": 2})
    site.wait_ready("qwen", 300)  # the operator of now follows it
    asked = ended(site, client)
    assert asked["troubles"] == []
    assert all(asked[title][0] > ANSWERS for title in ("ours", "plain"))
    after = {pod["metadata"]["uid"]: restarts(pod) for pod in site.pods("qwen")}
    assert before.items() <= after.items()


def test_its_network_policy_opens_the_operators_port_to_those_whom_it_names_and_to_kubelets_probes(
    release: Release, site: Site, tmp_path: Path
) -> None:
    friend = {"app": "friend"}
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": site.name}}}
    policy = {"enabled": True, "allowFrom": [{**here, "podSelector": {"matchLabels": friend}}]}
    values = values_file(tmp_path, {"networkPolicy": policy})
    callers.started(site, friend=friend, stranger={})
    release.upgrade("--values", values, "--wait", "--timeout", "600s")
    pods = operator_pods(release)
    metrics = [f"http://{pod['status']['podIP']}:8080/metrics" for pod in pods]
    assert [callers.status(site, "stranger", url) for url in metrics] == [200, 200], "nobody enforces policies yet"
    with enforced(release.cluster, release.namespace):
        assert [callers.status(site, "stranger", url) for url in metrics] == [0, 0]
        assert [callers.status(site, "friend", url) for url in metrics] == [200, 200]
        time.sleep(UNPROBED_SECONDS)
        assert uids(release) == {pod["metadata"]["uid"] for pod in pods}
        assert all(is_ready(pod) for pod in operator_pods(release)), "kubelet's probes come through"


def restarts(pod: dict[str, Any]) -> int:
    """How often its engine was restarted."""
    return sum(status["restartCount"] for status in pod["status"]["containerStatuses"])


def operator_pods(release: Release) -> list[dict[str, Any]]:
    """The operator's pods that are not on their way out."""
    words = ("get", "pods", "--namespace", release.namespace, "--selector", f"app.kubernetes.io/name={BLUE}")
    pods = json.loads(release.cluster.kubectl(*words, "--output", "json"))["items"]
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def uids(release: Release) -> set[str]:
    """Which of its pods are there."""
    return {pod["metadata"]["uid"] for pod in operator_pods(release)}


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether kubelet's probe says so."""
    return bool(by_type(pod["status"])["Ready"]["status"] == "True")
