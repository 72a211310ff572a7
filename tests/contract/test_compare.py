"""What the API server makes of an applied object is no difference, and its schema is the one that we compare by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tools.kubernetes_schema import asked
from vllm_operator.api import kubernetes_schema
from vllm_operator.planner.compare import holds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

LABELS = {"app": "compared"}
PEER = {"podSelector": {"matchLabels": LABELS}}
INGRESS_PATH = {
    "path": "/",
    "pathType": "Prefix",
    "backend": {"service": {"name": "a", "port": {"name": "http"}}},
}
POD = {
    "containers": [
        {
            "name": "vllm",
            "image": "x",
            "env": [
                {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": False}}},
                {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "D", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1024Ki"}}},
                {"name": "E", "value": ""},
            ],
            "envFrom": [{"configMapRef": {"name": "a"}}, {"prefix": "", "secretRef": {"name": "b"}}],
            "ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}],
            "resources": {"limits": {"cpu": "1500u", "memory": "1024Mi"}, "requests": {"cpu": "0.0001"}},
            "volumeMounts": [{"name": "home", "mountPath": "/home", "readOnly": False}],
            "startupProbe": {"httpGet": {"port": 53, "httpHeaders": [{"name": "a", "value": "b"}]}},
        }
    ],
    "tolerations": [{"key": "gpu", "operator": "Exists", "value": ""}],
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    "nodeSelector": {"gpu": "yes"},
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]
            }
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": LABELS}}}
            ]
        },
    },
    "imagePullSecrets": [{"name": "pull"}],
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
    "volumes": [
        {"name": "home", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "0.5Gi"}},
        {"name": "config", "configMap": {"name": "a", "items": [{"key": "a", "path": "a"}]}},
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"path": "token"}},
                    {"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                    {"secret": {"name": "a"}},
                ]
            },
        },
        {
            "name": "scratch",
            "ephemeral": {
                "volumeClaimTemplate": {
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}
                }
            },
        },
        {"name": "image", "image": {"reference": "x"}},
    ],
}
DESIRED: dict[str, tuple[str, dict[str, Any]]] = {
    "Deployment": (
        "apps/v1",
        {
            "spec": {
                "selector": {"matchLabels": LABELS},
                "template": {"metadata": {"labels": LABELS, "annotations": {}}, "spec": POD},
            }
        },
    ),
    "Service": (
        "v1",
        {
            "spec": {
                "selector": LABELS,
                "ports": [
                    {"name": "a", "port": 53, "targetPort": "dns"},
                    {"name": "b", "port": 53, "protocol": "UDP"},
                ],
            }
        },
    ),
    "PersistentVolumeClaim": (
        "v1",
        {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1500.5Mi"}}}},
    ),
    "Secret": ("v1", {"type": "Opaque", "data": {"key": "YQ==", "empty": ""}}),
    "ConfigMap": ("v1", {"data": {"limits": "1000m", "empty": ""}}),
    "ServiceAccount": (
        "v1",
        {"automountServiceAccountToken": False, "imagePullSecrets": [{"name": "pull"}], "secrets": [{"name": "a"}]},
    ),
    "NetworkPolicy": (
        "networking.k8s.io/v1",
        {
            "spec": {
                "podSelector": {"matchLabels": LABELS},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {"ports": [{"port": 8000}, {"port": "http"}], "from": [PEER, {"namespaceSelector": {}}]},
                    {"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]},
                    {},
                ],
            }
        },
    ),
    "Ingress": (
        "networking.k8s.io/v1",
        {
            "spec": {
                "ingressClassName": "nginx",
                "tls": [{"hosts": ["a.example.com"], "secretName": "a"}],
                "rules": [{"host": "a.example.com", "http": {"paths": [INGRESS_PATH]}}],
            }
        },
    ),
    "PodDisruptionBudget": ("policy/v1", {"spec": {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}}}),
}
SHARED = [
    ("Deployment", "add", "/metadata/finalizers", ["example.com/z"]),
    ("Deployment", "add", "/spec/template/spec/containers/0", {"name": "sidecar", "image": "x"}),
    ("Deployment", "add", "/spec/template/spec/containers/0/env/0", {"name": "Z"}),
    ("Deployment", "add", "/spec/template/spec/containers/0/ports/0", {"containerPort": 53, "protocol": "SCTP"}),
    ("Deployment", "add", "/spec/template/spec/volumes/0", {"name": "z", "emptyDir": {}}),
    ("Service", "add", "/spec/ports/-", {"name": "z", "port": 54}),
    ("ServiceAccount", "add", "/secrets/-", {"name": "z"}),
]
OWNED = [
    ("Deployment", "add", "/spec/template/spec/tolerations/-", {"operator": "Exists"}),
    ("Deployment", "add", "/spec/template/spec/containers/0/envFrom/-", {"configMapRef": {"name": "z"}}),
    ("Deployment", "add", "/spec/template/spec/nodeSelector/z", "z"),
    ("Deployment", "replace", "/spec/template/spec/volumes/0", {"name": "home", "hostPath": {"path": "/"}}),
    ("Service", "add", "/spec/selector/z", "z"),
    ("ServiceAccount", "remove", "/automountServiceAccountToken", None),
    ("ConfigMap", "remove", "/data/empty", None),
    ("Secret", "remove", "/data/empty", None),
    ("ServiceAccount", "add", "/imagePullSecrets/-", {"name": "z"}),
    ("NetworkPolicy", "add", "/spec/ingress/-", {}),
    ("NetworkPolicy", "add", "/spec/ingress/0/from/-", PEER),
    ("NetworkPolicy", "add", "/spec/ingress/0/ports/0/endPort", 9000),
    ("NetworkPolicy", "add", "/spec/ingress/2/from", [PEER]),
    ("Ingress", "add", "/spec/tls/-", {"hosts": ["z.example.com"]}),
    ("Ingress", "add", "/spec/rules/-", {"host": "z.example.com"}),
    ("Ingress", "replace", "/spec/rules/0/http/paths/0/path", "/z"),
    ("Ingress", "remove", "/spec/ingressClassName", None),
    ("PodDisruptionBudget", "add", "/spec/selector/matchLabels/z", "z"),
]


def desired(kind: str) -> dict[str, Any]:
    """One object as the operator would apply it."""
    version, body = DESIRED[kind]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "compared", "labels": LABELS}, **body}


@pytest.fixture(scope="module")
def applied(api_server: OwnCluster) -> Iterator[OwnCluster]:
    """An API server that has all the objects."""
    documents = {"apiVersion": "v1", "kind": "List", "items": [desired(kind) for kind in DESIRED]}
    api_server.kubectl("apply", "--server-side", "--filename", "-", input=json.dumps(documents))
    yield api_server
    for kind in DESIRED:
        api_server.kubectl("delete", kind, "compared", "--wait=false")


@pytest.mark.parametrize("kind", DESIRED)
def test_an_applied_object_is_as_desired(applied: OwnCluster, kind: str) -> None:
    live = json.loads(applied.kubectl("get", kind, "compared", "--output", "json"))
    assert live != desired(kind)
    assert holds(live, desired(kind))


def changed(applied: OwnCluster, kind: str, operation: str, path: str, value: object) -> dict[str, Any]:
    """An object once somebody else has changed it."""
    patch = json.dumps([{"op": operation, "path": path, "value": value}])
    dry_run = ["--type", "json", "--dry-run=server", "--output", "json"]
    live: dict[str, Any] = json.loads(applied.kubectl("patch", kind, "compared", *dry_run, "--patch", patch))
    return live


@pytest.mark.parametrize(("kind", "operation", "path", "value"), SHARED)
def test_what_others_add_beside_ours_is_no_difference(
    applied: OwnCluster, kind: str, operation: str, path: str, value: object
) -> None:
    assert holds(changed(applied, kind, operation, path, value), desired(kind))


@pytest.mark.parametrize(("kind", "operation", "path", "value"), OWNED)
def test_what_others_do_to_what_has_one_owner_is_a_difference(
    applied: OwnCluster, kind: str, operation: str, path: str, value: object
) -> None:
    assert not holds(changed(applied, kind, operation, path, value), desired(kind))


def test_the_tables_are_those_of_the_api_server_and_its_types(api_server: OwnCluster) -> None:
    version, found = asked(lambda path: api_server.kubectl("get", "--raw", path))
    assert version in (kubernetes_schema.__doc__ or ""), "written anew by `python -m tools.kubernetes_schema`"
    committed = {name: getattr(kubernetes_schema, name) for name in found}
    assert committed == {name: table if isinstance(table, dict) else set(table) for name, table in found.items()}


# --- what is empty

EMPTY_POD = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "hostNetwork": False,
    "hostPID": False,
    "hostUsers": True,
    "setHostnameAsFQDN": False,
    "shareProcessNamespace": False,
    "terminationGracePeriodSeconds": 0,
    "priorityClassName": "",
    "nodeSelector": {"empty": ""},
    "securityContext": {"runAsUser": 0, "runAsGroup": 0, "fsGroup": 0, "runAsNonRoot": False},
    "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}],
    "volumes": [
        {"name": "a", "configMap": {"name": "a", "optional": False, "defaultMode": 0}},
        {"name": "b", "hostPath": {"path": "/b", "type": ""}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "c", "readOnly": False}},
    ],
}
EMPTY_CONTAINER = {
    "tty": False,
    "stdin": False,
    "workingDir": "",
    "env": [{"name": "A", "value": ""}],
    "volumeMounts": [{"name": "a", "mountPath": "/a", "readOnly": False, "subPath": ""}],
    "lifecycle": {"preStop": {"sleep": {"seconds": 0}}},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": False,
        "runAsGroup": 0,
        "runAsNonRoot": False,
    },
}


def emptied(name: str) -> dict[str, Any]:
    """A Deployment with everything in it that is false, 0 or empty text."""
    whole = json.loads(json.dumps(desired("Deployment")))
    whole["metadata"] = {"name": name, "labels": {**LABELS, "empty": ""}, "annotations": {"empty": ""}}
    whole["spec"] |= {"replicas": 0, "minReadySeconds": 0, "paused": False, "revisionHistoryLimit": 0}
    template = whole["spec"]["template"]
    template["metadata"] = {"labels": {**LABELS, "empty": ""}, "annotations": {"empty": ""}}
    container = {"name": "vllm", "image": "x", **EMPTY_CONTAINER}
    template["spec"] = {**EMPTY_POD, "containers": [container]}
    return dict(whole)


def empty_paths(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where an object has false, 0 or empty text."""
    if isinstance(node, dict | list):
        members = node.items() if isinstance(node, dict) else enumerate(node)
        for name, inner in members:
            yield from empty_paths(inner, (*path, name))
    elif not node:
        yield path


