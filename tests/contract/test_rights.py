"""What the chart grants and what the operator asks an API server for are the same, by the server's own audit log.

The operator runs as its service account with what the chart renders, once for the whole cluster and once for one
namespace. A tour has it do all that it can do: make, read, repair and delete each kind of child, scale, tell, look at
nodes, claims and managers. No kubelet runs here, so the tour says what one would.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.cluster import ClusterSpec, NodeKind
from tests.cluster.errors import ClusterError
from tests.cluster.fixtures import started
from tests.contract.conftest import define
from tests.contract.test_causes_outside import no_node_for, patch_status, pods_of, wait_told
from tests.contract.test_children import POD_MONITORS
from tests.contract.test_engines_told import Manager
from tests.support import keda, lws, rights
from tests.support.charts import CHART, Helm, helm
from tests.support.custom_metrics import custom_metrics
from tests.support.definitions import wait_established
from tests.support.namespace import Namespace
from tests.support.operator_process import OperatorProcess
from tests.support.rights import Right
from tests.support.servers import free_port
from tests.support.waiting import until
from vllm_operator.api.meta import GROUP
from vllm_operator.cluster.kinds import CHILDREN, OPTIONAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

OWNERS_PLUGIN: Final = "OwnerReferencesPermissionEnforcement"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
UNSCHEDULABLE: Final = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
ELSEWHERE: Final = "0/1 nodes are available: 1 node(s) had volume node affinity conflict."
NODE: Final = "rights-node"
MOST_TRIES: Final = 5

ASKED_FOR_INSIDE: Final = {Right(GROUP, "vllmmodels/finalizers", "update")}
"""What admission plug-ins ask the API server's authorizer for, in no request of its own."""

OF_THE_CLUSTER: Final = {Right("", "nodes", "list"), Right("", "nodes", "get"), Right("", "persistentvolumes", "get")}
"""What an operator of some namespaces asks for in vain: its refusal is how it learns that it may not see nodes."""

SCALED: Final[dict[str, Any]] = {"minReplicas": 2, "maxReplicas": 4, "targets": {"waitingRequests": 5}}
WHOLE: Final[dict[str, Any]] = {
    "accelerator": {"resourceClaims": [{"name": "gpu", "deviceClassName": "gpu.example.com"}]},
    "auth": {"keys": [{"name": "team-key", "key": "token"}]},
    "autoscaling": SCALED,
    "disruption": {"minAvailable": 1},
    "estimate": {"configMapRef": {"name": "describes-it"}},
    "ingress": {"host": "llm.example.com"},
    "monitoring": {},
    "network": {"allowFrom": []},
    "rollout": {"revisionHistoryLimit": 1},
}


@pytest.fixture(scope="module")
def audited() -> Iterator[OwnCluster]:
    """A cluster that logs all requests, and enforces who may block the deletion of owners."""
    spec = ClusterSpec(
        name=f"test-rights-{os.getpid()}",
        node=NodeKind.NONE,
        audit_log=True,
        audit_reads=True,
        admission=(OWNERS_PLUGIN,),
    )
    with started(spec) as cluster:
        define(cluster)
        cluster.kubectl("create", "--filename", "-", input=json.dumps(POD_MONITORS))
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        cluster.kubectl("create", "--filename", "-", input=json.dumps(node))
        yield cluster


def make_volume(place: Namespace, name: str) -> None:
    """A volume for a claim of this namespace, which one node alone can reach."""
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{place.name}-{name}"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "storageClassName": place.name,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": "/nowhere"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
        },
    }
    place.kubectl("create", "--filename", "-", document=volume)


def cached(place: Namespace) -> dict[str, Any]:
    """A spec with a claim that such a volume meets."""
    return {"storage": {"cache": {"persistentVolumeClaim": {"size": "1Gi", "storageClassName": place.name}}}}


