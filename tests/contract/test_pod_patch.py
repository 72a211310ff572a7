"""Our strategic merge patch of a pod template is the real API server's."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_operator.render.patch import PatchError, strategic_merge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

COLLECTION = "/apis/apps/v1/namespaces/default/deployments"
LABELS = {"app": "patched"}
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": LABELS, "annotations": {"a": "1"}, "finalizers": [f"example.com/{name}" for name in "abc"]},
    "spec": {
        "containers": [
            {
                "name": "vllm",
                "image": "vllm:1",
                "command": ["vllm", "serve"],
                "env": [{"name": name, "value": name} for name in "ABC"],
                "envFrom": [{"configMapRef": {"name": "a"}}],
                "ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                "volumeMounts": [{"name": "home", "mountPath": "/home"}, {"name": "all", "mountPath": "/all"}],
                "readinessProbe": {"exec": {"command": ["true"]}},
            },
            {"name": "mesh", "image": "mesh:1"},
            {"name": "logs", "image": "logs:1"},
        ],
        "initContainers": [{"name": "fetch", "image": "fetch:1"}],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "nodeSelector": {"gpu": "a100", "zone": "1"},
        "securityContext": {"runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
        "imagePullSecrets": [{"name": "a"}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a", "b"]}],
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway"} for key in ("zone", "host")
        ],
        "volumes": [
            {"name": "home", "emptyDir": {}},
            {"name": "all", "projected": {"sources": [{"configMap": {"name": "a"}}]}},
        ],
    },
}
CLAIM = {"name": "home", "persistentVolumeClaim": {"claimName": "a"}}


def engine(**patch: Any) -> dict[str, Any]:
    """A patch of the engine's container."""
    return {"spec": {"containers": [{"name": "vllm", **patch}]}}


