"""`kubectl vllm rollout`, with a kubectl that answers what it is told to."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from tests.cluster.paths import REPOSITORY
from vllm_operator.api.names import labels
from vllm_operator.api.revisions import RESTARTED_AT, ROLLED_BACK_TO
from vllm_operator.cli.main import app
from vllm_operator.cli.rollout import waiting
from vllm_operator.cli.rollout.commands import app as rollout

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

PROGRAM = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
words = sys.argv[1:]
call = dict(words=words, patch=None)
if "--patch-file" in words:
    call["patch"] = json.loads(pathlib.Path(words[words.index("--patch-file") + 1]).read_text())
with (folder / "asked").open("a") as asked:
    asked.write(json.dumps(call) + "\\n")
for word in ("patch", "deployments.apps/qwen", "controllerrevisions.apps", "vllmmodels.vllm.echo-roots.io"):
    if word in words:
        path = folder / word.replace("/", "_")
        answers = json.loads(path.read_text())
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        path.write_text(json.dumps([*answers, answer] if not answers else answers))
        sys.stdout.write(answer["out"])
        sys.stderr.write(answer["error"])
        sys.exit(1 if answer["error"] else 0)
"""
MODEL, REVISIONS, BOTH, PATCH = (
    *("vllmmodels.vllm.echo-roots.io", "controllerrevisions.apps", "deployments.apps/qwen", "patch"),
)
SETTLED = [
    {"type": "Ready", "status": "True", "reason": "AllEnginesServe", "message": "1 of 1 engines serve"},
    {"type": "Reconciling", "status": "False"},
]
MOVING = [
    {"type": "Ready", "status": "False", "reason": "RollingOut", "message": "1 of 1 engines serve"},
    {"type": "Reconciling", "status": "True"},
]
STALLED = [*SETTLED, {"type": "Stalled", "status": "True", "reason": "Fails", "message": "undo it"}]
DEPLOYMENT = {
    "kind": "Deployment",
    "metadata": {"generation": 1},
    "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1},
}