class Installed:
    """The operator, as the service account of a chart's release in a namespace of its own."""

    def __init__(self, cluster: OwnCluster, home: str, folder: Path, *namespaces: str) -> None:
        self.cluster, self.home, self.folder, self.namespaces = cluster, home, folder, namespaces
        cluster.kubectl("create", "namespace", home)
        options = ["crds.enabled=false", "userRoles=false"]
        options += [f"namespaces[{number}]={name}" for number, name in enumerate(namespaces)]
        words = [word for option in options for word in ("--set", option)]
        words += ["--skip-tests", "--namespace", home]
        text = helm(Helm.V4, "template", "vllm-operator", str(CHART), *words).stdout
        self.documents: list[dict[str, Any]] = [one for one in yaml.safe_load_all(text) if one]
        for one in self.documents:
            if one["kind"] not in ("Deployment", "PodDisruptionBudget"):
                cluster.kubectl("apply", "--filename", "-", input=json.dumps(one))

    @property
    def user(self) -> str:
        """Who it is to the API server."""
        return f"system:serviceaccount:{self.home}:vllm-operator"

    @property
    def granted(self) -> set[Right]:
        """What it may do."""
        return rights.granted(one for one in self.documents if one["kind"] in ("Role", "ClusterRole"))

    @property
    def asked(self) -> list[rights.Request]:
        """What it has asked for until now."""
        return list(rights.requests((self.cluster.logs / "audit.log").read_text(encoding="utf-8"), self.user))

    def process(self) -> OperatorProcess:
        """The operator, not started."""
        config = yaml.safe_load(self.cluster.kubeconfig.read_text(encoding="utf-8"))
        token = self.cluster.kubectl("create", "token", "vllm-operator", "--namespace", self.home).strip()
        config["users"] = [{**user, "user": {"token": token}} for user in config["users"]]
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        settings = {"RESYNC_SECONDS": "1", "PROMETHEUS_ADDRESS": "http://prometheus.monitoring:9090"}
        followed = {"NAMESPACES": ",".join(self.namespaces)} if self.namespaces else {}
        return OperatorProcess(path, self.folder, NAMESPACE=self.home, **settings, **followed)


