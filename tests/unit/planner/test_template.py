"""Which pods a model gets: the ones that are kept for its spec, until the user changes it or asks for other ones."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import given, settings

from tests.support.resources import NOW, as_live, condition, observation, resource
from tests.support.specs import specs
from tests.support.world import World
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import DESIRED_HASH, POD_SPEC_HASH
from vllm_operator.api.revisions import CHANGE_CAUSE, HANDLED_AT, RESTARTED_AT, ROLLED_BACK_TO
from vllm_operator.planner import template
from vllm_operator.planner.decide import decide
from vllm_operator.planner.plan import Plan
from vllm_operator.render import children, environment, files, pod
from vllm_operator.render.children import forget_children

if TYPE_CHECKING:
    from collections.abc import Callable

DEPLOYMENT = ObjectKey("Deployment", "qwen")
CONFIG = ObjectKey("ConfigMap", "qwen-config")
FIRST, SECOND, THIRD, FOURTH = (f"2026-11-26T0{hour}:00:00Z" for hour in (6, 7, 8, 9))
LONGER: dict[str, Any] = {"maxModelLen": 8192}


class Fleet(World):
    """One model, in a world in which each look is carried out until nothing is left to do."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(resource(**spec))
        self.look()

    def look(self) -> list[str]:
        """Look until all is as decided; returns the kinds that were written or deleted."""
        changed = []
        for _ in range(4):
            plan = self.decide()
            changed += [write.desired["kind"] for write in plan.writes]
            changed += [f"-{deletion.live.kind}" for deletion in plan.deletions]
            self.carry_out(plan)
            self.settle()
        plan = self.decide()
        assert not plan.changes
        assert plan.status is None
        return changed

    def edit(self, **spec: Any) -> list[str]:
        """Change parts of the spec."""
        self.change(**spec)
        return self.look()

    def change(self, **spec: Any) -> None:
        """Change them, and do not look yet."""
        metadata = {**self.raw["metadata"], "generation": self.raw["metadata"]["generation"] + 1}
        self.raw = {**self.raw, "metadata": metadata, "spec": {**self.raw["spec"], **spec}}

    def annotate(self, **annotations: str) -> None:
        """Annotate the model; `restarted` stands for the annotation that asks for a restart."""
        names = {"restarted": RESTARTED_AT, "cause": CHANGE_CAUSE, "undone": ROLLED_BACK_TO}
        self.raw["metadata"].setdefault("annotations", {}).update(
            {names[key]: text for key, text in annotations.items()}
        )

    @property
    def deployment(self) -> dict[str, Any]:
        """The live Deployment."""
        return self.children[DEPLOYMENT]

    @property
    def template(self) -> dict[str, Any]:
        """Its pod template."""
        found: dict[str, Any] = self.deployment["spec"]["template"]
        return found

    @property
    def revisions(self) -> list[dict[str, Any]]:
        """The live revisions, the current one first."""
        found = [child for key, child in self.children.items() if key.kind == "ControllerRevision"]
        return sorted(found, key=lambda child: -child["revision"])

    @property
    def pending(self) -> tuple[str, str]:
        """Whether the status says that a template waits, and its message."""
        found = condition(self.raw["status"], "TemplateUpdatePending")
        return found["status"], found["message"]


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have another version of the operator run, which renders another image."""

    def other(version: str) -> None:
        forget_children()
        monkeypatch.setattr(pod, "image", lambda spec: spec.engine.image or f"vllm/vllm-openai:{version}")

    return other


def image_of(fleet: Fleet) -> str:
    """Image of the engines."""
    return str(fleet.template["spec"]["containers"][0]["image"])


def test_another_version_of_the_operator_writes_nothing_but_that_a_template_waits(
    upgrade: Callable[[str], None],
) -> None:
    fleet = Fleet()
    before = copy.deepcopy(fleet.children)
    assert fleet.pending == ("False", "")
    upgrade("v9")
    assert fleet.look() == []
    assert fleet.children == before
    status, message = fleet.pending
    assert status == "True"
    assert "spec.template.spec.containers[vllm].image: vllm/vllm-openai:v" in message
    assert "-> vllm/vllm-openai:v9" in message
    assert "`kubectl vllm rollout restart qwen` asks for it" in message


def test_replicas_and_the_like_follow_the_spec_and_bring_no_other_pods(upgrade: Callable[[str], None]) -> None:
    fleet = Fleet()
    before = copy.deepcopy(fleet.template)
    upgrade("v9")
    assert fleet.edit(replicas=3) == ["Deployment"]
    fleet.edit(disruption={"minAvailable": 1}, network={"allowFrom": []}, catalog={"weight": 3})
    assert fleet.template == before
    assert len(fleet.revisions) == 1
    assert fleet.pending[0] == "True"


def test_a_change_of_the_spec_brings_the_new_template_and_nothing_waits_any_more(
    upgrade: Callable[[str], None],
) -> None:
    fleet = Fleet()
    upgrade("v9")
    fleet.look()
    assert fleet.edit(engine=LONGER) == ["ControllerRevision", "Deployment"]
    assert image_of(fleet) == "vllm/vllm-openai:v9"
    assert fleet.pending == ("False", "")
    assert [revision["revision"] for revision in fleet.revisions] == [2, 1]


def test_an_undone_change_brings_back_the_very_pods_of_before(upgrade: Callable[[str], None]) -> None:
    fleet = Fleet(engine={})
    before = copy.deepcopy(fleet.template)
    upgrade("v9")
    fleet.edit(engine=LONGER)
    assert fleet.edit(engine={}) == ["ControllerRevision", "Deployment"]
    assert fleet.template == before
    assert fleet.pending[0] == "True"
    assert [revision["revision"] for revision in fleet.revisions] == [3, 2]
    assert fleet.edit(engine=LONGER) == ["ControllerRevision", "Deployment"]
    assert [revision["revision"] for revision in fleet.revisions] == [4, 3]


def test_a_restart_of_the_model_restarts_the_engines_and_brings_the_new_template(
    upgrade: Callable[[str], None],
) -> None:
    fleet = Fleet()
    fleet.annotate(restarted=FIRST)
    assert fleet.look() == ["ControllerRevision", "Deployment"]
    assert len(fleet.revisions) == 1
    assert fleet.template["metadata"]["annotations"][RESTARTED_AT] == FIRST
    upgrade("v9")
    assert fleet.look() == []
    fleet.annotate(restarted=SECOND)
    assert fleet.look() == ["ControllerRevision", "Deployment"]
    assert (image_of(fleet), fleet.template["metadata"]["annotations"][RESTARTED_AT]) == ("vllm/vllm-openai:v9", SECOND)
    assert fleet.pending == ("False", "")
    assert [revision["revision"] for revision in fleet.revisions] == [2, 1]
    assert fleet.revisions[0]["data"]["spec"] == fleet.revisions[1]["data"]["spec"]


def test_a_rollback_brings_back_the_very_pods_that_a_restart_has_replaced(upgrade: Callable[[str], None]) -> None:
    """Those of the older ReplicaSet that still serve, since the new template fails, stay as they are."""
    fleet = Fleet()
    fleet.annotate(restarted=FIRST)
    fleet.look()
    before, (earlier,) = copy.deepcopy(fleet.template), fleet.revisions
    upgrade("v9")
    fleet.annotate(restarted=SECOND)
    fleet.look()
    assert image_of(fleet) == "vllm/vllm-openai:v9"
    later = fleet.revisions[0]
    fleet.annotate(undone=f"{THIRD} {earlier['metadata']['name']}")
    assert fleet.look() == ["ControllerRevision", "Deployment"]
    assert fleet.template == before
    assert fleet.pending[0] == "True"
    assert [(one["metadata"]["name"], one["revision"]) for one in fleet.revisions] == [
        (earlier["metadata"]["name"], 3),
        (later["metadata"]["name"], 2),
    ]
    assert fleet.look() == []
    fleet.annotate(undone=f"{FOURTH} {later['metadata']['name']}")
    fleet.look()
    assert fleet.template["metadata"]["annotations"][RESTARTED_AT] == SECOND
    assert image_of(fleet) == "vllm/vllm-openai:v9"
    assert fleet.deployment["metadata"]["annotations"][HANDLED_AT] == FOURTH


def test_what_follows_a_rollback_is_not_rolled_back(upgrade: Callable[[str], None]) -> None:
    fleet = Fleet()
    (earlier,) = fleet.revisions
    upgrade("v9")
    fleet.annotate(restarted=FIRST)
    fleet.look()
    fleet.annotate(undone=f"{SECOND} {earlier['metadata']['name']}")
    fleet.look()
    assert image_of(fleet) != "vllm/vllm-openai:v9"
    fleet.annotate(restarted=THIRD)
    fleet.look()
    assert image_of(fleet) == "vllm/vllm-openai:v9"
    assert HANDLED_AT not in fleet.deployment["metadata"]["annotations"], "the restart says as much"
    assert fleet.edit(engine=LONGER) == ["ControllerRevision", "Deployment"]
    assert fleet.edit(engine={}) == ["ControllerRevision", "Deployment"]
    assert image_of(fleet) == "vllm/vllm-openai:v9"


def test_a_restart_that_was_followed_is_not_asked_for_again_when_its_revision_has_gone(
    upgrade: Callable[[str], None],
) -> None:
    fleet = Fleet(rollout={"revisionHistoryLimit": 1})
    (earlier,) = fleet.revisions
    upgrade("v9")
    fleet.annotate(restarted=FIRST)
    fleet.look()
    fleet.annotate(undone=f"{SECOND} {earlier['metadata']['name']}")
    fleet.look()
    before = copy.deepcopy(fleet.template)
    fleet.edit(engine=LONGER)
    fleet.edit(engine={})
    assert fleet.template == before
    assert len(fleet.revisions) == 2
    assert fleet.look() == []


@pytest.mark.parametrize(
    "asked",
    [f"{FIRST} qwen-0123456789", f"{FIRST} qwen-client"],
    ids=["a revision that is not there", "another object"],
)
def test_a_rollback_to_what_is_no_revision_of_the_spec_changes_no_engine(asked: str) -> None:
    fleet = Fleet()
    before = copy.deepcopy(fleet.template)
    fleet.annotate(undone=asked)
    fleet.look()
    assert fleet.template == before
    assert fleet.look() == []


def test_a_rollback_is_for_the_spec_that_it_was_asked_with() -> None:
    fleet = Fleet(engine={})
    (earlier,) = fleet.revisions
    fleet.change(engine=LONGER)
    fleet.annotate(undone=f"{FIRST} {earlier['metadata']['name']}")
    fleet.look()
    assert fleet.revisions[0]["data"]["spec"]["engine"] == LONGER


@pytest.mark.parametrize("asked", ["yesterday qwen-1", FIRST, f"{FIRST} "])
def test_a_rollback_in_words_that_nobody_can_follow_is_told(asked: str) -> None:
    fleet = Fleet()
    fleet.annotate(undone=asked)
    assert fleet.look() == []
    (warning,) = fleet.raw["status"]["warnings"]
    assert "[vllm.echo-roots.io/rolled-back-to] is no time in RFC 3339 with the name of a revision behind it" in warning


def test_automatic_stays_with_the_newest_template_whatever_is_rolled_back(upgrade: Callable[[str], None]) -> None:
    fleet = Fleet(rollout={"templateUpdates": "Automatic"})
    (earlier,) = fleet.revisions
    upgrade("v9")
    fleet.look()
    fleet.annotate(undone=f"{FIRST} {earlier['metadata']['name']}")
    fleet.look()
    assert image_of(fleet) == "vllm/vllm-openai:v9"


def test_a_restart_of_the_deployment_is_not_reverted_and_brings_the_new_template(
    upgrade: Callable[[str], None],
) -> None:
    fleet = Fleet()
    fleet.annotate(restarted=FIRST)
    fleet.look()
    upgrade("v9")
    fleet.template["metadata"]["annotations"][RESTARTED_AT] = SECOND
    fleet.look()
    assert (image_of(fleet), fleet.template["metadata"]["annotations"][RESTARTED_AT]) == ("vllm/vllm-openai:v9", SECOND)
    upgrade("v10")
    fleet.annotate(restarted=THIRD)
    fleet.look()
    assert (image_of(fleet), fleet.template["metadata"]["annotations"][RESTARTED_AT]) == ("vllm/vllm-openai:v10", THIRD)


def test_a_restart_stays_when_its_annotation_is_taken_away_or_set_back() -> None:
    fleet = Fleet()
    fleet.annotate(restarted=SECOND)
    fleet.look()
    for left in ({RESTARTED_AT: FIRST}, {}):
        fleet.raw["metadata"]["annotations"] = left
        assert fleet.look() == []
    del fleet.children[DEPLOYMENT]
    assert fleet.look() == ["Deployment"]
    assert fleet.template["metadata"]["annotations"][RESTARTED_AT] == SECOND


def test_a_restart_in_words_that_are_no_time_restarts_nothing_and_is_told() -> None:
    fleet = Fleet()
    fleet.annotate(restarted="now")
    assert fleet.look() == []
    (warning,) = fleet.raw["status"]["warnings"]
    assert warning.endswith("is no time in RFC 3339, so nothing is restarted: now")


def test_automatic_brings_the_new_template_at_once(upgrade: Callable[[str], None]) -> None:
    fleet = Fleet(rollout={"templateUpdates": "Automatic"})
    upgrade("v9")
    assert fleet.look() == ["ControllerRevision", "Deployment"]
    assert image_of(fleet) == "vllm/vllm-openai:v9"
    assert fleet.pending == ("False", "")
    fleet.edit(rollout={"templateUpdates": "OnRestart"})
    upgrade("v10")
    assert fleet.look() == []
    assert fleet.edit(rollout={"templateUpdates": "Automatic"}) == ["ControllerRevision", "Deployment"]


def test_what_somebody_makes_of_the_deployment_is_set_back_to_the_kept_template(upgrade: Callable[[str], None]) -> None:
    fleet = Fleet(engine={})
    earlier = copy.deepcopy(fleet.template)
    fleet.edit(engine=LONGER)
    wanted = copy.deepcopy(fleet.template)
    upgrade("v9")
    fleet.look()
    fleet.deployment["spec"]["template"] = earlier  # kubectl rollout undo deployment/qwen
    assert fleet.look() == ["Deployment"]
    assert fleet.template == wanted
    assert [revision["revision"] for revision in fleet.revisions] == [2, 1]


def test_keys_that_change_reach_kept_pods_without_another_template(upgrade: Callable[[str], None]) -> None:
    fleet = Fleet(auth={"generate": True})
    upgrade("v9")
    image = image_of(fleet)
    del fleet.children[ObjectKey("Secret", "qwen-binding")]
    fleet.fresh_key = "another"
    fleet.now = NOW + timedelta(hours=1)
    assert "Deployment" in fleet.look()
    assert image_of(fleet) == image
    assert len(fleet.revisions) == 1
    assert fleet.pending[0] == "True"


@given(specs())
@settings(max_examples=15, derandomize=True, deadline=None)
def test_whatever_the_spec_another_version_replaces_no_engine_with_history_or_without(spec: dict[str, Any]) -> None:
    fleet = Fleet(**{**spec, "rollout": {}})
    before = copy.deepcopy(fleet.template)
    variables = environment.environment
    forget_children()
    with mock.patch.object(pod, "environment", lambda *of: [*variables(*of), {"name": "NEW", "value": "1"}]):
        assert fleet.look() == []
        assert fleet.pending[0] == "True"
        for key in [key for key in fleet.children if key.kind == "ControllerRevision"]:
            del fleet.children[key]
        del fleet.deployment["metadata"]["annotations"][POD_SPEC_HASH]
        assert fleet.look() == ["ControllerRevision", "Deployment"]
    forget_children()
    assert fleet.template == before
    assert fleet.look() == []
    assert fleet.pending == ("False", "")


# --- what is remembered


def test_an_operator_without_history_leaves_a_deployment_that_keeps_its_pods(upgrade: Callable[[str], None]) -> None:
    fleet = Fleet(model={"source": "a/b", "chatTemplate": {"inline": "{{ messages }}"}})
    before = copy.deepcopy(fleet.children)
    for key in [key for key in fleet.children if key.kind == "ControllerRevision"]:
        del fleet.children[key]
    del fleet.deployment["metadata"]["annotations"][POD_SPEC_HASH]
    upgrade("v9")
    assert fleet.look() == ["ControllerRevision", "Deployment"]
    assert fleet.template == before[DEPLOYMENT]["spec"]["template"]
    assert fleet.children[CONFIG]["data"] == before[CONFIG]["data"]
    assert fleet.pending[0] == "True"
    assert [revision["revision"] for revision in fleet.revisions] == [1]


@pytest.mark.parametrize("reason", ["ChildRefused", "ChildNotWritten", "InvalidSpec", "NameTaken"])
def test_a_deployment_that_may_be_that_of_an_earlier_spec_is_not_adopted(reason: str) -> None:
    fleet = Fleet()
    fleet.children = {key: child for key, child in fleet.children.items() if key.kind != "ControllerRevision"}
    del fleet.deployment["metadata"]["annotations"][POD_SPEC_HASH]
    fleet.change(engine=LONGER)
    _, deployment = fleet.decide().writes
    assert "--max-model-len" in str(deployment.desired), "the status is one of an earlier generation"
    fleet.raw["status"]["observedGeneration"] += 1
    (revision, _) = fleet.decide().writes
    assert "--max-model-len" not in str(revision.desired["data"]["template"])
    next(one for one in fleet.raw["status"]["conditions"] if one["type"] == "Ready")["reason"] = reason
    _, deployment = fleet.decide().writes
    assert "--max-model-len" in str(deployment.desired)


def test_a_revision_that_somebody_deleted_is_made_anew_of_the_live_pods(upgrade: Callable[[str], None]) -> None:
    fleet = Fleet(engine={})
    fleet.edit(engine=LONGER)
    before = copy.deepcopy(fleet.template)
    upgrade("v9")
    fleet.look()
    (current, _) = fleet.revisions
    del fleet.children[ObjectKey("ControllerRevision", current["metadata"]["name"])]
    assert "Deployment" not in fleet.look()
    assert fleet.template == before
    assert fleet.pending[0] == "True"
    assert fleet.revisions[0]["data"]["spec"] == current["data"]["spec"]


def test_a_deployment_and_a_revision_of_which_neither_could_be_written_do_not_keep_the_pods_of_before() -> None:
    fleet = Fleet()
    fleet.change(engine=LONGER)
    fleet.carry_out(Plan(status=fleet.decide().status))  # a webhook that is down lets no object of `apps` through
    revision, deployment = fleet.decide().writes
    assert revision.desired["data"]["spec"]["engine"] == LONGER
    assert "--max-model-len" in str(deployment.desired)


def test_the_history_is_cut_to_its_limit_and_never_the_current_revision() -> None:
    fleet = Fleet(rollout={"revisionHistoryLimit": 2})
    for length in (1024, 2048):
        fleet.edit(engine={"maxModelLen": length})
    assert fleet.edit(engine=LONGER) == ["ControllerRevision", "Deployment", "-ControllerRevision"]
    assert [revision["revision"] for revision in fleet.revisions] == [4, 3, 2]
    assert fleet.edit(rollout={"revisionHistoryLimit": 1}) == ["-ControllerRevision"]
    assert [revision["revision"] for revision in fleet.revisions] == [4, 3]


def test_a_number_that_somebody_raised_makes_that_revision_the_current_one(upgrade: Callable[[str], None]) -> None:
    fleet = Fleet()
    before = copy.deepcopy(fleet.template)
    upgrade("v9")
    fleet.annotate(restarted=FIRST)
    fleet.look()
    fleet.revisions[1]["revision"] = 7
    fleet.look()
    assert [revision["revision"] for revision in fleet.revisions] == [7, 2]
    assert fleet.template["spec"] == before["spec"]
    assert fleet.pending[0] == "True"


def test_an_object_that_holds_no_revision_goes_and_one_that_lost_its_owner_gets_it_back() -> None:
    fleet = Fleet(engine={})
    fleet.edit(engine=LONGER)
    for revision in fleet.revisions:
        del revision["metadata"]["ownerReferences"]
    assert fleet.look() == ["ControllerRevision", "ControllerRevision"]
    assert all(revision["metadata"]["ownerReferences"] for revision in fleet.revisions)
    broken = copy.deepcopy(fleet.revisions[0])
    broken["metadata"]["name"] = "qwen-0000000000"
    broken["data"] = {}
    fleet.children[ObjectKey("ControllerRevision", "qwen-0000000000")] = broken
    assert fleet.look() == ["-ControllerRevision"]


def test_a_revision_of_an_earlier_model_of_the_name_is_left_to_garbage_collection() -> None:
    fleet = Fleet()
    for child in fleet.children.values():
        child["metadata"]["ownerReferences"][0]["uid"] = "of-an-earlier-one"
    fleet.edit(engine=LONGER)
    assert [revision["revision"] for revision in fleet.revisions] == [1, 1]


def test_the_cause_of_a_change_is_remembered_with_its_revision() -> None:
    fleet = Fleet()
    fleet.annotate(cause="longer prompts")
    fleet.edit(engine=LONGER)
    causes = [revision["metadata"]["annotations"].get(CHANGE_CAUSE) for revision in fleet.revisions]
    assert causes == ["longer prompts", None]


def test_files_that_pods_read_stay_with_their_template(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(model={"source": "a/b", "chatTemplate": {"inline": "{{ messages }}"}})
    before = copy.deepcopy(fleet.children)
    forget_children()
    monkeypatch.setattr(children, "config", lambda model: (files.config_of(model, {"new.json": "{}"}),))
    assert fleet.look() == []
    assert fleet.children == before
    assert fleet.pending == ("True", fleet.pending[1])
    assert fleet.pending[1].endswith(": the files of the model's ConfigMap")


def test_an_invalid_spec_says_nothing_of_a_template_that_waits() -> None:
    fleet = Fleet()
    before = copy.deepcopy(fleet.children)
    fleet.change(replicas=-1)
    fleet.carry_out(fleet.decide())
    assert fleet.pending[0] == "Unknown"
    assert fleet.children == before


def test_the_deployment_says_for_which_spec_its_pods_were_made_and_its_hash_ignores_what_is_rendered_now(
    upgrade: Callable[[str], None],
) -> None:
    fleet = Fleet()
    before = dict(fleet.deployment["metadata"]["annotations"])
    upgrade("v9")
    fleet.edit(replicas=2)
    fleet.edit(replicas=1)
    after = fleet.deployment["metadata"]["annotations"]
    assert {name: after[name] for name in (DESIRED_HASH, POD_SPEC_HASH)} == {
        name: before[name] for name in (DESIRED_HASH, POD_SPEC_HASH)
    }


def test_whose_fields_are_is_asked_for_a_deployment_without_a_revision_alone() -> None:
    fleet = Fleet()
    assert not template.needs_managed_fields(observation(fleet.raw, fleet.children))
    alone = {DEPLOYMENT: fleet.deployment}
    assert template.needs_managed_fields(observation(fleet.raw, alone))
    assert not template.needs_managed_fields(observation(fleet.raw, {}))
    assert not template.needs_managed_fields(observation(None, alone))
    leaving = copy.deepcopy(fleet.raw)
    leaving["metadata"]["deletionTimestamp"] = FIRST
    assert not template.needs_managed_fields(observation(leaving, alone))


def test_what_others_added_to_an_adopted_deployment_does_not_become_the_operators() -> None:
    fleet = Fleet()
    (before,) = fleet.revisions
    applied = before["data"]["template"]
    alone = {key: child for key, child in fleet.children.items() if key.kind != "ControllerRevision"}
    seen = observation(fleet.raw, alone, applied_template=applied)
    (write,) = decide(seen).writes
    assert write.desired["data"] == before["data"]
    assert as_live(write.desired).name == before["metadata"]["name"]
