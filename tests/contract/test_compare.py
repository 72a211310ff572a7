"""What the API server makes of an applied object is no difference, and its schema is the one we compare by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from vllm_operator.planner import compare
from vllm_operator.planner.compare import holds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

LABELS = {"app": "compared"}
PEER = {"podSelector": {"matchLabels": LABELS}}
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
    "Secret": ("v1", {"type": "Opaque", "data": {"key": "YQ=="}}),
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
    ("ServiceAccount", "add", "/imagePullSecrets/-", {"name": "z"}),
    ("NetworkPolicy", "add", "/spec/ingress/-", {}),
    ("NetworkPolicy", "add", "/spec/ingress/0/from/-", PEER),
    ("NetworkPolicy", "add", "/spec/ingress/0/ports/0/endPort", 9000),
    ("NetworkPolicy", "add", "/spec/ingress/2/from", [PEER]),
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


Part = tuple[tuple[str, str], dict[str, Any]]
"""A place in an object, and its schema."""


def described(definitions: dict[str, Any], schema: dict[str, Any], place: tuple[str, str]) -> Iterator[Part]:
    """Every part of an object's schema with its place."""
    if "$ref" in schema:
        schema = {**definitions[schema["$ref"].rpartition("/")[2]], **schema}
    yield place, schema
    if schema.get("type") == "array":
        yield from described(definitions, schema["items"], place)
    for name, inner in schema.get("properties", {}).items():
        if name not in {"status", "managedFields"}:
            yield from described(definitions, inner, (place[1], name))


def difference(place: tuple[str, str], schema: dict[str, Any]) -> str:
    """What our tables say otherwise than the schema; empty where they agree."""
    if schema.get("type") != "array":
        atomic = schema.get("x-kubernetes-map-type") == "atomic"
        return "is atomic" if atomic and not compare.is_atomic_map(place) else ""
    kind = schema.get("x-kubernetes-list-type", "atomic")
    if compare.is_set(place) is not (kind == "set"):
        return f"is {kind}"
    keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
    return "" if compare.list_keys(place) == (keys if kind == "map" else ()) else f"is {kind} by {keys}"


@pytest.mark.parametrize("kind", DESIRED)
def test_our_tables_are_those_of_the_api_servers_schema(api_server: OwnCluster, kind: str) -> None:
    definitions = json.loads(api_server.kubectl("get", "--raw", "/openapi/v2"))["definitions"]
    group = {"v1": "core"}.get(DESIRED[kind][0], DESIRED[kind][0].partition("/")[0].partition(".")[0])
    parts = list(described(definitions, definitions[f"io.k8s.api.{group}.v1.{kind}"], ("", "")))
    assert len(parts) > 10
    differences = {".".join(place): difference(place, schema) for place, schema in parts}
    assert {place: what for place, what in differences.items() if what} == {}
