"""`kubectl vllm rollout` on a real API server, whose operator and controllers are the test."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.cluster.processes import stop
from tests.support.plugin import run, said
from tests.support.told_models import tell
from vllm_operator.api.names import labels
from vllm_operator.api.revisions import COMPONENT, RESTARTED_AT, ROLLED_BACK_TO, data_of, revision_name
from vllm_operator.cli.kubectl import Kubectl, KubectlError
from vllm_operator.cli.rollout import objects
from vllm_operator.cli.rollout.objects import DryRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.namespace import Namespace

pytestmark = pytest.mark.api_server

NAMED = "vllmmodel.vllm.echo-roots.io/qwen"
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "qwen"}},
    "spec": {"containers": [{"name": "vllm", "image": "example.com/v"}]},
}


def spec(namespace: Namespace) -> dict[str, Any]:
    """The spec of the model as it is stored."""
    found: dict[str, Any] = namespace.get("vllmmodel", "qwen")["spec"]
    return found


def record(namespace: Namespace, number: int, cause: str = "", template: Mapping[str, Any] = TEMPLATE) -> None:
    """Keep the spec as it is now as a revision, as the operator does."""
    data = data_of(spec(namespace), template, {})
    metadata = {
        "name": revision_name("qwen", data),
        "labels": labels("qwen", COMPONENT),
        "annotations": {"kubernetes.io/change-cause": cause} if cause else {},
    }
    revision = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "data": data}
    namespace.kubectl("apply", "--filename", "-", document={**revision, "revision": number})


def edit(namespace: Namespace, **fields: object) -> None:
    """Change the spec, as a user does."""
    namespace.kubectl("patch", "vllmmodel", "qwen", "--type=merge", "--patch", json.dumps({"spec": fields}))


@pytest.fixture
def edited(quiet: Namespace) -> Namespace:
    """A model of two revisions, whose number of replicas somebody else has set since."""
    quiet.model(engine={"maxModelLen": 1024}, rollout={"strategy": "InPlace"})
    record(quiet, 1)
    edit(quiet, engine={"maxModelLen": 2048, "maxNumSeqs": 8})
    record(quiet, 2, cause="longer prompts")
    quiet.kubectl("scale", "vllmmodel/qwen", "--replicas=3")
    return quiet


def test_the_history_is_what_the_controller_revisions_hold(edited: Namespace) -> None:
    heads, first, second = said(edited, "rollout", "history", "qwen").splitlines()
    assert heads.split() == ["REVISION", "CURRENT", "CREATED", "CHANGE-CAUSE", "CHANGES"]
    assert first.split()[:2] == ["1", "-"]
    assert second.endswith("longer prompts  engine.maxModelLen: 1024 -> 2048, engine.maxNumSeqs: unset -> 8")
    one = yaml.safe_load(said(edited, "rollout", "history", "vllmmodel/qwen", "--revision", "1", "-o", "yaml"))
    assert one["spec"]["engine"]["maxModelLen"] == 1024
    assert one["template"]["spec"] == TEMPLATE["spec"]


def test_an_undo_brings_back_the_pods_alone_and_each_field_stays_with_who_set_it(edited: Namespace) -> None:
    before = spec(edited)
    assert said(edited, "rollout", "undo", "qwen") == f"{NAMED} rolled back to revision 1\n"
    after = spec(edited)
    engine = {name: value for name, value in before["engine"].items() if name != "maxNumSeqs"}
    assert after == {**before, "engine": {**engine, "maxModelLen": 1024}}
    owners = {one["manager"]: one for one in edited.get("vllmmodel", "qwen")["metadata"]["managedFields"]}
    assert owners["kubectl-rollout"]["fieldsV1"]["f:spec"] == {"f:engine": {"f:maxModelLen": {}}}
    assert "f:replicas" in json.dumps(owners["kubectl"]) or "f:replicas" in json.dumps(owners["kubectl-scale"])


def test_undo_twice_is_as_it_was(edited: Namespace) -> None:
    before = spec(edited)
    said(edited, "rollout", "undo", "qwen")
    assert said(edited, "rollout", "undo", "qwen") == f"{NAMED} rolled back to revision 2\n"
    assert spec(edited) == before
    again = said(edited, "rollout", "undo", "qwen", "--to-revision", "2")
    assert again == "skipped rollback (the current spec already matches revision 2)\n"


@pytest.mark.parametrize(("kind", "mark"), [("client", "(dry run)"), ("server", "(server dry run)")])
def test_an_undo_can_be_tried(edited: Namespace, kind: str, mark: str) -> None:
    before = edited.get("vllmmodel", "qwen")
    words = ("rollout", "undo", "qwen", "--dry-run", kind)
    assert said(edited, *words) == f"{NAMED} rolled back to revision 1 {mark}\n"
    shown = yaml.safe_load(said(edited, *words, "-o", "yaml"))
    assert shown["spec"]["engine"]["maxModelLen"] == 1024
    assert shown["spec"]["replicas"] == 3
    assert edited.get("vllmmodel", "qwen") == before


def test_a_spec_longer_than_an_argument_of_a_program_can_be_comes_back(quiet: Namespace) -> None:
    template = "{# a long one #}" * 8190
    quiet.kubectl(
        "create",
        "--filename",
        "-",
        document=quiet.document(model={"source": "a/b", "chatTemplate": {"inline": template}}),
    )
    record(quiet, 1)
    edit(quiet, model={"chatTemplate": None})
    record(quiet, 2)
    said(quiet, "rollout", "undo", "qwen")
    assert spec(quiet)["model"]["chatTemplate"] == {"inline": template}


@pytest.mark.parametrize("change", ["edited", "made anew"])
def test_a_model_that_is_not_the_one_that_was_read_is_not_undone(
    edited: Namespace, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in edited.cluster.env.items():
        monkeypatch.setenv(name, value)
    kubectl = Kubectl(edited.name, "")
    seen = objects.model(kubectl, "qwen")
    if change == "edited":
        edited.kubectl("scale", "vllmmodel/qwen", "--replicas=4")
    else:
        edited.kubectl("delete", "vllmmodel", "qwen")
        edited.model(replicas=4)
    with pytest.raises(KubectlError):
        objects.replace_spec(kubectl, seen, {"model": {"source": "old/one"}}, {}, dry_run=DryRun.NONE, output="")
    assert spec(edited)["replicas"] == 4
    assert objects.is_changed(kubectl, seen) or change == "made anew"


def test_an_undo_of_a_restart_is_an_annotation_beside_those_of_others(edited: Namespace) -> None:
    edited.kubectl("annotate", "vllmmodel", "qwen", "example.com/mine=1")
    record(edited, 3, template={**TEMPLATE, "metadata": {"labels": {"app": "newer"}}})
    before = edited.get("vllmmodel", "qwen")
    assert said(edited, "rollout", "undo", "qwen") == f"{NAMED} rolled back to revision 2\n"
    after = edited.get("vllmmodel", "qwen")
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])
    annotations = after["metadata"]["annotations"]
    at, name = annotations.pop(ROLLED_BACK_TO).split()
    assert annotations == before["metadata"]["annotations"]
    assert edited.get("controllerrevision", name)["revision"] == 2
    assert said(edited, "rollout", "undo", "qwen") == f"{NAMED} rolled back to revision 3\n"
    again = edited.get("vllmmodel", "qwen")["metadata"]["annotations"][ROLLED_BACK_TO]
    assert again > at, "also within the same second"


def test_a_restart_is_an_annotation_and_no_edit_of_the_spec(edited: Namespace) -> None:
    before = edited.get("vllmmodel", "qwen")
    assert said(edited, "rollout", "restart", "qwen") == f"{NAMED} restarted\n"
    after = edited.get("vllmmodel", "qwen")
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["metadata"]["annotations"][RESTARTED_AT].endswith("Z")


def test_pause_and_resume_and_what_a_pause_forbids(edited: Namespace) -> None:
    edited.kubectl("label", "vllmmodel", "qwen", "team=a")
    assert said(edited, "rollout", "pause", "--selector", "team=a") == f"{NAMED} paused\n"
    assert spec(edited)["rollout"] == {**spec(edited)["rollout"], "paused": True, "strategy": "InPlace"}
    for verb, error in (
        ("pause", f"error: {NAMED}: is already paused\n"),
        ("restart", f"error: {NAMED}: cannot restart a paused model (run `kubectl vllm rollout resume` first)\n"),
        ("undo", "error: you cannot roll back a paused model; resume it first with `kubectl vllm rollout resume qwen`"),
    ):
        done = run(edited, "rollout", verb, "qwen")
        assert done.returncode == 1
        assert done.stderr.startswith(error)
    assert said(edited, "rollout", "resume", "qwen", "-o", "name") == f"{NAMED}\n"
    assert not spec(edited)["rollout"].get("paused")


def test_the_status_is_that_of_model_and_deployment(edited: Namespace) -> None:
    waits = said(edited, "rollout", "status", "qwen", "--no-watch")
    assert waits.startswith("the operator has not followed generation")
    tell(edited, ("Ready", "False", "EnginesStarting", "0 of 3 engines serve"), ("Reconciling", "True", "A", ""))
    assert said(edited, "rollout", "status", "qwen", "--no-watch") == (
        "waiting for the rollout of qwen to finish: there is no Deployment yet; EnginesStarting: 0 of 3 engines serve\n"
    )
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "qwen"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "qwen"}}, "template": TEMPLATE},
    }
    edited.kubectl("create", "--filename", "-", document=deployment)
    tell(edited, ("Ready", "True", "AllEnginesServe", "3 of 3"), ("Reconciling", "False", "AsDesired", ""))
    late = run(edited, "rollout", "status", "qwen", "--timeout", "12s")
    assert late.returncode == 1
    assert "error: timed out after 12 s: waiting for the rollout of qwen to finish: 0 of 3 engines" in late.stderr
    counts = {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3}
    patch = json.dumps({"status": counts})
    edited.kubectl("patch", "deployment", "qwen", "--subresource=status", "--type=merge", "--patch", patch)
    assert said(edited, "rollout", "status", "qwen") == "qwen successfully rolled out\n"
    assert json.loads(said(edited, "rollout", "status", "qwen", "-o", "json"))["state"] == "Complete"
    tell(edited, ("Reconciling", "False", "A", ""), ("Stalled", "True", "InvalidSpec", "mend it"))
    failed = run(edited, "rollout", "status", "qwen")
    assert (failed.returncode, failed.stderr) == (1, "error: the rollout of qwen is stalled: InvalidSpec: mend it\n")
    missing = run(edited, "rollout", "status", "nobody")
    assert (missing.returncode, missing.stderr) == (1, "error: vllmmodel.vllm.echo-roots.io/nobody not found\n")


def test_the_status_ends_in_its_time_where_the_api_server_does_not_answer(edited: Namespace) -> None:
    said(edited, "rollout", "status", "qwen", "--no-watch")
    server = edited.cluster.process("kube-apiserver")
    stop(server.pid)
    try:
        done = run(edited, "rollout", "status", "qwen", "--timeout", "2s")
    finally:
        server.kill(signal.SIGCONT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