ACCEPTED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "maps": {"metadata": {"annotations": {"a": None, "b": "2"}, "labels": {"more": "x"}}},
    "new and changed containers": {
        "spec": {"containers": [{"name": "new", "image": "n"}, {"name": "mesh", "image": "m"}]}
    },
    "order of the patch": {"spec": {"containers": [{"name": "logs"}, {"name": "new", "image": "n"}, {"name": "vllm"}]}},
    "deleted container": {"spec": {"containers": [{"name": "mesh", "$patch": "delete"}]}},
    "deleted container that is not there": {"spec": {"containers": [{"name": "x", "$patch": "delete"}]}},
    "replaced containers": {"spec": {"containers": [{"$patch": "replace"}, {"name": "new", "image": "n"}]}},
    "no init containers": {"spec": {"initContainers": None}},
    "deleted init container": {"spec": {"initContainers": [{"name": "fetch", "$patch": "delete"}]}},
    "variables": engine(
        env=[{"name": "D", "value": "4"}, {"name": "C", "value": None}, {"name": "A", "$patch": "delete"}]
    ),
    "replaced variables": engine(env=[{"$patch": "replace"}, {"name": "D", "value": "4"}]),
    "variable from a Secret": engine(
        env=[{"name": "A", "value": None, "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]
    ),
    "command": engine(command=["sh"], args=["-c"], envFrom=[{"secretRef": {"name": "b"}}]),
    "no command": engine(command=None, envFrom=None),
    "words taken from a command": engine(**{"$deleteFromPrimitiveList/command": ["serve"]}),
    "ports": engine(ports=[{"containerPort": 53, "name": "dns"}, {"containerPort": 80}]),
    "deleted ports": engine(ports=[{"containerPort": 53, "$patch": "delete"}]),
    "new ports with one number": {
        "spec": {
            "containers": [
                {"name": "mesh", "ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "UDP", "name": "u"}]}
            ]
        }
    },
    "mounts": engine(volumeMounts=[{"mountPath": "/home", "readOnly": True}, {"mountPath": "/new", "name": "all"}]),
    "resources": engine(resources={"limits": {"cpu": "2000m", "memory": None}, "requests": {"cpu": 1}}),
    "another probe": engine(readinessProbe={"exec": None, "tcpSocket": {"port": "http"}}),
    "replaced probe": engine(readinessProbe={"$patch": "replace", "tcpSocket": {"port": 80}}),
    "deleted security context": {"spec": {"securityContext": {"$patch": "delete"}}},
    "deleted field that is not there": {"spec": {"affinity": {"$patch": "delete"}, "dnsConfig": None}},
    "nulls in new maps": {
        "spec": {"affinity": {"podAffinity": None}, "dnsConfig": {"searches": ["a"], "options": None}}
    },
    "tolerations": {"spec": {"tolerations": [{"operator": "Exists"}]}},
    "spread": {
        "spec": {
            "topologySpreadConstraints": [
                {"topologyKey": "host", "maxSkew": 2},
                {"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"},
            ]
        }
    },
    "aliases": {
        "spec": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["c"]}, {"ip": "10.0.0.2", "hostnames": ["d"]}]}
    },
    "pull secrets": {"spec": {"imagePullSecrets": [{"name": "b"}]}},
    "kept keys of a volume": {"spec": {"volumes": [{**CLAIM, "$retainKeys": ["name", "persistentVolumeClaim"]}]}},
    "another source by null": {"spec": {"volumes": [{**CLAIM, "emptyDir": None}]}},
    "sources": {"spec": {"volumes": [{"name": "all", "projected": {"sources": [{"secret": {"name": "b"}}]}}]}},
    "order": {"spec": {"$setElementOrder/containers": [{"name": "logs"}, {"name": "gone"}, {"name": "vllm"}]}},
    "order with a patch": {
        "spec": {
            "$setElementOrder/containers": [{"name": "mesh"}, {"name": "new"}, {"name": "vllm"}],
            "containers": [{"name": "new", "image": "n"}, {"name": "logs", "$patch": "delete"}],
        }
    },
    "order of a list that is not there": {"spec": {"$setElementOrder/ephemeralContainers": [{"name": "a"}]}},
    "finalizers": {"metadata": {"finalizers": ["example.com/d", "example.com/b"]}},
    "fewer finalizers": {
        "metadata": {
            "$deleteFromPrimitiveList/finalizers": ["example.com/b", "example.com/z"],
            "$setElementOrder/finalizers": ["example.com/c", "example.com/d", "example.com/a"],
            "finalizers": ["example.com/d"],
        }
    },
    "scalars": {"spec": {"terminationGracePeriodSeconds": 5, "hostNetwork": False, "priorityClassName": ""}},
}
REFUSED: dict[str, dict[str, Any]] = {
    "two sources": {"spec": {"volumes": [CLAIM]}},
    "no containers": {"spec": {"containers": None}},
    "other labels": {"metadata": {"labels": {"$patch": "replace", "app": "other"}}},
    "new container without image": {"spec": {"containers": [{"name": "new"}]}},
    "field of another type": engine(image=5),
}
WRONG: dict[str, dict[str, Any]] = {
    "no key": {"spec": {"containers": [{"image": "x"}]}},
    "no key to delete by": engine(env=[{"$patch": "delete"}]),
    "no item": {"spec": {"containers": ["x"]}},
    "map for a list": {"spec": {"containers": {}}},
    "word for a map": {"spec": {"nodeSelector": "x"}},
    "unknown directive": {"spec": {"nodeSelector": {"$patch": "merge"}}},
    "unknown directive in a list": {"spec": {"containers": [{"name": "vllm", "$patch": "merge"}]}},
    "order that leaves something out": {
        "spec": {"$setElementOrder/containers": [{"name": "vllm"}], "containers": [{"name": "mesh", "image": "x"}]}
    },
    "kept keys that are not all": {"spec": {"volumes": [{**CLAIM, "$retainKeys": ["name"]}]}},
    "kept keys that are no list": {"spec": {"volumes": [{**CLAIM, "$retainKeys": "name"}]}},
}


class Api:
    """One connection to the API server, on which a Deployment is changed in dry runs."""

    def __init__(self, cluster: OwnCluster, folder: Path) -> None:
        config = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
        server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        pair = folder / "client.pem"
        pair.write_bytes(b"\n".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))
        tls = ssl.create_default_context(cadata=base64.b64decode(server["certificate-authority-data"]).decode())
        tls.load_cert_chain(pair)
        self.connection = http.client.HTTPSConnection(urlsplit(server["server"]).netloc, context=tls)
        self.live: dict[str, Any] = {}

    def call(
        self, method: str, path: str, body: object = None, kind: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        """One request: the answer's code, and its document."""
        self.connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": kind})
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())

    def theirs(self, patch: dict[str, Any]) -> tuple[int, Any]:
        """The template that the API server makes with a patch."""
        body = {"spec": {"template": patch}}
        path = f"{COLLECTION}/patched?dryRun=All"
        code, found = self.call("PATCH", path, body, "application/strategic-merge-patch+json")
        return code, found.get("spec", {}).get("template")

    def ours(self, patch: dict[str, Any]) -> tuple[int, Any]:
        """The template that we make with it, with the API server's defaults."""
        template = strategic_merge(self.live["spec"]["template"], patch)
        metadata = {"name": "patched", "namespace": "default"}
        body = {**self.live, "metadata": metadata, "spec": {**self.live["spec"], "template": template}}
        code, found = self.call("PUT", f"{COLLECTION}/patched?dryRun=All", body)
        return code, found.get("spec", {}).get("template")


