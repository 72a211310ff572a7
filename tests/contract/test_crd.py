"""The resource on a real API server: what it takes, what it refuses and in which words."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.cluster import OwnCluster
    from tests.support.namespace import Namespace

pytestmark = pytest.mark.api_server

REPOSITORY = Path(__file__).parent.parent.parent
SAMPLES = sorted((REPOSITORY / "manifests" / "samples").glob("*.yaml"))
SOURCE = {"source": "org/tiny"}


@pytest.fixture(scope="module")
def team(with_crd: OwnCluster) -> Namespace:
    """One namespace for all: nothing is stored."""
    from tests.support.namespace import Namespace  # noqa: PLC0415 # pytest imports conftest its own way

    return Namespace(with_crd, "default")


def refusal(team: Namespace, **spec: Any) -> str:
    """What the API server says of a spec; nothing where it takes it."""
    done = subprocess.run(
        [str(team.cluster.binaries / "kubectl"), "create", "--dry-run=server", "--filename", "-", "--output", "json"],
        input=json.dumps(team.document("case", **spec)),
        env=team.cluster.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0 or "is invalid" in done.stderr or "strict decoding" in done.stderr, done.stderr
    return "" if done.returncode == 0 else done.stderr


COUNT = "spec.accelerator.count must equal spec.parallelism.tensor x spec.parallelism.pipeline (or be 0"
LIMITS = "spec.resources.limits must not name the accelerator"
REQUESTS = "spec.resources.requests must not name the accelerator"
GPU = {"nvidia.com/gpu": 1}

CONSTRAINTS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"parallelism": {"tensor": 2, "pipeline": 2}, "accelerator": {"count": 4}}, {"accelerator": {"count": 2}}, COUNT),
    ({"accelerator": {"count": 0}}, {"parallelism": {"tensor": 2}, "accelerator": {"count": 1}}, COUNT),
    ({"resources": {"limits": {"cpu": 1}}}, {"resources": {"limits": GPU}}, LIMITS),
    ({"resources": {"requests": {"cpu": "500m"}}}, {"resources": {"requests": GPU}}, REQUESTS),
    (
        {"accelerator": {"resource": "amd.com/gpu"}, "resources": {"limits": GPU}},
        {"accelerator": {"resource": "amd.com/gpu"}, "resources": {"limits": {"amd.com/gpu": 1}}},
        LIMITS,
    ),
    ({"replicas": 0}, {"replicas": -1}, "spec.replicas: Invalid value: -1: spec.replicas in body should be greater"),
    ({"replicas": 1000}, {"replicas": 1001}, "spec.replicas in body should be less than or equal to 1000"),
    ({"model": {**SOURCE, "revision": "main"}}, {"model": {**SOURCE, "revision": "-x"}}, "spec.model.revision"),
    ({"model": {"source": "/models/x"}}, {"model": {"source": "--host"}}, "spec.model.source"),
    ({"model": SOURCE}, {"model": {}}, "spec.model.source: Required value"),
    ({"model": {**SOURCE, "servedNames": ["a"]}}, {"model": {**SOURCE, "servedNames": []}}, "spec.model.servedNames"),
    (
        {"model": {**SOURCE, "servedNames": ["a", "b"]}},
        {"model": {**SOURCE, "servedNames": ["a", "a"]}},
        "spec.model.servedNames[1]: Duplicate value",
    ),
    ({"engine": {"port": 65535}}, {"engine": {"port": 0}}, "spec.engine.port"),
    ({"engine": {"maxModelLen": "32k"}}, {"engine": {"maxModelLen": "32kb"}}, "spec.engine.maxModelLen"),
    ({"engine": {"maxModelLen": 4096}}, {"engine": {"maxModelLen": 0}}, "spec.engine.maxModelLen"),
    ({"engine": {"maxModelLen": "auto"}}, {"engine": {"maxModelLen": 1.5}}, "spec.engine.maxModelLen"),
    (
        {"engine": {"maxNumBatchedTokens": 1}},
        {"engine": {"maxNumBatchedTokens": 0}},
        "spec.engine.maxNumBatchedTokens",
    ),
    (
        {"engine": {"gpuMemoryUtilization": 1}},
        {"engine": {"gpuMemoryUtilization": 0}},
        "spec.engine.gpuMemoryUtilization in body should be greater than 0",
    ),
    (
        {"engine": {"gpuMemoryUtilization": 0.5}},
        {"engine": {"gpuMemoryUtilization": 1.01}},
        "spec.engine.gpuMemoryUtilization",
    ),
    ({"engine": {"cpuOffloadGB": 0.5}}, {"engine": {"cpuOffloadGB": -1}}, "spec.engine.cpuOffloadGB"),
    ({"engine": {"blockSize": 16}}, {"engine": {"blockSize": 0}}, "spec.engine.blockSize"),
    ({"engine": {"image": "a/b:1"}}, {"engine": {"image": "a b"}}, "spec.engine.image"),
    ({"engine": {"debug": True}}, {"engine": {"debug": "yes"}}, "spec.engine.debug"),
    ({"engine": {"extraArgs": ["--a", "--a"]}}, {"engine": {"extraArgs": [""]}}, "spec.engine.extraArgs[0]"),
    ({"engine": {"env": [{"name": "A"}]}}, {"engine": {"env": [{"name": "1A"}]}}, "spec.engine.env[0].name"),
    (
        {"engine": {"env": [{"name": "A"}, {"name": "B"}]}},
        {"engine": {"env": [{"name": "A"}, {"name": "A"}]}},
        "spec.engine.env[1]: Duplicate value",
    ),
    ({"parallelism": {"tensor": 64}}, {"parallelism": {"tensor": 65}}, "spec.parallelism.tensor"),
    ({"parallelism": {"pipeline": 1}}, {"parallelism": {"pipeline": 0}}, "spec.parallelism.pipeline"),
    (
        {"accelerator": {"resource": "nvidia.com/mig-1g.5gb"}},
        {"accelerator": {"resource": "a/b/c"}},
        "spec.accelerator.resource",
    ),
    (
        {"resources": {"limits": {"memory": "16Gi"}}},
        {"resources": {"limits": {"memory": "16 GB"}}},
        "spec.resources.limits.memory",
    ),
    ({"engine": {}}, {"engine": {"modle": 1}}, 'unknown field "spec.engine.modle"'),
]


@pytest.mark.parametrize(("accepted", "refused", "message"), CONSTRAINTS, ids=[case[2][:60] for case in CONSTRAINTS])
def test_each_constraint_takes_what_is_right_and_refuses_what_is_wrong_in_its_words(
    team: Namespace, accepted: dict[str, Any], refused: dict[str, Any], message: str
) -> None:
    assert refusal(team, **accepted) == ""
    assert message in refusal(team, **refused)


def test_the_resource_is_established_with_its_short_name(team: Namespace) -> None:
    crd = json.loads(team.kubectl("get", "crd", "vllmmodels.vllm.echo-roots.io", "--output", "json"))
    conditions = {condition["type"]: condition["status"] for condition in crd["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions
    assert team.kubectl("get", "vllm") == ""


def test_the_defaults_of_the_server_are_those_of_the_operator(team: Namespace) -> None:
    text = team.kubectl("create", "--dry-run=server", "--filename", "-", "--output", "json", document=team.document())
    assert json.loads(text)["spec"] == {
        "model": {"source": "org/tiny"},
        "engine": {"port": 8000},
        "parallelism": {"tensor": 1, "pipeline": 1},
        "accelerator": {"resource": "nvidia.com/gpu"},
        "replicas": 1,
        "resources": {},
    }


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("", "A model, and the vLLM engines that serve it"),
        (".spec.engine.cpuOffloadGB", "--cpu-offload-gb"),
        (".spec.resources.limits", "What the engine may use at most"),
        (".status.conditions.lastTransitionTime", "When `status` last changed"),
    ],
)
def test_kubectl_explains_every_field(team: Namespace, field: str, said: str) -> None:
    assert said in " ".join(team.kubectl("explain", f"vllmmodel{field}").split())


def test_the_served_schema_describes_all_fields(team: Namespace) -> None:
    served = json.loads(team.kubectl("get", "--raw", "/openapi/v3/apis/vllm.echo-roots.io/v1alpha1"))
    schema = served["components"]["schemas"]["io.echo-roots.vllm.v1alpha1.VLLMModel"]

    def silent(node: dict[str, Any], path: str) -> list[str]:
        found = [] if node.get("description") else [path]
        for name, field in node.get("properties", {}).items():
            found += silent(field, f"{path}.{name}")
        return found + [
            one
            for field in node.get("items", {}).get("properties", {}).items()
            for one in silent(field[1], f"{path}[].{field[0]}")
        ]

    for part in ("spec", "status"):
        assert silent(schema["properties"][part], part) == []


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_sample_is_accepted(team: Namespace, path: Path) -> None:
    team.kubectl("create", "--dry-run=server", "--validate=strict", "--filename", str(path))
    assert all(document["kind"] for document in yaml.safe_load_all(path.read_text(encoding="utf-8")))


def test_there_are_samples() -> None:
    assert SAMPLES
