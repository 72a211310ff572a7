"""One version of the operator after the other on a real API server: no engine is replaced unless somebody asks.

UPGRADE_MODELS is the number of models: a sample in `make test`, 1000 in `make upgrade`. There is no node, so engines
wait for one for ever; what matters is that the controllers of Kubernetes see no reason to make others.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster import ClusterSpec, NodeKind
from tests.cluster.fixtures import started
from tests.contract.conftest import define
from tests.support.namespace import Namespace
from tests.support.operator_process import OperatorProcess
from tests.support.plugin import said
from tests.support.waiting import until
from tests.upgrade.versions import IMAGE, program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

MODELS: Final = int(os.environ.get("UPGRADE_MODELS", "14"))
PATIENCE_SECONDS: Final = 120.0 + MODELS
LEASE: Final = {"LEASE_DURATION_SECONDS": "300", "RENEW_DEADLINE_SECONDS": "240"}
"""So much at once on one machine, an answer of the API server may take long; nobody else wants to lead."""
NAMESPACE: Final = "fleet"
SPECS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"replicas": 2, "engine": {"maxModelLen": 4096, "gpuMemoryUtilization": 0.5}},
    {"auth": {"generate": True}},
    {"model": {"source": "org/tiny", "chatTemplate": {"inline": "{% for one in messages %}{{ one }}{% endfor %}"}}},
    {"pod": {"patch": {"spec": {"hostAliases": [], "nodeSelector": {"a": "b"}, "priority": None}}}},
    {"storage": {"cache": {"persistentVolumeClaim": {"size": "1Gi"}}}, "resources": {"limits": {"memory": "1536Mi"}}},
    {"engine": {"env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}},
)


@dataclass(frozen=True)
class Fleet:
    """The models of one namespace, and what the controllers of Kubernetes made for them."""

    cluster: OwnCluster

    def kubectl(self, *args: str, document: object = None) -> str:
        """Run kubectl in the namespace."""
        text = None if document is None else json.dumps(document)
        return self.cluster.kubectl("--namespace", NAMESPACE, *args, input=text)

    def items(self, kind: str) -> dict[str, dict[str, Any]]:
        """All objects of a kind by their names."""
        found = json.loads(self.kubectl("get", kind, "--output", "json"))["items"]
        return {one["metadata"]["name"]: one for one in found}

    def identities(self) -> dict[str, set[tuple[str, str]]]:
        """What must not change where no engine is replaced: pods, ReplicaSets, and the specs of the Deployments."""
        found = {
            kind: {(name, str(one["metadata"]["uid"])) for name, one in self.items(kind).items()}
            for kind in ("pods", "replicasets")
        }
        specs = {(name, json.dumps(one["spec"], sort_keys=True)) for name, one in self.items("deployments").items()}
        return {**found, "deployments": specs}

    def versions(self, kind: str) -> dict[str, str]:
        """The version of each object of a kind: the same as long as nobody writes it."""
        return {name: one["metadata"]["resourceVersion"] for name, one in self.items(kind).items()}

    def make(self) -> None:
        """Make the models, of all kinds of specs."""
        models = [
            {
                "apiVersion": "vllm.echo-roots.io/v1alpha1",
                "kind": "VLLMModel",
                "metadata": {"name": f"m-{number}"},
                "spec": {"model": {"source": "org/tiny"}, **SPECS[number % len(SPECS)]},
            }
            for number in range(MODELS)
        ]
        self.cluster.kubectl("create", "namespace", NAMESPACE)
        self.kubectl("create", "--filename", "-", document={"apiVersion": "v1", "kind": "List", "items": models})

    def wait_made(self, operator: OperatorProcess) -> None:
        """Until every engine has a pod, and every model a status."""
        wanted = sum(SPECS[number % len(SPECS)].get("replicas", 1) for number in range(MODELS))
        seen = "vllm_operator_engines"  # a metric costs less than a list of a thousand pods
        until(lambda: metric(operator, seen) >= wanted, seconds=PATIENCE_SECONDS, what=f"{wanted} pods")
        until(lambda: self.told(generation=1) == MODELS, seconds=PATIENCE_SECONDS, what="all statuses")

    def told(self, generation: int) -> int:
        """How many models have a status of that generation or a later one."""
        observed = (one.get("status", {}).get("observedGeneration", 0) for one in self.items("vllmmodels").values())
        return sum(one >= generation for one in observed)

    def waiting(self) -> set[str]:
        """Names of the models of which a template waits."""
        return {
            name
            for name, one in self.items("vllmmodels").items()
            for told in one.get("status", {}).get("conditions", [])
            if (told["type"], told["status"]) == ("TemplateUpdatePending", "True")
        }

    def template(self, name: str) -> dict[str, Any]:
        """The pod template of a model's engines."""
        found: dict[str, Any] = self.items("deployments")[name]["spec"]["template"]
        return found

    def image(self, name: str) -> str:
        """Image of a model's engines."""
        return str(self.template(name)["spec"]["containers"][0]["image"])


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Models on an API server of their own, whose controllers make their pods."""
    with started(ClusterSpec(name=f"test-upgrade-{os.getpid()}", node=NodeKind.NONE)) as cluster:
        define(cluster)
        found = Fleet(cluster)
        found.make()
        yield found


@pytest.fixture
def operators(fleet: Fleet, tmp_path: Path) -> dict[str, OperatorProcess]:
    """The operator as each version; none runs yet."""
    found = {}
    for name in ("earlier", "this", "later"):
        folder = tmp_path / name
        folder.mkdir()
        found[name] = OperatorProcess(fleet.cluster.kubeconfig, folder, program=program(name), WORKERS="8", **LEASE)
    return found


def metric(operator: OperatorProcess, name: str) -> int:
    """The sum of a metric of the operator."""
    found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", operator.get("/metrics"), re.MULTILINE)
    return int(sum(map(float, found)))


def pending(operator: OperatorProcess) -> int:
    """How many models wait for a template, as the metric says."""
    return metric(operator, "vllm_operator_template_updates_pending")


def wait_pending(fleet: Fleet, operator: OperatorProcess, number: int) -> None:
    """Until so many models wait, as the metric and their statuses say."""
    until(lambda: pending(operator) == number, seconds=PATIENCE_SECONDS, what=f"{number} models that wait")
    until(lambda: len(fleet.waiting()) == number, seconds=PATIENCE_SECONDS, what="a word of every model")


def test_an_operator_that_renders_differently_replaces_no_engine_until_it_is_asked_to(
    fleet: Fleet, operators: dict[str, OperatorProcess]
) -> None:
    with operators["this"] as this:
        fleet.wait_made(this)
        assert fleet.waiting() == set()
    before, deployments, template = fleet.identities(), fleet.versions("deployments"), fleet.template("m-0")
    revisions = fleet.versions("controllerrevisions")
    assert len(revisions) == MODELS
    with operators["later"] as later:
        wait_pending(fleet, later, MODELS)
        assert (fleet.identities(), fleet.versions("deployments")) == (before, deployments)
        assert fleet.versions("controllerrevisions") == revisions
        assert "applied Deployment" not in later.log()
        fleet.kubectl("annotate", "vllmmodel", "m-0", "kubectl.kubernetes.io/restartedAt=2026-11-26T06:00:00Z")
        fleet.kubectl("rollout", "restart", "deployment/m-1")
        until(lambda: (fleet.image("m-0"), fleet.image("m-1")) == (IMAGE, IMAGE), what="the new template")
        fleet.kubectl("scale", "vllmmodel/m-2", "--replicas", "3")
        until(lambda: fleet.items("deployments")["m-2"]["spec"]["replicas"] == 3, what="the third engine")
        until(lambda: pending(later) == MODELS - 2, what="two less that wait")
        assert before["pods"] - fleet.identities()["pods"] <= {
            (name, uid) for name, uid in before["pods"] if name.startswith(("m-0-", "m-1-"))
        }
    changed = fleet.identities()["deployments"] - before["deployments"]
    assert {name for name, _ in changed} == {"m-0", "m-1", "m-2"}
    after, deployments = fleet.identities(), fleet.versions("deployments")
    with operators["this"] as this:  # back again: whoever has the other template keeps it
        wait_pending(fleet, this, 2)
        assert fleet.waiting() == {"m-0", "m-1"}
        assert (fleet.identities(), fleet.versions("deployments")) == (after, deployments)
    with operators["later"] as later:
        wait_pending(fleet, later, MODELS - 2)
        said(Namespace(fleet.cluster, NAMESPACE), "rollout", "undo", "m-0")
        until(lambda: fleet.template("m-0") == template, what="the template of before")
        wait_pending(fleet, later, MODELS - 1)
        assert fleet.identities()["replicasets"] == after["replicasets"], "engines of it that are left stay"


def test_deployments_of_an_operator_without_history_keep_their_engines(
    fleet: Fleet, operators: dict[str, OperatorProcess]
) -> None:
    with operators["earlier"] as earlier:
        fleet.wait_made(earlier)
    fleet.kubectl("set", "env", "deployment/m-0", "OF_THE_USER=1")
    until(lambda: fleet.items("deployments")["m-0"]["status"].get("updatedReplicas") == 1, what="the user's variable")
    fleet.kubectl("patch", "vllmmodel", "m-1", "--type=merge", "--patch", '{"spec": {"engine": {"maxModelLen": 512}}}')
    before = fleet.identities()
    assert fleet.items("controllerrevisions") == {}
    with operators["later"] as later:
        wait_pending(fleet, later, MODELS - 1)
        until(lambda: fleet.told(generation=2) == 1, what="what was changed meanwhile")
        after, revisions = fleet.identities(), fleet.items("controllerrevisions")
        assert {name for name, _ in after["deployments"] - before["deployments"]} == {"m-1"}
        assert {name for name, _ in before["pods"] - after["pods"]} <= {
            name for name, _ in before["pods"] if name.startswith("m-1-")
        }
        assert fleet.image("m-1") == IMAGE
        assert len(revisions) == MODELS
        assert "OF_THE_USER" not in json.dumps(revisions)
        assert "OF_THE_USER" in json.dumps(fleet.items("deployments")["m-0"])
        looks = later.looks()
        fleet.kubectl("annotate", "deployment", "--all", "looked=at")
        later.wait_for_look(looks + MODELS - 1)
        assert fleet.identities() == after
