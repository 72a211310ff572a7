"""What a real API server makes of revisions and of a Deployment whose pod template is adopted."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.support.resources import desired
from tests.support.waiting import until
from vllm_operator.api import revisions
from vllm_operator.api.groups import size_of
from vllm_operator.api.meta import FIELD_MANAGER
from vllm_operator.planner.adoption import applied_template
from vllm_operator.planner.compare import same
from vllm_operator.planner.reasons import differences

if TYPE_CHECKING:
    from tests.support.namespace import Namespace
    from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api_server

EXAMPLES: Final = Path(__file__).parent.parent / "data" / "render"


def examples() -> list[dict[str, Any]]:
    """The resources of the golden tests."""
    paths = [path for path in sorted(EXAMPLES.glob("*.yaml")) if ".expected." not in path.name]
    found = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths]
    models = [raw for raw in found if raw["kind"] == "VLLMModel"]
    return [{**raw, "metadata": {"name": f"model-{number}"}} for number, raw in enumerate(models)]


def applied(quiet: Namespace, *documents: dict[str, Any], manager: str = FIELD_MANAGER) -> None:
    """Apply as the operator does."""
    way = ("--server-side", "--force-conflicts", "--field-manager", manager, "--filename", "-")
    quiet.kubectl("apply", *way, document={"apiVersion": "v1", "kind": "List", "items": list(documents)})


def in_namespace(quiet: Namespace, raw: dict[str, Any], kind: str) -> dict[str, Any]:
    """A child of a model, without an owner: the model itself is not there."""
    identity = {"namespace": quiet.name, "uid": "u", "resourceVersion": "1", "generation": 1}
    metadata = {**raw["metadata"], **identity}
    found = next(one for one in desired({**raw, "metadata": metadata}) if one["kind"] == kind)
    return {**found, "metadata": {key: part for key, part in found["metadata"].items() if key != "ownerReferences"}}


def test_the_template_that_was_applied_is_found_again_among_what_others_added(quiet: Namespace) -> None:
    of_one_pod = [raw for raw in examples() if size_of(raw["spec"]) == 1]
    deployments = [in_namespace(quiet, raw, "Deployment") for raw in of_one_pod]
    assert len(deployments) > 10
    applied(quiet, *deployments)
    names = [one["metadata"]["name"] for one in deployments]
    quiet.kubectl("set", "env", *(f"deployment/{name}" for name in names), "INJECTED=1")
    quiet.kubectl("rollout", "restart", *(f"deployment/{name}" for name in names))
    for before in deployments:
        live = quiet.get("deployment", before["metadata"]["name"])
        assert "INJECTED" in str(live["spec"]["template"])
        found = applied_template(live)
        one, other = ({"spec": {"template": part}} for part in (found, before["spec"]["template"]))
        assert same(one, other), differences(one, other) + differences(other, one)
        assert "INJECTED" not in str(found)
        assert revisions.restart_of(found) == ""
        assert revisions.restart_of(live["spec"]["template"])
        applied(quiet, {**before, "spec": {**before["spec"], "template": found}})
        after = quiet.get("deployment", before["metadata"]["name"])
        assert after["metadata"]["generation"] == live["metadata"]["generation"], "applied again, it rolls nothing"


def test_the_data_of_a_revision_come_back_as_they_were_and_never_change(quiet: Namespace) -> None:
    patch = {"spec": {"nodeSelector": None, "hostAliases": [], "volumes": [{"name": "v", "emptyDir": {}}]}}
    spec = {"model": {"source": "a/b"}, "engine": {"gpuMemoryUtilization": 0.9}, "pod": {"patch": patch}}
    raw = {**examples()[0], "spec": spec}
    before = in_namespace(quiet, raw, "ControllerRevision")
    applied(quiet, before)
    live = quiet.get("controllerrevision", before["metadata"]["name"])
    assert live["data"] == before["data"]
    applied(quiet, {**before, "revision": 7})
    again = quiet.get("controllerrevision", before["metadata"]["name"])
    assert (again["revision"], again["data"]) == (7, before["data"])
    quiet.kubectl("label", "controllerrevision", before["metadata"]["name"], "changed=by-hand")
    (found,) = revisions.revisions_of([again])
    assert revisions.same_pods(found.spec, spec)
    changed = copy.deepcopy(before)
    changed["data"]["spec"]["model"]["source"] = "other"
    with pytest.raises(Exception, match="field is immutable"):
        applied(quiet, changed)


@pytest.mark.parametrize("letter", ["<", "\U0001f600", '"', "\n"])
def test_the_longest_chat_template_fits_into_a_revision(quiet: Namespace, letter: str) -> None:
    text = letter * 131072
    raw = {**examples()[0], "spec": {"model": {"source": "a/b", "chatTemplate": {"inline": text}}}}
    before = in_namespace(quiet, raw, "ControllerRevision")
    applied(quiet, before)
    (found,) = revisions.revisions_of(
        [json.loads(json.dumps(quiet.get("controllerrevision", before["metadata"]["name"])))]
    )
    assert found.config == {"chat-template.jinja": text}


def length(namespace: Namespace) -> str:
    """The model length that the engines are started with, as the live Deployment says."""
    found = namespace.get("deployment", "qwen")["spec"]["template"]["spec"]["containers"][0]["args"]
    return str(found[found.index("--max-model-len") + 1])


def test_an_undo_of_the_deployment_is_repaired_and_a_restart_of_it_is_not_reverted(
    operator: OperatorProcess, namespace: Namespace
) -> None:
    namespace.model(engine={"maxModelLen": 1024})
    namespace.wait_for("deployment", "qwen")
    namespace.model(engine={"maxModelLen": 2048})
    until(lambda: length(namespace) == "2048", what="the edit")
    until(lambda: len(namespace.kubectl("get", "replicasets", "--output", "name").split()) == 2, what="its ReplicaSet")
    looks = operator.looks()
    namespace.kubectl("rollout", "undo", "deployment/qwen")
    operator.wait_for_look(looks)
    until(lambda: length(namespace) == "2048", what="the repair")
    namespace.kubectl("rollout", "restart", "deployment/qwen")
    asked = revisions.restart_of(namespace.get("deployment", "qwen")["spec"]["template"])
    assert asked

    def recorded() -> list[str]:
        found = namespace.list("controllerrevisions")
        return [one.restarted_at for one in revisions.revisions_of(found)]

    until(lambda: recorded() == [asked, ""], what="the restart in the current revision")
    looks = operator.looks()
    namespace.kubectl("annotate", "deployment", "qwen", "looked=at")
    operator.wait_for_look(looks)
    assert revisions.restart_of(namespace.get("deployment", "qwen")["spec"]["template"]) == asked
    assert namespace.condition("TemplateUpdatePending")["status"] == "False"
