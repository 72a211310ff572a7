"""`kubectl vllm report`: what is in it, and that no planted secret is, wherever it was planted."""

from __future__ import annotations

import base64
import io
import json
import stat
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.support import told_models as told
from tests.support.fake_kubectl import FakeKubectl, forbidden
from vllm_operator.cli.main import app
from vllm_operator.cli.report.gather import CHILDREN

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

MODEL = "vllmmodels.vllm.echo-roots.io"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKplanted16\n-----END RSA PRIVATE KEY-----"
PLANTED = {f"planted{number}" for number in range(1, 19)}
"""Part of each secret; none may be in a report."""


def encoded(text: str) -> str:
    """As a Secret holds it."""
    return base64.b64encode(text.encode()).decode()


def planted_model() -> dict[str, Any]:
    """A model whose user has put secrets everywhere."""
    spec = {
        "model": {
            "source": "https://user:planted1@hub.example.com/model",
            "tokenSecret": {"name": "hf", "key": "token"},
        },
        "engine": {
            "env": [
                {"name": "HF_TOKEN", "value": "hf_planted2abcdefgh"},
                {"name": "OF_OUR_OWN_INVENTION", "value": "planted3 with words"},
                {"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"},
            ],
            "extraArgs": ["--api-key", "planted4", "--auth-token=planted5", "--tokenizer-mode", "slow"],
            "loaderExtraConfig": {"aws_secret_access_key": "planted6", "concurrency": 16},
        },
    }
    copy = json.dumps({"spec": {"engine": {"env": [{"name": "X", "value": "planted7"}]}}})
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": copy, "note": "Bearer planted8abcdef"}
    metadata = {"name": "qwen", "namespace": "team", "uid": "u-1", "annotations": annotations, "managedFields": [copy]}
    return {"apiVersion": "vllm.echo-roots.io/v1alpha1", "kind": "VLLMModel", "metadata": metadata, "spec": spec}


def child(kind: str, **content: Any) -> dict[str, Any]:
    """An object of the model."""
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": "qwen", "namespace": "team", "uid": f"u-{kind}"},
        **content,
    }


def shows(fake: FakeKubectl) -> None:
    """A cluster full of secrets."""
    fake.says("version", to={"clientVersion": {"gitVersion": "v1.37.2"}})
    fake.says("leases", to={"items": [child("Lease", spec={"holderIdentity": "vllm-operator-1"})]})
    fake.says("customresourcedefinition", to=child("CustomResourceDefinition", status={"storedVersions": ["v1alpha1"]}))
    for kind in CHILDREN:
        fake.says(kind, to={"items": []})
    data = {
        "VLLM_API_KEY": encoded("planted9key"),
        "uri": encoded("http://qwen.team:8000"),
        "token": encoded("planted10"),
    }
    fake.says("secrets", to={"items": [child("Secret", data=data, stringData={"password": "planted11"})]})
    fake.says("configmaps", to={"items": [child("ConfigMap", data={"key.pem": PEM, "VLLM_MODEL_NAME": "qwen"})]})
    revision = {"spec": planted_model()["spec"], "args": ["--hf-token", "planted12x"]}
    fake.says("controllerrevisions", to={"items": [child("ControllerRevision", data=revision)]})
    pod = told.serving()
    pod["spec"]["containers"][0]["env"] = [{"name": "DATABASE", "value": "postgres://app:planted13@db/x"}]
    fake.says("pods", to={"items": [pod]})
    message = "the engine said planted3 with words, and planted9key"
    about = {"uid": "u-1"}
    events = [
        {"message": message, "involvedObject": about},
        {"message": "planted18", "involvedObject": {"uid": "other"}},
    ]
    fake.says("events", to={"items": events})
    gate = {"verdict": "serving", "sentence": "makes progress", "excerpt": "Authorization: Bearer planted14abc"}
    fake.says("exec", to=json.dumps(gate))
    operator = {
        "metadata": {"name": "vllm-operator-1", "uid": "o-1"},
        "spec": {"containers": [{"env": [{"name": "VLLM_OPERATOR_PROXY_PASSWORD", "value": "planted15"}]}]},
        "status": {"containerStatuses": [{"restartCount": 1}]},
    }
    fake.says("app.kubernetes.io/part-of=vllm-operator,app.kubernetes.io/managed-by!=vllm-operator", to={"items": []})
    fake.says("pods", "managed-by!=vllm-operator", to={"items": [operator]})
    fake.says("logs", to="applied Deployment qwen\napi_key=planted17x and planted15\n")
    fake.says(MODEL, to=planted_model())


def run(*words: str) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["report", *words])


def content(path: Path) -> dict[str, str]:
    """The files of a report by their paths below its folder."""
    with tarfile.open(path) as archive:
        members = [(member, archive.extractfile(member)) for member in archive.getmembers()]
        return {member.name.partition("/")[2]: file.read().decode() for member, file in members if file is not None}


@pytest.fixture
def full(fake: FakeKubectl) -> FakeKubectl:
    """A kubectl that shows a cluster full of secrets."""
    shows(fake)
    return fake


def test_no_planted_secret_is_in_a_report(full: FakeKubectl, tmp_path: Path) -> None:
    target = tmp_path / "found.tar.gz"
    done = run("qwen", "-n", "team", "--file", str(target))
    assert done.exit_code == 0, done.output
    files = content(target)
    whole = json.dumps(files)
    assert {secret for secret in PLANTED if secret in whole} == set()
    for secret in ("planted9key", "planted10", "planted11"):
        assert encoded(secret) not in whole
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert full.asked("exec")


