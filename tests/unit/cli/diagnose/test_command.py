"""`kubectl vllm diagnose`, with a kubectl that answers what it is told to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from typer.testing import CliRunner

from tests.support import told_models as told
from tests.support.fake_kubectl import FakeKubectl, forbidden
from tests.support.resources import pod
from vllm_operator.cli.main import app

if TYPE_CHECKING:
    from typing import Any

    from typer.testing import Result

BOTH, PODS, EVENTS, EXEC = ("deployments.apps/qwen", "pods", "events", "exec")


@pytest.fixture
def broken(fake: FakeKubectl) -> FakeKubectl:
    """A model whose engine does not get through its start."""
    shows(fake, told.model(told.STALLED), told.crashed())
    fake.says(EVENTS, to={"items": [{"type": "Warning", "reason": "EnginesFailing", "message": "qwen-1 fails"}]})
    return fake


def shows(fake: FakeKubectl, model: dict[str, Any], *pods: dict[str, Any]) -> None:
    """What there is to see."""
    fake.says(BOTH, to={"items": [{"kind": "VLLMModel", **model}, told.deployment()]})
    fake.says(PODS, to={"items": pods})


def run(*words: str) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["diagnose", "qwen", *words])


def test_it_tells_the_whole_story(broken: FakeKubectl) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    headings = [line for line in done.output.splitlines() if line and not line.startswith(" ")]
    assert headings == [
        "qwen in namespace team is stalled: somebody has to act",
        "EnginesFailing: 0 of 1 engines serve; qwen-1 fails",
        *("Conditions", "Engines", "Recent Events", "What to do"),
    ]
    assert "  1. lower spec.engine.maxModelLen to 9392, or raise" in done.output
    assert not broken.asked(EXEC), "a container that does not run has nobody to ask"


def test_it_tells_it_in_chinese(broken: FakeKubectl) -> None:
    done = run("--lang", "zh-TW")
    assert "將 spec.engine.maxModelLen 調低到 9392" in done.output
    assert run("--lang", "klingon").exit_code == 2
    assert broken.asked(BOTH)


def test_the_same_is_there_for_programs(broken: FakeKubectl) -> None:
    found = json.loads(run("-o", "json").output)
    assert yaml.safe_load(run("-o", "yaml").output) == found
    assert found["remedies"][0]["field"] == "spec.engine.maxModelLen"
    assert found["diagnosis"][0]["id"] == "KvCacheTooSmall"
    assert found["conditions"][0]["type"] == "Ready"
    assert "調低" in run("-o", "yaml", "--lang", "zh-TW").output
    assert broken.asked(PODS)


def test_kubelets_events_explain_a_pod_whose_containers_do_not_run(fake: FakeKubectl) -> None:
    waits = pod("qwen-1", container={"state": {"waiting": {"reason": "ContainerCreating"}}})
    shows(fake, told.model(told.LOADING), {**waits, "spec": {"nodeName": "node-1"}})
    mount = 'MountVolume.SetUp failed for volume "keys": secret "keys" not found'
    event = {"reason": "FailedMount", "type": "Warning", "message": mount, "lastTimestamp": "2026-11-22T11:00:05Z"}
    fake.says(EVENTS, to={"items": []})
    fake.says(EVENTS, "involvedObject.uid=uid-of-qwen-1", to={"items": [event]})
    assert 'secret "keys" not found' in run().output


def test_who_may_read_little_is_told_that_and_why_it_is_little(broken: FakeKubectl) -> None:
    broken.says(PODS, to=forbidden("pods"))
    broken.says(EVENTS, to=forbidden("events"))
    done = run()
    assert done.exit_code == 0
    gaps = done.output.partition("What is not known\n")[2].splitlines()
    assert gaps[0].startswith("  the pods: Error from server (Forbidden)")
    assert gaps[1].startswith("  the Events of the model: Error from server (Forbidden)")


def test_a_claim_without_a_volume_explains_a_pod_that_no_scheduler_has_placed(fake: FakeKubectl) -> None:
    unseen = pod("qwen-1", containerStatuses=[])
    unseen["metadata"]["creationTimestamp"] = told.SINCE
    shows(fake, told.model(told.LOADING), unseen)
    fake.says(EVENTS, to={"items": []})
    fake.says("persistentvolumeclaims", to={"items": [{"metadata": {"name": "qwen-cache"}, "status": {}}]})
    assert "claim qwen-cache has no volume" in run().output


def test_an_engine_that_serves_is_asked_what_slows_it_down(fake: FakeKubectl) -> None:
    shows(fake, told.model(told.READY, readyReplicas=1), told.serving())
    fake.says(EVENTS, to={"items": []})
    queue = {"id": "QueueGrows", "groups": {"running": "256", "waiting": "74"}}
    fake.says(EXEC, to={"verdict": "serving", "symptoms": [queue, {"id": "NotKnownHere", "groups": {}}, "odd"]})
    shown = run().output
    assert "qwen in namespace team is ready" in shown
    assert "slow: 74 requests wait while 256 run (QueueGrows)" in shown
    assert "1. raise spec.replicas, or spec.engine.maxNumSeqs" in shown
    assert "74 個等待" in run("--lang", "zh-TW").output
    (found,) = json.loads(run("-o", "json").output)["symptoms"]
    assert (found["engine"], found["id"]) == ("qwen-1", "QueueGrows")


def test_a_download_that_cannot_be_measured_takes_nothing_else_away(fake: FakeKubectl) -> None:
    shows(fake, told.model(told.LOADING), told.running())
    fake.says(EVENTS, to={"items": []})
    fake.says(EXEC, to={**told.STATUS, "phase": {"name": "Downloading", "detail": "1 of 4 files"}})
    fake.says(EXEC, "-c", "models--Qwen", to=Exception("no space left"))
    shown = run().output
    assert "downloads its model (1 of 4 files)" in shown
    assert "  the download of qwen-1: no space left" in shown


def test_a_model_that_is_not_there_is_an_error(fake: FakeKubectl) -> None:
    fake.says(BOTH, to="")
    done = run()
    assert (done.exit_code, done.stderr) == (1, "error: vllmmodel.vllm.echo-roots.io/qwen not found\n")
