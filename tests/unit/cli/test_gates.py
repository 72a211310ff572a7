"""`kubectl vllm gates`, with a kubectl that answers what it is told to."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.support.resources import pod
from vllm_operator.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

PROGRAM = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
words = sys.argv[1:]
with (folder / "asked").open("a") as asked:
    asked.write(json.dumps(words) + "\\n")
for word in ("exec", "events", "pods", "vllmmodels.vllm.echo-roots.io"):
    if word in words:
        answer = json.loads((folder / word).read_text())
        sys.stdout.write(answer["out"])
        sys.stderr.write(answer["error"])
        sys.exit(1 if answer["error"] else 0)
"""
STARTED = {"running": {"startedAt": "2026-11-22T10:00:00Z"}}
SCHEDULED = ({"type": "PodScheduled", "status": "True"},)
SENTENCE = "served before, and takes no traffic since 2026-11-22T11:00:00Z"
TIME_LINE = [
    {"time": "2026-11-22T10:00:30Z", "verdict": "admitted", "cause": "Completed", "sentence": "completed a prompt"},
    {"time": "2026-11-22T11:00:00Z", "verdict": "withdrawn", "cause": "Stalled", "sentence": "no progress for 9 s"},
]


class FakeKubectl:
    """A program in the place of kubectl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "kubectl"
        self.path.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)), encoding="utf-8")
        self.path.chmod(0o755)
        self.answer("vllmmodels.vllm.echo-roots.io", "")
        self.answer("events", '{"items": []}')
        self.answer("exec", "\n".join(map(json.dumps, TIME_LINE)) + '\n{"time": "cut o')

    def answer(self, word: str, out: str, error: str = "") -> None:
        """What a call with this word prints."""
        (self.folder / word).write_text(json.dumps({"out": out, "error": error}), encoding="utf-8")

    def pods(self, *found: dict[str, Any]) -> None:
        """The pods that there are."""
        self.answer("pods", json.dumps({"items": found}))

    def asked(self) -> list[list[str]]:
        """The calls so far."""
        return [json.loads(line) for line in (self.folder / "asked").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKubectl:
    """The program that the command runs."""
    fake = FakeKubectl(tmp_path)
    monkeypatch.setenv("KUBECTL", str(fake.path))
    return fake


def run(*words: str) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["gates", *words])


def withdrawn(name: str = "qwen-2") -> dict[str, Any]:
    """A pod whose engine served before."""
    return pod(name, container={"started": True, "state": STARTED}, conditions=SCHEDULED)


def test_each_engine_has_a_row_with_its_state_and_the_words_of_its_gate_and_then_its_time_line(
    kubectl: FakeKubectl,
) -> None:
    kubectl.pods(withdrawn(), pod("qwen-1", ready=True, container={"started": True, "state": STARTED}))
    event = {"reason": "Unhealthy", "lastTimestamp": "2026-11-22T11:00:00Z"}
    kubectl.answer("events", json.dumps({"items": [{**event, "message": "Readiness probe failed: no completion"}]}))
    done = run("qwen")
    assert done.exit_code == 0, done.output
    table, _, history = done.output.partition("\n\n")
    assert table.splitlines() == [
        "POD     STATE      SINCE                 SENTENCE",
        "qwen-1  serving    2026-11-22T11:00:00Z  -",
        f"qwen-2  withdrawn  2026-11-22T11:00:00Z  {SENTENCE}: no completion",
    ]
    assert history.splitlines()[:3] == [
        "POD     VERDICT    TIME                  SENTENCE",
        "qwen-1  admitted   2026-11-22T10:00:30Z  completed a prompt",
        "qwen-1  withdrawn  2026-11-22T11:00:00Z  no progress for 9 s",
    ]


def test_the_events_of_a_ready_pod_are_not_read(kubectl: FakeKubectl) -> None:
    kubectl.pods(pod(ready=True, container={"started": True, "state": STARTED}, conditions=SCHEDULED))
    run("qwen")
    assert not [words for words in kubectl.asked() if "events" in words]


def test_context_and_namespace_are_those_of_the_user(kubectl: FakeKubectl) -> None:
    kubectl.pods(withdrawn())
    run("qwen", "-n", "team", "--context", "there")
    assert len(kubectl.asked()) == 4
    assert all(words[:4] == ["--namespace", "team", "--context", "there"] for words in kubectl.asked())
    run("qwen")
    assert kubectl.asked()[4] == ["get", "vllmmodels.vllm.echo-roots.io", "qwen"]


def test_everything_is_there_as_data(kubectl: FakeKubectl) -> None:
    kubectl.pods(withdrawn())
    (engine,) = json.loads(run("qwen", "-o", "json").output)
    assert (engine["pod"], engine["state"], engine["reason"]) == ("qwen-2", "withdrawn", "EnginesWithdrawn")
    assert engine["timeline"] == TIME_LINE


def test_a_time_line_that_cannot_be_read_says_why(kubectl: FakeKubectl) -> None:
    kubectl.pods(pod(container={"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}))
    kubectl.answer("exec", "", "error: unable to upgrade\nconnection: container not found")
    done = run("qwen")
    assert done.exit_code == 0
    assert "no time line: error: unable to upgrade connection: container not found" in done.output
    assert "failing" in done.output
    assert "cannot start: ErrImagePull: no such image" in done.output


def test_a_model_that_is_not_there_is_an_error_in_the_words_of_kubectl(kubectl: FakeKubectl) -> None:
    kubectl.answer("vllmmodels.vllm.echo-roots.io", "", 'Error from server (NotFound): "qwen" not found')
    done = run("qwen")
    assert done.exit_code == 1
    assert done.stderr == 'error: Error from server (NotFound): "qwen" not found\n'


def test_a_missing_kubectl_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECTL", "/nowhere/kubectl")
    done = run("qwen")
    assert done.exit_code == 1
    assert "install kubectl, or name it in KUBECTL" in done.stderr


def test_watching_prints_only_what_is_new(kubectl: FakeKubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl.pods(withdrawn())
    steps = iter(["unchanged", "changed", "end"])

    def sleep(_: float) -> None:
        step = next(steps)
        if step == "changed":
            new = {"time": "2026-11-22T11:00:20Z", "verdict": "serving", "sentence": "makes progress"}
            kubectl.answer("exec", "\n".join(map(json.dumps, [*TIME_LINE, new])))
        if step == "end":
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    done = run("qwen", "--watch")
    assert done.exit_code == 0
    assert done.output.count("POD") == 2
    assert done.output.count("admitted") == 1
    assert done.output.splitlines()[-1] == "qwen-2  serving    2026-11-22T11:00:20Z  makes progress"


def test_pods_that_are_over_are_no_engines_and_those_that_wait_too_long_are_told_so(kubectl: FakeKubectl) -> None:
    over = pod("qwen-0", phase="Failed", reason="Evicted")
    unseen = pod("qwen-1", containerStatuses=[])
    unseen["metadata"]["creationTimestamp"] = "2026-11-22T11:00:00Z"
    kubectl.pods(over, unseen)
    kubectl.answer("exec", "", "error: no container")
    done = run("qwen")
    assert "qwen-0" not in done.output
    assert "which has said nothing of it: does it run?" in done.output
