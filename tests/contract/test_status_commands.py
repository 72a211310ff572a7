"""`kubectl vllm status`, `diagnose` and `wait` on a real API server, whose operator and kubelet are the test."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.plugin import PROGRAM, run, running, said
from tests.support.told_models import crashed, tell
from tests.support.told_models import running as loading
from vllm_operator.api.names import selector_labels

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.namespace import Namespace

pytestmark = pytest.mark.api_server

NAMED = "vllmmodel.vllm.echo-roots.io/qwen"
LOADS = (("Ready", "False", "EnginesStarting", "0 of 1 engines serve"), ("Reconciling", "True", "EnginesStarting", ""))
READY = (("Ready", "True", "AllEnginesServe", "1 of 1 engines serve"), ("Reconciling", "False", "AsDesired", ""))
STALLED = (("Ready", "False", "EnginesFailing", "qwen-1 fails"), ("Stalled", "True", "EnginesFailing", "qwen-1 fails"))


def add_pod(namespace: Namespace, shaped: dict[str, Any]) -> None:
    """Make a pod of the model, and tell what kubelet would tell of it."""
    name = shaped["metadata"]["name"]
    container = {"name": "vllm", "image": "example.com/v", "ports": shaped["spec"]["containers"][0]["ports"]}
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": selector_labels("qwen")},
        "spec": {"nodeName": "node-1", "containers": [container]},
    }
    namespace.kubectl("create", "--filename", "-", document=document)
    kubelets = {"image": "example.com/v", "imageID": "x", "ready": False}
    statuses = [{**kubelets, **one} for one in shaped["status"]["containerStatuses"]]
    patch = json.dumps({"status": {**shaped["status"], "containerStatuses": statuses}})
    namespace.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "--patch", patch)


@pytest.fixture
def broken(quiet: Namespace) -> Namespace:
    """A model whose engine does not get through its start, and which no operator has looked at."""
    quiet.kubectl("create", "serviceaccount", "default")
    quiet.model()
    add_pod(quiet, crashed())
    return quiet


def test_the_story_is_told_where_no_operator_runs(broken: Namespace) -> None:
    story = said(broken, "diagnose", "qwen")
    assert f"no operator has told how qwen in namespace {broken.name} is" in story
    assert "1. lower spec.engine.maxModelLen to 9392" in story
    document = json.loads(said(broken, "diagnose", "qwen", "-o", "json", "--lang", "zh-TW"))
    assert [one["id"] for one in document["diagnosis"]] == ["KvCacheTooSmall"]
    assert "調低到 9392" in document["remedies"][0]["text"]
    _, *words = shlex.split(document["remedies"][0]["command"])
    assert "qwen patched" in broken.cluster.kubectl(*words), "the command is one that works"
    assert broken.get("vllmmodel", "qwen")["spec"]["engine"]["maxModelLen"] == 9392


def test_models_are_listed_as_they_are_told(broken: Namespace) -> None:
    tell(broken, *STALLED, readyReplicas=0)
    assert json.loads(said(broken, "status", "-o", "json"))[0]["stalled"] is True
    assert "qwen  False (stalled)  EnginesFailing  0/1" in said(broken, "status")
    one = said(broken, "status", "qwen")
    assert "qwen-1  Failing" in one
    assert "note:" not in one
    missing = run(broken, "status", "nobody")
    assert (missing.returncode, missing.stderr) == (1, "error: vllmmodel.vllm.echo-roots.io/nobody not found\n")


def test_a_user_who_may_read_models_alone_is_told_what_is_missing(broken: Namespace, tmp_path: Path) -> None:
    tell(broken, *STALLED, readyReplicas=0)
    broken.kubectl("create", "role", "models", "--verb=get,list", "--resource=vllmmodels.vllm.echo-roots.io")
    broken.kubectl("create", "rolebinding", "models", "--role=models", "--user=dev")
    environment = {**broken.cluster.env, "KUBECONFIG": str(_impersonating(broken.cluster.kubeconfig, tmp_path))}
    command = [str(PROGRAM), "diagnose", "qwen", "--namespace", broken.name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for missing in ("the Deployment: ", "the pods: ", "the Events of the model: "):
        assert f"  {missing}Error from server (Forbidden)" in done.stdout
    assert "stalled: somebody has to act" in done.stdout


def _impersonating(kubeconfig: Path, folder: Path) -> Path:
    """The same kubeconfig, by which its user acts as another one."""
    content = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    for user in content["users"]:
        user["user"]["as"] = "dev"
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_a_watch_follows_a_model_until_it_is_deleted(quiet: Namespace) -> None:
    quiet.model()
    with running(quiet, "status", "qwen", "--watch", "-o", "json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ready"] == "Unknown"
        tell(quiet, *READY)
        assert json.loads(process.stdout.readline())["ready"] == "True"
        quiet.kubectl("delete", "vllmmodel", "qwen")
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, f"error: {NAMED} not found\n")


def test_ctrl_c_ends_what_watches_and_what_waits(quiet: Namespace) -> None:
    quiet.model()
    tell(quiet, *LOADS)
    for words, code in ((("status", "--watch"), 0), (("wait", "qwen"), 130)):
        with running(quiet, *words) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (code, "")


def test_waiting_ends_with_a_code_for_each_end(quiet: Namespace) -> None:
    quiet.model()
    tell(quiet, *LOADS)
    late = run(quiet, "wait", "qwen", "--timeout", "1s")
    assert late.returncode == 3
    assert f"error: timed out after 1 s: waiting for {NAMED} to be ready: EnginesStarting: 0 of 1" in late.stderr
    tell(quiet, *STALLED)
    stalled = run(quiet, "wait", "qwen")
    assert stalled.returncode == 4
    assert "before somebody acts: EnginesFailing: qwen-1 fails" in stalled.stderr
    with running(quiet, "wait", "qwen", "--for", "deleted") as process:
        assert process.stdout is not None
        assert "nobody has asked for it yet" in process.stdout.readline()
        tell(quiet, *READY)
        assert said(quiet, "wait", "qwen") == f"{NAMED} is ready: 1 of 1 engines serve\n"
        quiet.kubectl("delete", "vllmmodel", "qwen")
        assert process.wait(timeout=60) == 0
    assert run(quiet, "wait", "qwen").returncode == 5


def test_a_pod_that_runs_nowhere_is_asked_in_vain_and_told_so(broken: Namespace) -> None:
    add_pod(broken, loading("qwen-2"))
    found = json.loads(said(broken, "top", "qwen", "-o", "json"))
    notes = {one["pod"]: one["note"] for one in found}
    assert notes["qwen-1"] == "the container does not run"
    assert "node-1" in notes["qwen-2"]