def owned(place: Namespace, model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each child of a model, with the plural of its kind; of its revisions the current one alone."""
    for kind in (*CHILDREN, *OPTIONAL):
        group = f".{kind.api_version.partition('/')[0]}" if "/" in kind.api_version else ""
        with contextlib.suppress(ClusterError):  # KEDA is not there yet
            found = json.loads(place.kubectl("get", kind.plural + group, "--output", "json"))["items"]
            of_model = [one for one in found if _owners(one) == [model]]
            newest = max((one.get("revision", 0) for one in of_model), default=0)
            yield from ((kind.plural + group, one) for one in of_model if one.get("revision", 0) == newest)


def _owners(live: dict[str, Any]) -> list[str]:
    return [one["name"] for one in live["metadata"].get("ownerReferences", ())]


def lose_labels(place: Namespace, names: Sequence[tuple[str, str]]) -> None:
    """Take the label off children, by which the operator watches and lists them: what has their names is read then."""
    for plural, name in names:
        place.kubectl("label", plural, name, f"{MANAGED_BY}-")
    for plural, name in names:
        until(
            lambda plural=plural, name=name: MANAGED_BY in place.get(plural, name)["metadata"]["labels"],  # type: ignore[misc] # of this round
            what=f"the label of {plural} {name}",
        )


def make_each_child(place: Namespace) -> None:
    """Have a model with every kind of child that needs no KEDA, and one after another of its specs."""
    place.kubectl("create", "secret", "generic", "team-key", "--from-literal=token=s3cret")
    make_volume(place, "first")
    spec = {**WHOLE, **cached(place)}
    place.model("whole", **spec)
    for kind in ("networkpolicy", "poddisruptionbudget", "ingress", "podmonitor", "horizontalpodautoscaler"):
        place.wait_for(kind, "whole")
    place.wait_for("persistentvolumeclaim", "whole-cache")
    until(lambda: claim_templates(place), what="a template of claims")
    until(lambda: place.get("deployment", "whole")["spec"]["replicas"] == 2, what="the fewest engines")
    lose_labels(place, [("horizontalpodautoscalers.autoscaling", "whole")])
    for tokens in (1024, 1025, 1026):
        place.model("whole", **spec, engine={"maxModelLen": tokens})
        until(
            lambda tokens=tokens: str(tokens) in json.dumps(place.get("deployment", "whole")["spec"]["template"]),  # type: ignore[misc] # of this round
            what=f"{tokens} tokens",
        )


@contextlib.contextmanager
def with_keda(place: Namespace) -> Iterator[None]:
    """KEDA is there, and the model's autoscaler is KEDA's."""
    place.cluster.kubectl("apply", "--server-side", "--filename", str(keda.definition()))
    wait_established(place.cluster, keda.DEFINITION)
    place.wait_for("scaledobject", "whole")
    place.wait_gone("horizontalpodautoscaler", "whole")
    try:
        yield
    finally:
        place.cluster.kubectl("delete", "crd", keda.DEFINITION)


def claim_templates(place: Namespace) -> list[dict[str, Any]]:
    """The ResourceClaimTemplates of the namespace."""
    found: list[dict[str, Any]] = json.loads(place.kubectl("get", "resourceclaimtemplates", "--output", "json"))[
        "items"
    ]
    return found


def drop_each_child(place: Namespace) -> None:
    """No section asks for a child any more."""
    place.model("whole", replicas=0, pod={"serviceAccountName": "default"})
    for kind in ("networkpolicy", "poddisruptionbudget", "ingress", "podmonitor", "scaledobject"):
        place.wait_gone(kind, "whole")
    place.wait_gone("serviceaccount", "whole-engines")
    until(lambda: not claim_templates(place), what="the end of the template of claims")
    place.wait_gone("persistentvolumeclaim", "whole-cache")


def serve_by_groups(place: Namespace) -> None:
    """An engine goes over to pods on two nodes, whose set is found by its name as well, and comes back."""
    lws.install_definition(place.cluster)
    try:
        place.model("wide")
        place.wait_for("deployment", "wide")
        place.model("wide", parallelism={"tensor": 2, "nodes": 2})
        place.wait_for("leaderworkerset", "wide")
        place.wait_gone("deployment", "wide")
        lose_labels(place, [("leaderworkersets.leaderworkerset.x-k8s.io", "wide")])
        place.model("wide")
        place.wait_gone("leaderworkerset", "wide")
    finally:
        place.cluster.kubectl("delete", "crd", lws.DEFINITION)


def fill_a_claim(place: Namespace) -> None:
    """A Job fills a claim for one model, then for two, then for none."""

    def owners() -> list[list[str]]:
        return [sorted(_owners(job)) for job in place.list("jobs")]

    claim = {"persistentVolumeClaim": {"size": "1Gi"}}
    place.model("fills", storage={"cache": {**claim, "prefetch": {}}})
    until(lambda: owners() == [["fills"]], what="a Job")
    place.model("shares", storage={"cache": {"existingClaim": "fills-cache", "prefetch": {}}})
    until(lambda: owners() == [["fills", "shares"]], what="a Job of two models")
    place.model("fills", storage={"cache": claim})
    place.model("shares")
    until(lambda: owners() == [], what="no Job")


def keep_from_nodes(place: Namespace, *, sees_nodes: bool) -> None:
    """Pods that find no node, and one whose node does not answer."""
    make_volume(place, "second")
    place.model("waits", **cached(place))
    pods_of(place, "waits")
    until(lambda: place.get("persistentvolumeclaim", "waits-cache")["status"]["phase"] == "Bound", what="a volume")
    no_node_for(place, "waits", ELSEWHERE)
    wait_told(place, "waits", "volume node affinity conflict", *([NODE] if sees_nodes else []))
    place.model("none")
    no_node_for(place, "none", UNSCHEDULABLE)
    wait_told(place, "none", "nvidia.com/gpu")
    place.model("lost")
    (pod,) = pods_of(place, "lost")
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod},
        "target": {"kind": "Node", "name": NODE},
    }
    place.kubectl("create", "--raw", f"/api/v1/namespaces/{place.name}/pods/{pod}/binding", "-f", "-", document=binding)
    patch_status(
        place, "pod", pod, {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}
    )
    wait_told(place, "lost", "does not answer (")


def keep_in_a_queue(place: Namespace) -> None:
    """Pods that a queue holds back: a single one, and one of a group. Kueue is not there."""
    patch = {"spec": {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}}
    place.model("queued", pod={"patch": patch})
    place.model("grouped", pod={"patch": patch, "labels": {"kueue.x-k8s.io/pod-group-name": "grouped"}})
    for model in ("queued", "grouped"):
        wait_told(place, model, "the API server knows no Workloads of Kueue")


def scale_down(place: Namespace, installed: Installed) -> None:
    """Of two engines that serve, the one with less to do goes: the operator says so on their pods.

    It asks their managers how much that is, and waits a second for them. On a busy machine that may pass without an
    answer, and nothing is said: then there is another time.
    """
    port = free_port()
    managers = [Manager(address, port) for address in ("127.0.0.2", "127.0.0.3")]
    try:
        for _ in range(MOST_TRIES):
            serve_two(place, managers, port)
            place.model("two", replicas=1, gates={"port": port})
            pods_of(place, "two", 1)
            if Right("", "pods", "patch") in rights.used(installed.asked):
                break
    finally:
        for manager in managers:
            manager.close()


def serve_two(place: Namespace, managers: Sequence[Manager], port: int) -> None:
    """Two engines are ready, and one of them has more to do than the other."""
    place.model("two", replicas=2, gates={"port": port})
    for work, (manager, pod) in enumerate(zip(managers, pods_of(place, "two", 2), strict=True)):
        manager.says = {**manager.says, "verdict": "serving", "ready": True, "in_flight": work}
        address = f"127.0.0.{2 + work}"
        ready = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}
        patch_status(place, "pod", pod, status)
    until(lambda: place.condition("Ready", "two").get("status") == "True", what="two engines")


def leave(place: Namespace, models: Sequence[str]) -> None:
    """The last model goes, and what models share with it."""
    for model in models:
        place.kubectl("delete", "vllmmodel", model)
    for shared in ("vllm-manager", "vllm-catalog", "vllm-prefetch"):
        place.wait_gone("configmap", shared)


def tour(place: Namespace, installed: Installed, *, sees_nodes: bool) -> None:
    """All that an operator does."""
    make_each_child(place)
    with with_keda(place):
        names = [(plural, live["metadata"]["name"]) for plural, live in owned(place, "whole")]
        assert len({plural for plural, _ in names}) == len(CHILDREN) + len(OPTIONAL) - 2
        lose_labels(place, names)
        drop_each_child(place)
    serve_by_groups(place)
    fill_a_claim(place)
    keep_from_nodes(place, sees_nodes=sees_nodes)
    keep_in_a_queue(place)
    scale_down(place, installed)
    leave(place, ("whole", "wide", "fills", "shares", "waits", "none", "lost", "queued", "grouped", "two"))


@contextlib.contextmanager
def autoscalers_by_metrics(cluster: OwnCluster) -> Iterator[None]:
    """Custom metrics are served, so that models get HorizontalPodAutoscalers."""
    with custom_metrics() as served:
        for document in served.objects():
            cluster.kubectl("apply", "--filename", "-", input=json.dumps(document))
        try:
            yield
        finally:
            for document in served.objects():
                cluster.kubectl("delete", "--filename", "-", input=json.dumps(document))


@pytest.mark.parametrize("everywhere", [True, False], ids=["the whole cluster", "one namespace"])
def test_what_the_chart_grants_is_what_the_operator_asks_for(
    audited: OwnCluster, tmp_path: Path, *, everywhere: bool
) -> None:
    name = "rights-everywhere" if everywhere else "rights-here"
    audited.kubectl("create", "namespace", name)
    audited.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    place = Namespace(audited, name)
    installed = Installed(audited, f"{name}-home", tmp_path, *(() if everywhere else (name,)))
    with autoscalers_by_metrics(audited), installed.process() as running:
        tour(place, installed, sees_nodes=everywhere)
    expected = set() if everywhere else OF_THE_CLUSTER
    asked = installed.asked
    in_vain = rights.forbidden(asked)
    assert {str(right) for right in in_vain} <= {str(right) for right in expected}, running.log()
    used = rights.used(asked)
    assert {str(right) for right in used - installed.granted} == set(), "asked for, and let through by another role"
    assert {str(right) for right in installed.granted - used - ASKED_FOR_INSIDE} == set(), "granted, and not used"
    assert "Traceback" not in running.log()
    if not everywhere:
        elsewhere = {one.namespace for one in asked if one.code != 403} - {name, f"{name}-home"}
        assert elsewhere == set(), "of other namespaces, or of all"


def test_where_clusters_enforce_owner_references_two_rights_decide_and_their_lack_is_told(
    audited: OwnCluster, tmp_path: Path
) -> None:
    """OpenShift does.

    Only who may set finalizers on an owner may have a reference block its deletion; and only who may delete an object
    may put a reference on one that is there, which the chart does not grant for each kind.
    """
    name = "rights-owners"
    audited.kubectl("create", "namespace", name)
    place = Namespace(audited, name)
    installed = Installed(audited, f"{name}-home", tmp_path, name)
    (role,) = [one for one in installed.documents if one["kind"] == "Role" and one["metadata"]["namespace"] == name]
    less = {**role, "rules": [rule for rule in role["rules"] if rule["resources"] != ["vllmmodels/finalizers"]]}
    place.kubectl("apply", "--filename", "-", document=less)
    with installed.process():
        place.model()
        wait_told(place, "qwen", "cannot set blockOwnerDeletion")
        place.kubectl("apply", "--filename", "-", document=role)
        place.wait_reason("EnginesStarting")
        place.kubectl("delete", "vllmmodel", "qwen", "--cascade=orphan")
        place.model()
        wait_told(place, "qwen", "cannot set an ownerRef on a resource you can't delete")
        kept = ["deployments", "services", "secrets"]
        more = {"apiGroups": ["", "apps"], "resources": kept, "verbs": ["delete"]}
        place.kubectl("apply", "--filename", "-", document={**role, "rules": [*role["rules"], more]})
        place.wait_reason("EnginesStarting")
        uid = place.get("vllmmodel", "qwen")["metadata"]["uid"]
        owners = place.get("deployment", "qwen")["metadata"]["ownerReferences"]
        assert [owner["uid"] for owner in owners] == [uid]


def test_no_role_of_the_chart_or_the_manifests_has_a_wildcard(audited: OwnCluster) -> None:
    chart = helm(Helm.V4, "template", "vllm-operator", str(CHART), "--namespace", "x").stdout
    some = helm(Helm.V4, "template", "vllm-operator", str(CHART), "--namespace", "x", "--set", "namespaces={a}").stdout
    base = audited.kubectl("kustomize", str(CHART.parent.parent / "manifests" / "base"))
    for text in (chart, some, base):
        documents = [one for one in yaml.safe_load_all(text) if one and one["kind"] in ("Role", "ClusterRole")]
        found = [(right.group, right.resource, right.verb) for right in rights.granted(documents)]
        assert found
        assert [right for right in found if "*" in "".join(right)] == []