def at(node: Any, path: tuple[str | int, ...]) -> Any:
    """What is at a path; None where nothing is."""
    for name in path:
        if isinstance(node, dict) and name not in node:
            return None
        node = node[name]
    return node


def test_what_is_empty_is_no_difference_when_it_was_applied_and_is_one_when_somebody_takes_it_out(
    api_server: OwnCluster,
) -> None:
    wanted = emptied("emptied")
    api_server.kubectl("apply", "--server-side", "--filename", "-", input=json.dumps(wanted))
    live = json.loads(api_server.kubectl("get", "deployment", "emptied", "--output", "json"))
    assert holds(live, wanted)
    kept = [path for path in empty_paths(wanted) if at(live, path) is not None]
    names = {path[-1] for path in kept}
    assert {"automountServiceAccountToken", "fsGroup", "runAsGroup", "allowPrivilegeEscalation", "replicas"} <= names
    missed = []
    for path in kept:
        pointer = "".join(f"/{str(name).replace('/', '~1')}" for name in path)
        change = json.dumps([{"op": "remove", "path": pointer}])
        arguments = ["--type", "json", "--dry-run=server", "--output", "json", "--patch", change]
        changed = json.loads(api_server.kubectl("patch", "deployment", "emptied", *arguments))
        if at(changed, path) != at(wanted, path) and holds(changed, wanted):
            missed.append(pointer)
    assert missed == []
    api_server.kubectl("delete", "deployment", "emptied", "--wait=false")
