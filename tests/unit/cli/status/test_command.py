"""`kubectl vllm status`, with a kubectl that answers what it is told to."""

from __future__ import annotations

import io
import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from tests.support import told_models as told
from tests.support.fake_kubectl import FakeKubectl, forbidden
from tests.support.resources import NOW, pod
from vllm_operator.cli.main import app
from vllm_operator.cli.status import live, watching
from vllm_operator.cli.status.sources import Sources
from vllm_operator.cli.status.view import view_of, with_rates
from vllm_operator.diagnosis.engine_status import engine_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

ONE, BOTH, ALL, PODS, EXEC = (
    *("vllmmodels.vllm.echo-roots.io/qwen", "deployments.apps/qwen", "vllmmodels.vllm.echo-roots.io", "pods", "exec"),
)
GONE = "error: vllmmodel.vllm.echo-roots.io/qwen not found\n"


def run(*words: str) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["status", *words])


def shows(fake: FakeKubectl, model: dict[str, Any] | None, *pods: dict[str, Any]) -> None:
    """What there is to see from now on."""
    found = [] if model is None else [{"kind": "VLLMModel", **model}, told.deployment()]
    fake.says(BOTH, to={"items": found})
    fake.says(PODS, to={"items": pods})


def steps(monkeypatch: pytest.MonkeyPatch, *changes: Callable[[], None]) -> None:
    """What happens between the looks of a watch; Ctrl-C after the last one."""
    left = iter(changes)

    def sleep(_: float) -> None:
        change = next(left, None)
        if change is None:
            raise KeyboardInterrupt
        change()

    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))


@pytest.fixture(autouse=True)
def manager(fake: FakeKubectl) -> None:
    """A manager that tells of shards."""
    fake.says(EXEC, to=told.STATUS)


def test_a_model_is_a_table_of_its_engines_with_their_load_phases(fake: FakeKubectl) -> None:
    shows(fake, told.model(told.LOADING), told.running())
    done = run("qwen")
    assert done.exit_code == 0, done.output
    head, engines = done.output.split("\n\n")
    assert head.splitlines()[1].split()[:5] == ["qwen", "False", "EnginesStarting", "0/1", "-"]
    heads, row = engines.splitlines()
    assert heads.split() == ["POD", "STATE", "PHASE", "PROGRESS", "RATE", "RESTARTS", "NODE", "SINCE", "SENTENCE"]
    assert "qwen-1  Starting  LoadingWeights (3 of 8 shards)  38%       -     0         node-1" in row
    assert row.endswith("loads its weights (3 of 8 shards) since 2026-11-22T11:00:30Z")


def test_the_last_diagnosis_and_the_rollout_are_told_below(fake: FakeKubectl) -> None:
    rollout = {"strategy": "InPlace", "reason": "no node for one more", "updated": 1, "wanted": 3}
    shows(fake, told.model(told.STALLED, rollout=rollout, warnings=["the key is weak"]), told.crashed())
    remarks = run("qwen").output.split("\n\n")[2].splitlines()
    assert remarks[0] == "rollout: 1 of 3 engines are updated (InPlace: no node for one more)"
    assert remarks[1].startswith("diagnosis: qwen-1: KvCacheTooSmall: one request of 40960 tokens needs 5.62 GiB")
    assert remarks[1].endswith("(spec.engine.maxModelLen: try 9392)")
    assert remarks[2:] == ["warning: the key is weak"]


def test_the_same_data_is_there_for_programs(fake: FakeKubectl) -> None:
    shows(fake, told.model(told.LOADING), told.running())
    found = json.loads(run("qwen", "-o", "json").output)
    assert yaml.safe_load(run("qwen", "-o", "yaml").output) == found
    assert (found["name"], found["ready"], found["readyReplicas"], found["wantedReplicas"]) == ("qwen", "False", 0, 1)
    (engine,) = found["engines"]
    assert engine["progress"] == {"done": 3, "total": 8, "unit": "shards"}
    assert engine["bytesPerSecond"] is None