@pytest.fixture(scope="module")
def api(api_server: OwnCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API server that has the Deployment."""
    found = Api(api_server, tmp_path_factory.mktemp("api"))
    spec = {"replicas": 0, "selector": {"matchLabels": LABELS}, "template": TEMPLATE}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "patched"}, "spec": spec}
    code, found.live = found.call("POST", COLLECTION, body)
    assert code == http.HTTPStatus.CREATED, found.live
    yield found
    found.call("DELETE", f"{COLLECTION}/patched")
    found.connection.close()


@pytest.mark.parametrize("patch", ACCEPTED.values(), ids=ACCEPTED)
def test_we_patch_as_the_api_server_does(api: Api, patch: dict[str, Any]) -> None:
    code, template = api.theirs(patch)
    assert code == http.HTTPStatus.OK
    assert api.ours(patch) == (code, template)


@pytest.mark.parametrize("patch", REFUSED.values(), ids=REFUSED)
def test_what_makes_a_wrong_template_is_left_to_the_api_server(api: Api, patch: dict[str, Any]) -> None:
    assert api.theirs(patch)[0] >= http.HTTPStatus.BAD_REQUEST
    assert api.ours(patch)[0] >= http.HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize("patch", WRONG.values(), ids=WRONG)
def test_what_the_api_server_takes_for_no_patch_we_refuse(api: Api, patch: dict[str, Any]) -> None:
    assert api.theirs(patch)[0] >= http.HTTPStatus.BAD_REQUEST
    with pytest.raises(PatchError):
        api.ours(patch)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Maps with some of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def items(
    key: str, names: list[Any], body: st.SearchStrategy[dict[str, Any]]
) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Patches of a list's items, each with another key, some of which delete."""
    item = st.builds(
        lambda name, fields: {key: name, **fields}, st.sampled_from(names), body | st.just({"$patch": "delete"})
    )
    return st.lists(item, max_size=4, unique_by=lambda found: found[key])


words = st.sampled_from(["a", "b", "c"])
variables = items("name", ["A", "B", "C", "D", "E"], optional(value=words | st.none()))
ports = items("containerPort", [53, 80, 81], optional(name=words))
mounts = items("mountPath", ["/home", "/all", "/new"], st.builds(lambda: {"name": "home"}))
changes = optional(
    image=words,
    command=st.lists(words, max_size=2) | st.none(),
    env=variables | variables.map(lambda found: [{"$patch": "replace"}, *found]) | st.none(),
    ports=ports,
    volumeMounts=mounts,
    resources=st.just({"limits": {"cpu": None}}) | st.just({"limits": {"memory": "2048Mi"}}),
)
containers = st.builds(
    lambda known, new: known + new,
    items("name", ["vllm", "mesh", "logs"], changes),
    st.just([]) | st.just([{"name": "new", "image": "n"}]),
).flatmap(st.permutations)
orders = st.permutations([{"name": name} for name in ("vllm", "mesh", "logs", "new")])
labels = st.sampled_from(["gpu", "zone", "disk"])
selectors = st.dictionaries(labels, words | st.none())
replaced_selectors = st.dictionaries(labels, words).map(lambda found: {"$patch": "replace", **found})
finalizers = st.lists(st.sampled_from([f"example.com/{name}" for name in "abcd"]), unique=True, min_size=1)
patches = optional(
    metadata=optional(
        annotations=st.dictionaries(words, words | st.none()),
        finalizers=finalizers,
        **{"$setElementOrder/finalizers": finalizers},
    ),
    spec=optional(
        containers=containers,
        nodeSelector=selectors | replaced_selectors | st.just({"$patch": "delete"}),
        tolerations=st.just([{"operator": "Exists"}]) | st.just([]) | st.none(),
        volumes=st.sampled_from(
            [[ACCEPTED["kept keys of a volume"]["spec"]["volumes"][0]], [{"name": "new", "emptyDir": {}}]]
        ),
        imagePullSecrets=items("name", ["a", "b", "c"], st.just({})),
        **{"$setElementOrder/containers": orders},
    ),
)


@given(patches)
@settings(max_examples=250, derandomize=True, deadline=None)
def test_generated_patches_have_the_api_servers_outcome(api: Api, patch: dict[str, Any]) -> None:
    code, template = api.theirs(patch)
    try:
        outcome = api.ours(patch)
    except PatchError:
        assert code >= http.HTTPStatus.BAD_REQUEST
    else:
        assert outcome == (code, template)
