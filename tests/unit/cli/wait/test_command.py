"""`kubectl vllm wait`, with a kubectl that answers what it is told to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from tests.support import told_models as told
from vllm_operator.cli.main import app
from vllm_operator.cli.rollout import waiting

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.support.fake_kubectl import FakeKubectl

NAMED = "vllmmodel.vllm.echo-roots.io/qwen"
LOADS, READY, STALLED = told.model(told.LOADING), told.model(told.READY), told.model(told.STALLED)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sleeps between two looks."""
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.0)


def run(*words: str) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["wait", "qwen", *words])


def test_it_waits_until_the_model_is_ready(fake: FakeKubectl) -> None:
    fake.says("get", to=LOADS, then=(LOADS, READY))
    done = run()
    assert (done.exit_code, done.stderr) == (0, "")
    first, last = done.stdout.splitlines()
    assert first == f"waiting for {NAMED} to be ready: EnginesStarting: 0 of 1 engines serve; qwen-1 loads its weights"
    assert last == f"{NAMED} is ready: 1 of 1 engines serve"


def test_it_reads_the_model_alone(fake: FakeKubectl) -> None:
    fake.says("get", to=READY)
    run("-n", "team", "--context", "there")
    (call,) = fake.asked()
    assert call[:7] == ["--namespace", "team", "--context", "there", "get", "vllmmodels.vllm.echo-roots.io", "qwen"]


def test_it_ends_at_once_where_somebody_has_to_act(fake: FakeKubectl) -> None:
    fake.says("get", to=LOADS, then=(STALLED,))
    done = run()
    assert done.exit_code == 4
    why = "EnginesFailing: 0 of 1 engines serve; qwen-1 fails"
    assert done.stderr == f"error: {NAMED} is not ready, and will not be before somebody acts: {why}\n"


def test_a_moment_in_which_it_seems_stalled_does_not_count(fake: FakeKubectl) -> None:
    fake.says("get", to=STALLED, then=(LOADS, STALLED, READY))
    assert run().exit_code == 0


def test_the_time_may_be_over_first(fake: FakeKubectl) -> None:
    fake.says("get", to=LOADS)
    done = run("--timeout", "100ms")
    assert done.exit_code == 3
    assert f"error: timed out after 0.1 s: waiting for {NAMED} to be ready: EnginesStarting" in done.stderr


def test_without_time_it_looks_once(fake: FakeKubectl) -> None:
    for model, code in ((LOADS, 3), (READY, 0), (STALLED, 4)):
        fake.says("get", to=model)
        assert run("--timeout", "0").exit_code == code
    assert len(fake.asked()) == 3


@pytest.mark.parametrize("answers", [("",), (LOADS, "")], ids=["from the beginning", "after a while"])
def test_a_model_that_is_not_there_is_not_waited_for(fake: FakeKubectl, answers: tuple[object, ...]) -> None:
    fake.says("get", to=answers[0], then=answers[1:])
    done = run()
    assert (done.exit_code, done.stderr) == (5, f"error: {NAMED} not found\n")


def test_a_model_that_is_being_deleted_is_not_waited_for(fake: FakeKubectl) -> None:
    leaving = {**READY, "metadata": {**READY["metadata"], "deletionTimestamp": told.SINCE}}
    fake.says("get", to=leaving)
    done = run()
    assert (done.exit_code, done.stderr) == (5, f"error: {NAMED} is being deleted\n")


def test_its_end_can_be_waited_for_and_another_one_of_its_name_is_not_it(fake: FakeKubectl) -> None:
    fake.says("get", to=READY, then=("",))
    assert run("--for", "deleted").exit_code == 0
    anew = {**READY, "metadata": {**READY["metadata"], "uid": "another"}}
    fake.says("get", to=READY, then=(anew,))
    done = run("--for", "deleted", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["state"]) == (0, "Complete")
    fake.says("get", to="")
    assert run("--for", "deleted").exit_code == 0


def test_what_cannot_be_read_is_another_failure(fake: FakeKubectl) -> None:
    fake.says("get", to=Exception("the server doesn't have a resource type"))
    done = run()
    assert (done.exit_code, done.stderr) == (1, "error: the server doesn't have a resource type\n")
    assert run("--for", "happy").exit_code == 2
    assert run("--timeout", "soon").exit_code == 2


def test_the_last_look_is_there_for_programs(fake: FakeKubectl) -> None:
    fake.says("get", to=STALLED)
    done = run("-o", "json")
    found = json.loads(done.stdout)
    assert (done.exit_code, done.stderr) == (4, "")
    assert (found["name"], found["for"], found["state"]) == ("qwen", "ready", "Failed")
    assert "qwen-1 fails" in found["message"]