@pytest.mark.usefixtures("full")
def test_what_helps_is_in_it(tmp_path: Path) -> None:
    target = tmp_path / "found.tar.gz"
    run("qwen", "-n", "team", "--file", str(target))
    files = content(target)
    folder = "models/team/qwen"
    pod = told.serving()["metadata"]["name"]
    assert set(files) >= {
        "versions.yaml",
        f"{folder}/model.yaml",
        f"{folder}/children/secrets.yaml",
        f"{folder}/children/controllerrevisions.yaml",
        f"{folder}/pods.yaml",
        f"{folder}/events.yaml",
        f"{folder}/gates/{pod}.json",
        "operator/pods.yaml",
        "operator/leases.yaml",
        "operator/definition.yaml",
        "operator/logs/vllm-operator-1.log",
        "operator/logs/vllm-operator-1-previous.log",
    }
    model = yaml.safe_load(files[f"{folder}/model.yaml"])
    env = {one["name"]: one["value"] for one in model["spec"]["engine"]["env"]}
    assert env == {"HF_TOKEN": "***", "OF_OUR_OWN_INVENTION": "***", "VLLM_LOGGING_LEVEL": "DEBUG"}
    assert model["spec"]["engine"]["extraArgs"] == ["--api-key", "***", "--auth-token=***", "--tokenizer-mode", "slow"]
    assert model["spec"]["engine"]["loaderExtraConfig"] == {"aws_secret_access_key": "***", "concurrency": 16}
    assert model["spec"]["model"]["tokenSecret"] == {"name": "hf", "key": "token"}
    (secret,) = yaml.safe_load_all(files[f"{folder}/children/secrets.yaml"])
    assert secret["data"] == {"VLLM_API_KEY": "***", "uri": "***", "token": "***"}
    (event,) = yaml.safe_load_all(files[f"{folder}/events.yaml"])
    assert event["message"] == "the engine said ***, and ***"
    assert json.loads(files[f"{folder}/gates/{pod}.json"])["sentence"] == "makes progress"
    assert "applied Deployment qwen" in files["operator/logs/vllm-operator-1.log"]


def test_what_cannot_be_read_is_told_and_the_rest_is_there(full: FakeKubectl, tmp_path: Path) -> None:
    full.says("secrets", to=forbidden("secrets"))
    full.says("exec", to=Exception("error: unable to upgrade connection: Bearer planted1xyz"))
    full.says("logs", to=forbidden("pods/log", "get"))
    target = tmp_path / "found.tar.gz"
    done = run("qwen", "-n", "team", "-f", str(target))
    assert done.exit_code == 0
    assert "note: not read: models/team/qwen: secrets: " in done.stderr
    assert "planted" not in done.output
    files = content(target)
    assert "forbidden" in yaml.safe_load(files["not-read.yaml"])["models/team/qwen: secrets"]
    assert "planted1xyz" not in files["not-read.yaml"]
    assert "models/team/qwen/pods.yaml" in files


def test_all_models_are_in_a_report_of_all_namespaces(
    full: FakeKubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"metadata": {"name": "llama", "namespace": "other", "uid": "u-2"}}
    full.says(MODEL, "--all-namespaces", to={"items": [planted_model(), other]})
    monkeypatch.chdir(tmp_path)
    done = run("--all-namespaces")
    assert done.exit_code == 0, done.output
    (target,) = tmp_path.glob("vllm-report-all-*.tar.gz")
    assert {path.split("/")[1] for path in content(target) if path.startswith("models/")} == {"team", "other"}
    assert full.asked("--namespace", "other")


def test_a_file_that_is_there_stays_as_it_is(full: FakeKubectl, tmp_path: Path) -> None:
    target = tmp_path / "found.tar.gz"
    target.write_text("of somebody", encoding="utf-8")
    done = run("qwen", "-n", "team", "--file", str(target))
    assert (done.exit_code, target.read_text(encoding="utf-8")) == (1, "of somebody")
    assert "File exists" in done.stderr
    assert [path.name for path in tmp_path.glob("*.tar.gz*")] == ["found.tar.gz"], "nothing half-written stays"
    assert full.asked("version")


def test_a_model_that_is_not_there_is_an_error_and_no_file(fake: FakeKubectl, tmp_path: Path) -> None:
    fake.says(MODEL, to="")
    done = run("gone", "-n", "team", "--file", str(tmp_path / "found.tar.gz"))
    assert (done.exit_code, done.stderr) == (1, "error: vllmmodel.vllm.echo-roots.io/gone not found\n")
    assert not (tmp_path / "found.tar.gz").exists()


@pytest.mark.parametrize("words", [[], ["qwen", "--all-namespaces"]])
def test_one_model_or_all_have_to_be_asked_for(fake: FakeKubectl, words: list[str]) -> None:
    assert run(*words).exit_code == 2
    assert fake.asked() == []


def test_an_archive_is_read_by_others_too(full: FakeKubectl, tmp_path: Path) -> None:
    target = tmp_path / "found.tar.gz"
    run("qwen", "-n", "team", "--file", str(target))
    with tarfile.open(fileobj=io.BytesIO(target.read_bytes()), mode="r:gz") as archive:
        assert all(member.name.startswith("found/") and member.isreg() for member in archive.getmembers())
    assert full.asked("get")