def test_of_an_engine_that_downloads_a_second_look_shows_how_fast(
    fake: FakeKubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_operator.cli.status.command.SAMPLE_SECONDS", 0.0)
    phase = {"name": "Downloading", "detail": "1 of 4 files", "since": told.SINCE}
    shows(fake, told.model(told.LOADING), told.running())
    fake.says(EXEC, to={**told.STATUS, "phase": phase})
    fake.says(EXEC, "-c", "models--Qwen--Qwen2.5-0.5B-Instruct", to="1000000 10.0\n", then=("90000000 11.0\n",))
    (engine,) = json.loads(run("qwen", "-o", "json").output)["engines"]
    assert engine["downloadedBytes"] == 90_000_000
    assert engine["bytesPerSecond"] == 89_000_000


def test_all_models_are_one_call_and_their_pods_are_not_asked(fake: FakeKubectl) -> None:
    engine = {
        "pod": "b-1",
        "state": "Starting",
        "phase": "Downloading",
        "sentence": "downloads its model (2 of 9 files)",
    }
    loading = told.model(told.LOADING, name="b", engines=[engine, {**engine, "pod": "b-2"}])
    fake.says(ALL, to={"items": [told.model(told.READY, name="a", readyReplicas=1), loading, told.model(name="c")]})
    rows = [line.split("  ") for line in run().output.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[0] == [*("NAME", "READY", "REASON", "SERVING", "UPDATED", "LOADING", "DIAGNOSIS", "SINCE", "MESSAGE")]
    assert cells[1][:4] == ["a", "True", "AllEnginesServe", "1/1"]
    assert cells[2][:6] == ["b", "False", "EnginesStarting", "0/1", "-", "Downloading (2 of 9 files) +1"]
    assert cells[3][:4] == ["c", "Unknown", "-", "0/1"]
    assert len(fake.asked()) == 1


def test_all_namespaces_have_a_column_of_their_own(fake: FakeKubectl) -> None:
    fake.says(ALL, "--all-namespaces", to={"items": [told.model(told.READY)]})
    assert [line.split()[0] for line in run("-A").output.splitlines()] == ["NAMESPACE", "team"]
    assert run("qwen", "-A").exit_code == 2


def test_no_model_at_all_is_said_and_is_no_failure(fake: FakeKubectl) -> None:
    fake.says(ALL, to={"items": []})
    done = run()
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "no VLLMModels found in the namespace\n")
    assert json.loads(run("-o", "json").stdout) == []


def test_a_model_that_is_not_there_is_an_error(fake: FakeKubectl) -> None:
    shows(fake, None)
    done = run("qwen")
    assert (done.exit_code, done.stderr) == (1, GONE)


def test_who_may_not_list_pods_sees_what_the_operator_tells_and_why_no_more(fake: FakeKubectl) -> None:
    engine = {"pod": "qwen-1", "state": "Failing", "since": told.SINCE, "sentence": "cannot start"}
    shows(fake, told.model(told.STALLED, engines=[engine]))
    fake.says(PODS, to=forbidden("pods"))
    done = run("qwen")
    assert done.exit_code == 0
    assert "qwen-1  Failing" in done.output
    assert 'note: the pods: Error from server (Forbidden): pods is forbidden: User "dev" cannot list' in done.output


def test_who_may_not_read_deployments_or_exec_sees_the_rest(fake: FakeKubectl) -> None:
    fake.says("get", ALL, "qwen", "--ignore-not-found", to=told.model(told.LOADING))
    fake.says(BOTH, to=forbidden("deployments", "get"))
    fake.says(PODS, to={"items": [told.running()]})
    fake.says(EXEC, to=forbidden("pods/exec", "create"))
    done = run("qwen")
    assert done.exit_code == 0, done.output
    assert "note: the Deployment: Error from server (Forbidden)" in done.output
    assert "note: qwen-1: no word of its manager: Error from server (Forbidden): pods/exec" in done.output


def test_a_watch_in_a_pipe_prints_what_is_new_and_ends_with_ctrl_c(
    fake: FakeKubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows(fake, told.model(told.LOADING), told.running())
    more = {**told.STATUS, "phase": {**told.STATUS["phase"], "detail": "4 of 8 shards"}}
    steps(
        monkeypatch,
        lambda: None,
        lambda: fake.says(EXEC, to=more),
        lambda: shows(fake, told.model(told.READY, readyReplicas=1), told.serving()),
    )
    done = run("qwen", "--watch")
    assert done.exit_code == 0
    assert done.output.count("POD ") == 1
    assert [line.split()[1] for line in done.output.splitlines() if line.startswith("qwen-1")] == [
        *("Starting", "Starting", "Serving")
    ]
    assert "4 of 8 shards" in done.output


def test_a_watch_as_data_is_one_document_of_each_change(fake: FakeKubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    shows(fake, told.model(told.LOADING), told.running())
    steps(monkeypatch, lambda: None, lambda: shows(fake, told.model(told.READY, readyReplicas=1), told.serving()))
    found = [json.loads(line) for line in run("qwen", "--watch", "-o", "json").output.splitlines()]
    assert [one["ready"] for one in found] == ["False", "True"]
    shows(fake, told.model(told.LOADING), told.running())
    steps(monkeypatch, lambda: shows(fake, told.model(told.READY, readyReplicas=1), told.serving()))
    assert [one["ready"] for one in yaml.safe_load_all(run("qwen", "--watch", "-o", "yaml").output)] == [
        "False",
        "True",
    ]


def test_a_model_that_is_deleted_ends_its_watch(fake: FakeKubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    shows(fake, told.model(told.READY, readyReplicas=1), told.serving())
    steps(monkeypatch, lambda: shows(fake, None))
    done = run("qwen", "--watch")
    assert (done.exit_code, done.stderr) == (1, GONE)
    assert "qwen-1  Serving" in done.stdout


def test_a_model_that_is_deleted_leaves_a_note_where_all_are_watched(
    fake: FakeKubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [told.model(told.READY, name=name) for name in ("a", "b")]
    fake.says(ALL, to={"items": models})
    steps(monkeypatch, lambda: fake.says(ALL, to={"items": models[:1]}))
    assert run("--watch").stdout.splitlines()[3:] == ["note: team/b is not there any more"]


def test_an_api_server_that_is_away_for_a_moment_ends_no_watch(
    fake: FakeKubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows(fake, told.model(told.LOADING), told.running())

    def away() -> None:
        for word in (BOTH, ALL):
            fake.says(word, to=Exception("The connection to the server was refused"))

    steps(monkeypatch, away, lambda: shows(fake, told.model(told.READY, readyReplicas=1), told.serving()))
    done = run("qwen", "--watch")
    assert done.exit_code == 0
    assert "note: not read again: The connection to the server was refused" in done.stdout
    assert "qwen-1  Serving" in done.stdout


def test_an_api_server_that_stays_away_ends_a_watch(fake: FakeKubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "UNREAD_SECONDS", -1.0)
    fake.says(ALL, to={"items": [told.model(told.READY)]})
    steps(monkeypatch, lambda: fake.says(ALL, to=Exception("The connection to the server was refused")))
    done = run("--watch")
    assert (done.exit_code, done.stderr) == (1, "error: The connection to the server was refused\n")


def shown(frame: object) -> str:
    """What a view looks like at a terminal."""
    screen = io.StringIO()
    Console(file=screen, width=160, force_terminal=True, color_system=None).print(frame)
    return screen.getvalue()


def test_people_at_a_terminal_get_bars() -> None:
    pod = told.running()
    status = engine_status({**told.STATUS, "sentence": "[bold]no markup"})
    assert status is not None
    heard = {pod["metadata"]["uid"]: status}
    view = with_rates(view_of(Sources(told.model(told.LOADING), NOW, None, (pod,), findings=heard)), None)
    frame = shown(live.model_frame(view, "the connection was refused"))
    assert "━" in frame
    assert "LoadingWeights (3 of 8 shards)" in frame
    assert "38%" in frame
    assert "not read again: the connection was refused" in frame
    models = [view_of(Sources(told.model(told.READY, readyReplicas=1), NOW)), view]
    listed = shown(live.list_frame(models, "", everywhere=True))
    assert listed.count("team") == 2
    assert "AllEnginesServe" in listed


def test_adapters_that_are_served_are_named_and_each_other_one_has_a_line_of_its_own(fake: FakeKubectl) -> None:
    adapters = [
        {"name": "sql", "state": "Serving", "served": True, "engines": 1},
        {"name": "wide", "state": "Failing", "served": False, "engines": 0, "message": "qwen-1: LoRA rank 64"},
        {"name": "new", "state": "Loading", "served": False, "engines": 0},
    ]
    shows(fake, told.model(told.LOADING, adapters=adapters), told.running())
    assert run("qwen").output.split("\n\n")[2].splitlines() == [
        "adapters: 1 of 3 are served: sql",
        "adapter: wide: Failing: qwen-1: LoRA rank 64",
        "adapter: new: Loading",
    ]
    found = json.loads(run("qwen", "-o", "json").output)["adapters"]
    assert found[1] == {"name": "wide", "state": "Failing", "served": False, "message": "qwen-1: LoRA rank 64"}


NO_QUOTA = (
    "couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor default, request > "
)
NO_QUOTA += "maximum capacity (4 > 2)"
WORKLOAD: dict[str, Any] = {
    "status": {"conditions": [{"type": "QuotaReserved", "status": "False", "message": NO_QUOTA}]}
}


@pytest.mark.parametrize(
    ("group", "answer", "sentence"),
    [
        ("", {"items": [WORKLOAD]}, f"LocalQueue gpus says: {NO_QUOTA}"),
        ("qwen-0", WORKLOAD, f"LocalQueue gpus says: {NO_QUOTA}"),
        ("", {"items": []}, "Kueue has made no Workload of it"),
        ("qwen-0", "", "Kueue has made no Workload of it"),
        ("", Exception('error: the server doesn\'t have a resource type "workloads"'), "knows no Workloads of Kueue"),
        ("", forbidden("workloads.kueue.x-k8s.io"), "until LocalQueue gpus admits the pod"),
    ],
    ids=["pod", "group", "pod without", "group without", "no kueue", "no right"],
)
def test_what_holds_an_engine_back_in_its_queue_is_read_with_the_users_rights(
    fake: FakeKubectl, group: str, answer: object, sentence: str
) -> None:
    shows(fake, told.model(told.LOADING), told.queued(group=group))
    fake.says("workloads.kueue.x-k8s.io", to=answer)
    done = json.loads(run("qwen", "-o", "json").output)
    (engine,) = done["engines"]
    assert engine["reason"] == "SchedulingGated"
    assert sentence in engine["sentence"]
    gaps = [gap for gap in done["notes"] if gap.startswith("the Workloads of Kueue: ")]
    assert bool(gaps) == ("Forbidden" in str(answer))
    (asked,) = fake.asked("workloads.kueue.x-k8s.io")
    assert (group or "kueue.x-k8s.io/job-uid=") in " ".join(asked)
    assert fake.asked("exec") == [], "nothing runs in it yet"


def test_of_an_engine_without_a_node_the_operator_says_what_the_nodes_have(fake: FakeKubectl) -> None:
    words = "cannot be scheduled: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu"
    more = f"{words} (8 exist, team-b holds 8)"
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": told.SINCE}
    one = pod(conditions=({**unplaced, "message": words.partition(": ")[2]},))
    engines = [{"pod": "qwen-1", "state": "Failing", "since": told.SINCE, "sentence": more}]
    shows(fake, told.model(told.STALLED, engines=engines), one)
    (engine,) = json.loads(run("qwen", "-o", "json").output)["engines"]
    assert engine["sentence"] == more
    assert fake.asked("exec") == [], "nothing runs in it yet"
