"""`kubectl vllm gates`, with a kubectl that answers what it is told to."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.support.fake_kubectl import FakeKubectl
from tests.support.resources import pod
from vllm_operator.cli.main import app
from vllm_operator.render import manager

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

RUNNING = {"running": {"startedAt": "2026-11-22T10:00:00Z"}}
TIME_LINE = [
    {"time": "2026-11-22T10:00:30Z", "verdict": "serving", "cause": "Completed", "sentence": "completed a prompt"},
    {"time": "2026-11-22T11:00:00Z", "verdict": "withdrawn", "cause": "Stalled", "sentence": "no step for 9 s"},
]
STATUS: dict[str, Any] = {
    "pod": "qwen-2",
    "verdict": "withdrawn",
    "cause": "Stalled",
    "sentence": "no step with 8 requests in flight (engine 0)",
    "since": "2026-11-22T11:00:00Z",
    "phase": {"name": "Ready", "detail": "", "since": "2026-11-22T10:00:29Z"},
    "in_flight": 8,
    "longest_step_seconds": 0.42,
    "timeline": TIME_LINE,
    "trouble": "",
    "answered_by": "judge",
}


class Gates(FakeKubectl):
    """A kubectl of a cluster with one model."""

    def status(self, **changed: object) -> None:
        """What every manager says."""
        self.says("exec", to={**STATUS, **changed})

    def pods(self, *found: dict[str, Any]) -> None:
        """The pods that there are."""
        self.says("pods", to={"items": found})


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gates:
    """The program that the command runs."""
    fake = Gates(tmp_path)
    monkeypatch.setenv("KUBECTL", str(fake.path))
    fake.says("vllmmodels.vllm.echo-roots.io", to="")
    fake.status()
    return fake


def run(*words: str) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["gates", *words])


def running(name: str = "qwen-2", port: int = 8480) -> dict[str, Any]:
    """A pod whose container runs, with a manager in it."""
    found = pod(name, container={"started": True, "state": RUNNING})
    ports = [{"name": "http", "containerPort": 8000}, {"name": "gate", "containerPort": port}]
    return {**found, "spec": {"containers": [{"name": "mesh"}, {"name": "vllm", "ports": ports}]}}


def waiting(name: str = "qwen-1") -> dict[str, Any]:
    """A pod whose container has no image."""
    state = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    return {**running(name), "status": pod(name, container={"state": state})["status"]}


def test_each_engine_has_a_row_of_what_its_manager_says_now_and_then_its_time_line(kubectl: Gates) -> None:
    kubectl.pods(running())
    done = run("qwen")
    assert done.exit_code == 0, done.output
    table, _, history = done.output.partition("\n\n")
    assert table.splitlines() == [
        "POD     STATE      PHASE  SINCE                 LONGEST STEP  IN FLIGHT  SENTENCE",
        f"qwen-2  withdrawn  Ready  2026-11-22T11:00:00Z  0.4 s         8          {STATUS['sentence']}",
    ]
    assert history.splitlines() == [
        "POD     VERDICT    TIME                  SENTENCE",
        "qwen-2  serving    2026-11-22T10:00:30Z  completed a prompt",
        "qwen-2  withdrawn  2026-11-22T11:00:00Z  no step for 9 s",
    ]


def test_an_engine_that_loads_shows_how_far_it_has_come(kubectl: Gates) -> None:
    kubectl.pods(running())
    phase = {"name": "LoadingWeights", "detail": "3 of 8 shards", "since": "2026-11-22T11:00:00Z"}
    kubectl.status(verdict="starting", sentence="loads", phase=phase, in_flight=None, longest_step_seconds=None)
    row = run("qwen").output.splitlines()[1].split("  ")
    assert [cell.strip() for cell in row if cell.strip()] == [
        *["qwen-2", "starting", "LoadingWeights (3 of 8 shards)", "2026-11-22T11:00:00Z", "-", "-", "loads"]
    ]


def test_the_manager_is_asked_in_its_pod_at_its_own_port_and_nothing_else_is_read(kubectl: Gates) -> None:
    kubectl.pods(running(port=9480))
    run("qwen", "-n", "team", "--context", "there")
    place = ["--namespace", "team", "--context", "there"]
    asked = [*("exec", "qwen-2", "--container", "vllm", "--"), *manager.INTERPRETER, manager.TELL, "9480"]
    words = kubectl.asked()
    assert len(words) == 3
    assert words[0] == [*place, "get", "vllmmodels.vllm.echo-roots.io", "qwen"]
    assert words[2] == [*place, *asked]
    run("qwen")
    assert kubectl.asked()[3] == ["get", "vllmmodels.vllm.echo-roots.io", "qwen"], "without options, kubectl's own"


def test_everything_is_there_as_data(kubectl: Gates) -> None:
    kubectl.pods(running())
    (engine,) = json.loads(run("qwen", "-o", "json").output)
    assert (engine["pod"], engine["state"], engine["in_flight"]) == ("qwen-2", "withdrawn", 8)
    assert engine["timeline"] == TIME_LINE
    assert engine["status"] == STATUS


def test_of_a_container_that_does_not_run_its_pod_tells_and_nobody_is_asked(kubectl: Gates) -> None:
    kubectl.pods(waiting(), running())
    done = run("qwen")
    assert done.exit_code == 0
    assert "qwen-1  failing    -      2026-11-22T11:00:00Z  -             -          cannot start" in done.output
    assert "ErrImagePull: no such image" in done.output
    assert "qwen-1  -          -                     no word of a manager: the container does not run" in done.output
    assert sum("exec" in words for words in kubectl.asked()) == 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Exception("unable to upgrade\nconnection: container not found"), "unable to upgrade connection: container"),
        ("no JSON \x1b[31m", "the manager's answer is no status: no JSON [31m"),
        ("[]", "the manager's answer is no status"),
    ],
    ids=["kubectl fails", "no JSON", "other JSON"],
)
def test_a_manager_that_does_not_answer_is_told_with_what_the_pod_shows(
    kubectl: Gates, answer: object, why: str
) -> None:
    kubectl.pods(running())
    kubectl.says("exec", to=answer)
    done = run("qwen")
    assert done.exit_code == 0
    assert why in done.output
    assert "qwen-2  withdrawn  -      2026-11-22T11:00:00Z" in done.output, "as its pod has it"


def test_a_pod_of_an_earlier_version_has_no_manager(kubectl: Gates) -> None:
    kubectl.pods(pod("qwen-1", container={"started": True, "state": RUNNING}))
    assert "no word of a manager: the pod was made by an earlier version" in run("qwen").output


def test_a_status_of_another_version_is_read_as_far_as_it_goes(kubectl: Gates) -> None:
    kubectl.pods(running())
    kubectl.says("exec", to={"verdict": "dancing", "phase": "odd", "in_flight": "many", "timeline": [1, {}]})
    done = run("qwen")
    assert done.exit_code == 0, done.output
    assert "dancing" in done.output


def test_what_an_engines_log_says_cannot_write_to_the_terminal(kubectl: Gates) -> None:
    kubectl.pods(running())
    kubectl.status(sentence="ended: \x1b]0;evil\x07 two\nlines")
    done = run("qwen")
    assert "\x1b" not in done.output
    assert "two lines" in done.output


def test_trouble_of_the_manager_itself_is_told(kubectl: Gates) -> None:
    kubectl.pods(running())
    kubectl.status(trouble="the judge was started again 3 times")
    assert "trouble of the manager itself: the judge was started again 3 times" in run("qwen").output


def test_a_model_that_is_not_there_is_an_error_in_the_words_of_kubectl(kubectl: Gates) -> None:
    kubectl.says("vllmmodels.vllm.echo-roots.io", to=Exception('Error from server (NotFound): "qwen" not found'))
    done = run("qwen")
    assert done.exit_code == 1
    assert done.stderr == 'error: Error from server (NotFound): "qwen" not found\n'


def test_a_missing_kubectl_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECTL", "/nowhere/kubectl")
    done = run("qwen")
    assert done.exit_code == 1
    assert "install kubectl, or name it in KUBECTL" in done.stderr


def test_watching_prints_only_what_is_new_and_not_each_count_of_requests(
    kubectl: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl.pods(running())
    steps = iter(["busier", "changed", "end"])

    def sleep(_: float) -> None:
        step = next(steps)
        if step == "busier":
            kubectl.status(in_flight=9, longest_step_seconds=0.5)
        if step == "changed":
            new = {"time": "2026-11-22T11:00:20Z", "verdict": "serving", "sentence": "makes steps"}
            kubectl.status(verdict="serving", in_flight=7, timeline=[*TIME_LINE, new])
        if step == "end":
            raise KeyboardInterrupt

    monkeypatch.setattr("vllm_operator.cli.gates.time", SimpleNamespace(sleep=sleep))
    done = run("qwen", "--watch")
    assert done.exit_code == 0
    assert done.output.count("POD") == 2
    assert done.output.count("completed a prompt") == 1
    assert [line.split()[1] for line in done.output.splitlines() if STATUS["sentence"] in line] == [
        "withdrawn",
        "serving",
    ]
    assert done.output.splitlines()[-1] == "qwen-2  serving    2026-11-22T11:00:20Z  makes steps"


def test_pods_that_are_over_are_no_engines_and_those_that_wait_too_long_are_told_so(kubectl: Gates) -> None:
    over = pod("qwen-0", phase="Failed", reason="Evicted")
    unseen = {**running("qwen-1"), "status": pod("qwen-1", containerStatuses=[])["status"]}
    unseen["metadata"]["creationTimestamp"] = "2026-11-22T11:00:00Z"
    kubectl.pods(over, unseen)
    done = run("qwen")
    assert "qwen-0" not in done.output
    assert "which has said nothing of it: does it run?" in done.output