class FakeKubectl:
    """A program in the place of kubectl. Of several answers each is given once, and the last one again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "kubectl"
        self.path.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)), encoding="utf-8")
        self.path.chmod(0o755)
        self.says(PATCH, "patched\n")

    def says(self, word: str, *answers: object) -> None:
        """What calls with this word print: text, data, or an error."""
        found = [
            {"out": "", "error": str(answer)}
            if isinstance(answer, Exception)
            else {"out": answer if isinstance(answer, str) else json.dumps(answer), "error": ""}
            for answer in answers
        ]
        (self.folder / word.replace("/", "_")).write_text(json.dumps(found), encoding="utf-8")

    def looks(self, *looks: list[dict[str, Any]] | Exception | None) -> None:
        """What `status` sees, one after the other: conditions of the model, an error, or no model."""
        self.says(
            BOTH,
            *(
                look
                if isinstance(look, Exception)
                else {"items": [] if look is None else [model(conditions=look), DEPLOYMENT]}
                for look in looks
            ),
        )

    def asked(self) -> list[list[str]]:
        """The words of the calls so far."""
        return [call["words"] for call in self._calls()]

    def patches(self) -> list[Any]:
        """What was sent."""
        return [call["patch"] for call in self._calls() if call["patch"] is not None]

    def _calls(self) -> list[dict[str, Any]]:
        path = self.folder / "asked"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKubectl:
    """The program that the command runs."""
    fake = FakeKubectl(tmp_path)
    monkeypatch.setenv("KUBECTL", str(fake.path))
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.0)
    return fake


def model(*, conditions: list[dict[str, Any]] | None = None, restarted: str = "", **spec: Any) -> dict[str, Any]:
    """A model as the API server has it."""
    return {
        "kind": "VLLMModel",
        "metadata": {
            "name": "qwen",
            "uid": "u-1",
            "generation": 3,
            "resourceVersion": "100",
            "annotations": {RESTARTED_AT: restarted} if restarted else {},
        },
        "spec": {"model": {"source": "org/tiny"}, "replicas": 2, **spec},
        "status": {"observedGeneration": 3, "replicas": 1, "readyReplicas": 1, "conditions": conditions or []},
    }


def revision(number: int, length: int, cause: str = "") -> dict[str, Any]:
    """A ControllerRevision."""
    return {
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"qwen-{number}",
            "creationTimestamp": "2026-11-22T10:00:00Z",
            "annotations": {"kubernetes.io/change-cause": cause} if cause else {},
        },
        "revision": number,
        "data": {
            "spec": {"model": {"source": "org/tiny"}, "engine": {"maxModelLen": length}},
            "template": {"spec": {"containers": []}},
        },
    }


def run(*words: str) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["rollout", *words])


# -------------------------------------------------------------------------------------------------------------- status


def test_status_prints_each_new_sentence_once_and_ends_well_when_it_is_done(kubectl: FakeKubectl) -> None:
    kubectl.looks(MOVING, MOVING, MOVING, SETTLED)
    done = run("status", "qwen")
    assert done.exit_code == 0, done.output
    waits = "waiting for the rollout of qwen to finish: 1 of 2 engines are updated; RollingOut: 1 of 1 engines serve"
    assert done.stdout.splitlines() == [waits, "qwen successfully rolled out"]


def test_status_reads_the_model_and_its_deployment_by_one_call_that_cannot_hang(kubectl: FakeKubectl) -> None:
    kubectl.looks(SETTLED)
    run("status", "vllmmodel/qwen", "-n", "team", "--context", "there", "--timeout", "5s")
    assert kubectl.asked() == [
        [
            *("--namespace", "team", "--context", "there"),
            *("get", "vllmmodels.vllm.echo-roots.io/qwen", "deployments.apps/qwen"),
            *("--ignore-not-found", "--output", "json", "--request-timeout=5s"),
        ]
    ]


def test_status_fails_when_the_rollout_is_stalled(kubectl: FakeKubectl) -> None:
    kubectl.looks(MOVING, STALLED)
    done = run("status", "qwen")
    assert done.exit_code == 1
    assert done.stderr == "error: the rollout of qwen is stalled: Fails: undo it\n"


def test_status_doubts_a_failure_that_it_sees_once(kubectl: FakeKubectl) -> None:
    kubectl.looks(STALLED, MOVING, STALLED, SETTLED)
    done = run("status", "qwen")
    assert (done.exit_code, done.stderr) == (0, "")


def test_status_ends_with_what_it_saw_last_when_the_time_is_over(kubectl: FakeKubectl) -> None:
    kubectl.looks(MOVING)
    done = run("status", "qwen", "--timeout", "1ms")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: timed out after 0.001 s: waiting for the rollout of qwen to finish: 1 of 2")


def test_status_looks_again_where_the_api_server_is_away_for_a_moment(kubectl: FakeKubectl) -> None:
    away = ConnectionError("The connection to the server was refused")
    kubectl.looks(MOVING, away, away, SETTLED)
    done = run("status", "qwen")
    assert (done.exit_code, done.stderr) == (0, "")


def test_status_does_not_wait_for_ever_for_an_api_server_that_is_gone(
    kubectl: FakeKubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "UNREAD_SECONDS", 0.0)
    kubectl.looks(MOVING, ConnectionError("The connection to the server was refused"))
    done = run("status", "qwen")
    assert (done.exit_code, done.stderr) == (1, "error: The connection to the server was refused\n")


@pytest.mark.parametrize("looks", [(None,), (MOVING, None)], ids=["never there", "deleted meanwhile"])
def test_status_fails_where_there_is_no_model(kubectl: FakeKubectl, looks: tuple[Any, ...]) -> None:
    kubectl.looks(*looks)
    done = run("status", "qwen")
    assert (done.exit_code, done.stderr) == (1, "error: vllmmodel.vllm.echo-roots.io/qwen not found\n")


def test_status_fails_at_once_where_the_first_look_is_refused(kubectl: FakeKubectl) -> None:
    kubectl.looks(PermissionError("Error from server (Forbidden): not for you"), SETTLED)
    done = run("status", "qwen")
    assert (done.exit_code, done.stderr) == (1, "error: Error from server (Forbidden): not for you\n")


def test_status_without_watch_looks_once_and_fails_only_where_the_rollout_does(kubectl: FakeKubectl) -> None:
    kubectl.looks(MOVING, STALLED)
    assert run("status", "qwen", "--no-watch").exit_code == 0
    assert run("status", "qwen", "--no-watch").exit_code == 1
    assert len(kubectl.asked()) == 2


def test_status_fails_where_another_revision_than_the_one_that_is_asked_for_rolls_out(kubectl: FakeKubectl) -> None:
    kubectl.looks(MOVING, SETTLED)
    kubectl.says(REVISIONS, {"items": [revision(1, 1), revision(2, 2)]})
    done = run("status", "qwen", "--revision", "1")
    assert done.exit_code == 1
    assert done.stderr == "error: desired revision (1) is different from the running revision (2)\n"
    kubectl.looks(SETTLED)
    assert run("status", "qwen", "--revision", "2").exit_code == 0


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_status_as_data_is_one_document_whatever_happened_before(kubectl: FakeKubectl, form: str, read: Any) -> None:
    kubectl.looks(MOVING, STALLED)
    done = run("status", "qwen", "-o", form)
    assert done.exit_code == 1
    assert read(done.stdout) == {
        "name": "qwen",
        "state": "Failed",
        "message": "the rollout of qwen is stalled: Fails: undo it",
        "note": "",
        "replicas": 1,
        "updatedReplicas": 0,
        "readyReplicas": 1,
        "rollout": None,
    }


# ------------------------------------------------------------------------------------------------------------- history


def test_history_lists_the_revisions_with_what_each_changed(kubectl: FakeKubectl) -> None:
    kubectl.says(MODEL, model())
    kubectl.says(REVISIONS, {"items": [revision(2, 2048, cause="longer\x1b[31m prompts"), revision(1, 1024)]})
    done = run("history", "qwen")
    assert done.exit_code == 0, done.output
    heads, first, second = done.stdout.splitlines()
    assert heads.split() == ["REVISION", "CURRENT", "CREATED", "CHANGE-CAUSE", "CHANGES"]
    assert first.split() == ["1", "-", "2026-11-22T10:00:00Z", "-", "-"]
    assert second.split("  ")[-1] == "engine.maxModelLen: 1024 -> 2048"
    assert "longer [31m prompts" in second, "nothing that writes to the terminal"
    (asked,) = [words for words in kubectl.asked() if REVISIONS in words]
    selected = dict(pair.split("=") for pair in asked[asked.index("--selector") + 1].split(","))
    assert selected == labels("qwen", "revision")


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_history_as_data_holds_the_specs(kubectl: FakeKubectl, form: str, read: Any) -> None:
    kubectl.says(MODEL, model())
    kubectl.says(REVISIONS, {"items": [revision(2, 2048), revision(1, 1024)]})
    found = read(run("history", "qwen", "-o", form).stdout)
    assert [(one["revision"], one["current"], one["spec"]["engine"]) for one in found] == [
        (1, False, {"maxModelLen": 1024}),
        (2, True, {"maxModelLen": 2048}),
    ]


def test_history_of_one_revision_is_all_of_it(kubectl: FakeKubectl) -> None:
    kubectl.says(MODEL, model())
    kubectl.says(REVISIONS, {"items": [revision(1, 1024)]})
    found = yaml.safe_load(run("history", "qwen", "--revision", "1").stdout)
    assert (found["name"], found["template"]) == ("qwen-1", {"spec": {"containers": []}})
    missing = run("history", "qwen", "--revision", "7")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "unable to find specified revision 7 in history (there are: 1)" in missing.stderr


def test_history_of_a_model_that_is_not_there_is_an_error(kubectl: FakeKubectl) -> None:
    kubectl.says(MODEL, LookupError("Error from server (NotFound): no qwen"))
    done = run("history", "qwen")
    assert (done.exit_code, done.stderr) == (1, "error: Error from server (NotFound): no qwen\n")


# ---------------------------------------------------------------------------------------------------------------- undo


def test_undo_puts_the_spec_back_if_it_is_still_the_one_that_was_read(kubectl: FakeKubectl) -> None:
    kubectl.says(MODEL, model(engine={"maxModelLen": 2048}, rollout={"strategy": "InPlace"}))
    kubectl.says(REVISIONS, {"items": [revision(1, 1024), revision(2, 2048)]})
    done = run("undo", "qwen")
    assert (done.exit_code, done.stdout) == (0, "vllmmodel.vllm.echo-roots.io/qwen rolled back to revision 1\n")
    asked = kubectl.patches()[0][3]["value"][ROLLED_BACK_TO].partition(" ")[0]
    assert 0 <= (datetime.now(UTC) - datetime.fromisoformat(asked)).total_seconds() < 60
    assert kubectl.patches() == [
        [
            {"op": "test", "path": "/metadata/uid", "value": "u-1"},
            {"op": "test", "path": "/metadata/generation", "value": 3},
            {"op": "test", "path": "/metadata/resourceVersion", "value": "100"},
            {"op": "add", "path": "/metadata/annotations", "value": {ROLLED_BACK_TO: f"{asked} qwen-1"}},
            {
                "op": "replace",
                "path": "/spec",
                "value": {
                    "model": {"source": "org/tiny"},
                    "replicas": 2,
                    "rollout": {"strategy": "InPlace"},
                    "engine": {"maxModelLen": 1024},
                },
            },
        ]
    ]
    (words,) = [words for words in kubectl.asked() if "patch" in words]
    assert words[words.index("--field-manager") + 1] == "kubectl-rollout"
    assert not [word for word in words if word.startswith("--dry-run")]


def test_undo_goes_to_the_revision_that_is_asked_for(kubectl: FakeKubectl) -> None:
    kubectl.says(MODEL, model(engine={"maxModelLen": 3}))
    kubectl.says(REVISIONS, {"items": [revision(number, number) for number in (1, 2, 3)]})
    assert run("undo", "qwen", "--to-revision", "1").exit_code == 0
    assert kubectl.patches()[0][-1]["value"]["engine"] == {"maxModelLen": 1}


def test_undo_to_what_the_spec_says_already_is_skipped(kubectl: FakeKubectl) -> None:
    kubectl.says(MODEL, model(engine={"maxModelLen": 2}))
    kubectl.says(REVISIONS, {"items": [revision(1, 1), revision(2, 2)]})
    done = run("undo", "qwen", "--to-revision", "2")
    assert done.exit_code == 0
    assert done.stdout == "skipped rollback (the current spec already matches revision 2)\n"
    assert kubectl.patches() == []


def test_undo_of_a_restart_asks_for_the_pods_of_before_and_leaves_other_annotations(kubectl: FakeKubectl) -> None:
    found = model(engine={"maxModelLen": 2})
    found["metadata"]["annotations"] = {RESTARTED_AT: "2026-11-22T10:00:00Z"}
    kubectl.says(MODEL, found)
    kubectl.says(REVISIONS, {"items": [revision(1, 2), revision(2, 2)]})
    assert run("undo", "qwen").stdout == "vllmmodel.vllm.echo-roots.io/qwen rolled back to revision 1\n"
    *_, step, spec = kubectl.patches()[0]
    assert step["path"] == "/metadata/annotations/vllm.echo-roots.io~1rolled-back-to"
    assert step["value"].endswith(" qwen-1")
    assert spec["value"] == found["spec"]


def test_undo_of_the_template_alone_is_refused_where_engines_always_have_the_newest(kubectl: FakeKubectl) -> None:
    kubectl.says(MODEL, model(engine={"maxModelLen": 2}, rollout={"templateUpdates": "Automatic"}))
    kubectl.says(REVISIONS, {"items": [revision(1, 2), revision(2, 2)]})
    done = run("undo", "qwen", "--to-revision", "1")
    assert (done.exit_code, kubectl.patches()) == (1, [])
    assert "error: revision 1 differs in the operator's pod template alone" in done.stderr


@pytest.mark.parametrize(
    ("words", "kept", "paused", "error"),
    [
        ((), [1], False, "no rollout history found"),
        (("--to-revision", "9"), [1, 2], False, "unable to find specified revision 9"),
        ((), [1, 2], True, "you cannot roll back a paused model; resume it first with `kubectl vllm rollout resume qw"),
    ],
)
def test_undo_says_why_it_cannot(
    kubectl: FakeKubectl, words: tuple[str, ...], kept: list[int], *, paused: bool, error: str
) -> None:
    kubectl.says(MODEL, model(engine={"maxModelLen": kept[-1]}, rollout={"paused": paused}))
    kubectl.says(REVISIONS, {"items": [revision(number, number) for number in kept]})
    done = run("undo", "qwen", *words)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"error: {error}" in done.stderr
    assert kubectl.patches() == []


@pytest.mark.parametrize(("kind", "mark"), [("client", "(dry run)"), ("server", "(server dry run)")])
def test_undo_can_be_tried_without_a_change(kubectl: FakeKubectl, kind: str, mark: str) -> None:
    kubectl.says(MODEL, model())
    kubectl.says(REVISIONS, {"items": [revision(1, 1)]})
    assert run("undo", "qwen", "--dry-run", kind).stdout.endswith(f"rolled back to revision 1 {mark}\n")
    assert f"--dry-run={kind}" in kubectl.asked()[-1]


def test_undo_can_print_the_model_as_kubectl_does(kubectl: FakeKubectl) -> None:
    kubectl.says(MODEL, model())
    kubectl.says(REVISIONS, {"items": [revision(1, 1)]})
    assert run("undo", "qwen", "-o", "name").stdout == "patched\n"
    assert kubectl.asked()[-1][-2:] == ["--output", "name"]


def test_undo_reads_anew_where_somebody_changed_the_model_meanwhile(kubectl: FakeKubectl) -> None:
    scaled = model(engine={"maxModelLen": 2}, replicas=7)
    scaled["metadata"] |= {"generation": 4, "resourceVersion": "101"}
    kubectl.says(MODEL, model(engine={"maxModelLen": 2}), scaled)
    kubectl.says(REVISIONS, {"items": [revision(1, 1), revision(2, 2)]})
    kubectl.says(PATCH, ValueError("The request is invalid: the server rejected our request"), "patched\n")
    done = run("undo", "qwen")
    assert (done.exit_code, done.stderr) == (0, "")
    assert [patch[1]["value"] for patch in kubectl.patches()] == [3, 4]
    assert kubectl.patches()[-1][-1]["value"]["replicas"] == 7


def test_undo_tells_a_refusal_that_reading_anew_does_not_mend_once(kubectl: FakeKubectl) -> None:
    kubectl.says(MODEL, model(engine={"maxModelLen": 2}))
    kubectl.says(REVISIONS, {"items": [revision(1, 1), revision(2, 2)]})
    kubectl.says(PATCH, PermissionError("Error from server (Forbidden): not for you"))
    done = run("undo", "qwen")
    assert (done.exit_code, done.stderr) == (1, "error: Error from server (Forbidden): not for you\n")
    assert len(kubectl.patches()) == 1


# ----------------------------------------------------------------------------------------------- restart, pause, resume


def test_restart_asks_by_the_annotation_that_kubectl_uses_for_deployments(kubectl: FakeKubectl) -> None:
    kubectl.says(MODEL, model())
    done = run("restart", "qwen")
    assert (done.exit_code, done.stdout) == (0, "vllmmodel.vllm.echo-roots.io/qwen restarted\n")
    (patch,) = kubectl.patches()
    (asked,) = patch["metadata"]["annotations"].items()
    assert asked[0] == "kubectl.kubernetes.io/restartedAt"
    assert asked[1].endswith("Z")


@pytest.mark.parametrize(
    ("verb", "spec", "error"),
    [
        ("restart", {"rollout": {"paused": True}}, "cannot restart a paused model (run `kubectl vllm rollout resume`"),
        ("pause", {"rollout": {"paused": True}}, "is already paused"),
        ("resume", {}, "is not paused"),
    ],
)
def test_what_makes_no_sense_is_an_error_and_writes_nothing(
    kubectl: FakeKubectl, verb: str, spec: dict[str, Any], error: str
) -> None:
    kubectl.says(MODEL, model(**spec))
    done = run(verb, "qwen")
    assert done.exit_code == 1
    assert f"error: vllmmodel.vllm.echo-roots.io/qwen: {error}" in done.stderr
    assert kubectl.patches() == []


@pytest.mark.parametrize(
    ("verb", "spec", "patch", "word"),
    [
        ("pause", {}, {"spec": {"rollout": {"paused": True}}}, "paused"),
        ("resume", {"rollout": {"paused": True}}, {"spec": {"rollout": {"paused": False}}}, "resumed"),
    ],
)
def test_pause_and_resume_change_one_field(
    kubectl: FakeKubectl, verb: str, spec: dict[str, Any], patch: dict[str, Any], word: str
) -> None:
    kubectl.says(MODEL, model(**spec))
    done = run(verb, "qwen")
    assert (done.exit_code, done.stdout) == (0, f"vllmmodel.vllm.echo-roots.io/qwen {word}\n")
    assert kubectl.patches() == [patch]


def test_several_models_are_changed_and_one_that_cannot_be_does_not_stop_the_others(kubectl: FakeKubectl) -> None:
    kubectl.says(MODEL, LookupError("Error from server (NotFound): no first"), model())
    done = run("restart", "first", "qwen", "qwen")
    assert done.exit_code == 1
    assert done.stderr == "error: vllmmodel.vllm.echo-roots.io/first: Error from server (NotFound): no first\n"
    assert done.stdout == "vllmmodel.vllm.echo-roots.io/qwen restarted\n"


def test_models_are_chosen_by_labels(kubectl: FakeKubectl) -> None:
    kubectl.says(MODEL, {"items": [model()]}, model())
    assert run("pause", "-l", "team=a").stdout == "vllmmodel.vllm.echo-roots.io/qwen paused\n"
    assert kubectl.asked()[0][:4] == ["get", MODEL, "--selector", "team=a"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "name the models, or select them by --selector"),
        (("qwen", "-l", "a=b"), "name the models, or select them by --selector"),
        (("-l", "a=b"), "no VLLMModel has the labels a=b"),
        (("deployment/qwen",), "deployment/qwen: only a VLLMModel is rolled out here"),
    ],
)
def test_without_a_model_there_is_an_error(kubectl: FakeKubectl, words: tuple[str, ...], error: str) -> None:
    kubectl.says(MODEL, {"items": []})
    done = run("restart", *words)
    assert done.exit_code == 1
    assert f"error: {error}" in done.stderr


def test_the_page_names_every_command_and_option() -> None:
    page = (REPOSITORY / "docs" / "rollout-commands.md").read_text(encoding="utf-8")
    group = get_command(rollout)
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        assert f"## {name}" in page or f", {name}\n" in page, name
        for option in command.params:
            if option.param_type_name == "option":
                assert any(word in page for word in (*option.opts, *option.secondary_opts)), (name, option.opts)
