"""How far a rollout is, from the model and its Deployment."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.api.revisions import HANDLED_AT, RESTARTED_AT, ROLLED_BACK_TO
from vllm_operator.cli.rollout.progress import State, progress

EARLY, LATE = "2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z"
READY = {"type": "Ready", "status": "True", "reason": "AllEnginesServe", "message": "3 of 3 engines serve"}
NOT_READY = {"type": "Ready", "status": "False", "reason": "RollingOut", "message": "2 of 3 engines serve"}
SETTLED = [{"type": "Reconciling", "status": "False"}, {"type": "Stalled", "status": "False"}]
MOVING = [{"type": "Reconciling", "status": "True"}, {"type": "Stalled", "status": "False"}]
STALLED = [
    {"type": "Reconciling", "status": "False"},
    {"type": "Stalled", "status": "True", "reason": "RevisionFails", "message": "exit code 2; undo it"},
]


def model(conditions: list[dict[str, Any]], /, *, asked: str = "", rollout: Any = None, **spec: Any) -> dict[str, Any]:
    """A model whose newest spec was seen."""
    return {
        "metadata": {"name": "qwen", "generation": 2, "annotations": {RESTARTED_AT: asked} if asked else {}},
        "spec": {"replicas": 3, **spec},
        "status": {"observedGeneration": 2, "conditions": conditions, **({"rollout": rollout} if rollout else {})},
    }


def deployment(updated: int = 3, replicas: int = 3, *, seen: int = 5, restarted: str = "") -> dict[str, Any]:
    """Its Deployment, of generation 5."""
    annotations = {RESTARTED_AT: restarted} if restarted else {}
    return {
        "metadata": {"generation": 5},
        "spec": {"template": {"metadata": {"annotations": annotations}}},
        "status": {"observedGeneration": seen, "replicas": replicas, "updatedReplicas": updated},
    }


def test_it_is_complete_when_all_engines_serve_and_are_of_the_newest_template() -> None:
    seen = progress(model([READY, *SETTLED]), deployment())
    assert (seen.state, seen.message, seen.note) == (State.COMPLETE, "qwen successfully rolled out", "")


def test_it_is_complete_where_no_engine_is_wanted_and_says_so() -> None:
    none = {"type": "Ready", "status": "False", "reason": "ScaledToZero", "message": "spec.replicas is 0"}
    seen = progress(model([none, *SETTLED]), deployment(0, 0))
    assert (seen.state, seen.message) == (State.COMPLETE, "qwen successfully rolled out: spec.replicas is 0")


def test_a_spec_that_the_operator_has_not_seen_is_not_rolled_out_whatever_the_status_says() -> None:
    for conditions in ([READY, *SETTLED], [NOT_READY, *STALLED]):
        unseen = model(conditions)
        unseen["metadata"]["generation"] = 3
        seen = progress(unseen, deployment())
        assert seen.state is State.PROGRESSING
        assert "has not followed generation 3 of qwen yet" in seen.message


def test_a_model_without_a_status_is_waited_for() -> None:
    assert progress({"metadata": {"name": "qwen", "generation": 1}, "spec": {}}, {}).state is State.PROGRESSING


@pytest.mark.parametrize(
    "behind",
    [deployment(seen=4), deployment(updated=2), deployment(replicas=4)],
    ids=["its controller has not seen it", "one engine is old", "one old engine is left"],
)
def test_a_deployment_that_is_behind_is_waited_for_although_the_status_is_ready(behind: dict[str, Any]) -> None:
    assert progress(model([READY, *SETTLED]), behind).state is State.PROGRESSING


def test_a_stalled_rollout_has_failed_with_the_cause_and_the_way_out() -> None:
    seen = progress(model([NOT_READY, *STALLED]), deployment(updated=1))
    assert seen.state is State.FAILED
    assert seen.message == "the rollout of qwen is stalled: RevisionFails: exit code 2; undo it"


def test_what_was_stalled_before_the_deployment_changed_is_waited_for() -> None:
    assert progress(model([NOT_READY, *STALLED]), deployment(seen=4)).state is State.PROGRESSING


@pytest.mark.parametrize(
    ("template", "state"),
    [
        ("", State.PROGRESSING),
        (EARLY, State.PROGRESSING),
        (LATE, State.COMPLETE),
        ("2026-11-22T14:30:00+03:00", State.COMPLETE),
        ("2026-11-22T13:30:00+03:00", State.PROGRESSING),
        ("yesterday", State.PROGRESSING),
    ],
)
def test_a_restart_is_waited_for_until_the_template_has_it_or_a_later_one(template: str, state: State) -> None:
    seen = progress(model([READY, *SETTLED], asked=LATE), deployment(restarted=template))
    assert seen.state is state, seen


def test_what_was_stalled_before_a_restart_is_told_and_waited_for() -> None:
    seen = progress(model([NOT_READY, *STALLED], asked=LATE), deployment(updated=1))
    assert seen.state is State.PROGRESSING
    assert seen.message == "the operator has not restarted qwen yet; RevisionFails: exit code 2; undo it"


@pytest.mark.parametrize(
    ("handled", "restarted", "state"),
    [
        ("", "", State.PROGRESSING),
        (EARLY, EARLY, State.PROGRESSING),
        (LATE, EARLY, State.COMPLETE),
        ("", LATE, State.COMPLETE),
    ],
    ids=["never", "something before", "it", "a restart at that time or later"],
)
def test_a_rollback_is_waited_for_until_the_deployment_has_it(handled: str, restarted: str, state: State) -> None:
    asked = model([READY, *SETTLED], asked=EARLY)
    asked["metadata"]["annotations"][ROLLED_BACK_TO] = f"{LATE} qwen-1"
    found = deployment(restarted=restarted)
    found["metadata"]["annotations"] = {HANDLED_AT: handled} if handled else {}
    seen = progress(asked, found)
    assert seen.state is state, seen


def test_a_restart_that_was_rolled_back_is_not_waited_for() -> None:
    found = deployment(restarted=EARLY)
    found["metadata"]["annotations"] = {HANDLED_AT: LATE}
    assert progress(model([READY, *SETTLED], asked=LATE), found).state is State.COMPLETE


def test_what_was_stalled_before_a_rollback_is_told_and_waited_for() -> None:
    asked = model([NOT_READY, *STALLED])
    asked["metadata"]["annotations"][ROLLED_BACK_TO] = f"{LATE} qwen-1"
    seen = progress(asked, deployment(updated=1))
    assert seen.state is State.PROGRESSING
    assert seen.message == "the operator has not rolled back qwen yet; RevisionFails: exit code 2; undo it"


def test_a_restart_before_a_pause_is_not_waited_for() -> None:
    paused = model([READY, *SETTLED], asked=LATE)
    paused["spec"]["rollout"] = {"paused": True}
    assert "restarted" not in progress(paused, deployment()).message


def test_progress_tells_how_many_engines_are_updated_in_which_way_and_why_the_others_are_not() -> None:
    told = {"strategy": "InPlace", "updated": 1, "wanted": 3, "revision": "qwen-1", "reason": "no node for one more"}
    seen = progress(model([NOT_READY, *MOVING], rollout=told), deployment(updated=1))
    assert seen.state is State.PROGRESSING
    assert seen.message == (
        "waiting for the rollout of qwen to finish: 1 of 3 engines are updated (InPlace: no node for one more); "
        "RollingOut: 2 of 3 engines serve"
    )


def test_a_rollout_that_is_under_way_by_the_status_is_not_complete() -> None:
    told = {"strategy": "Surge", "updated": 0, "wanted": 3}
    assert progress(model([READY, *SETTLED], rollout=told), deployment()).state is State.PROGRESSING


def test_without_a_rollout_in_the_status_the_deployment_tells() -> None:
    seen = progress(model([NOT_READY, *MOVING]), deployment(updated=1))
    assert "1 of 3 engines are updated; RollingOut" in seen.message
    assert "0 of 3 engines are updated" in progress(model([NOT_READY, *MOVING]), deployment(seen=4)).message
    assert "there is no Deployment yet" in progress(model([NOT_READY, *MOVING]), {}).message


def test_a_paused_rollout_waits_and_says_how_it_goes_on() -> None:
    paused = model([NOT_READY, *MOVING])
    paused["spec"]["rollout"] = {"paused": True}
    seen = progress(paused, deployment(updated=1))
    assert seen.state is State.PROGRESSING
    assert "it is paused, and goes on after `kubectl vllm rollout resume qwen`; 1 of 3" in seen.message


def test_a_template_that_waits_is_a_note_and_no_reason_to_wait() -> None:
    pending = {"type": "TemplateUpdatePending", "status": "True", "message": "image of the manager"}
    seen = progress(model([READY, *SETTLED, pending]), deployment())
    assert seen.state is State.COMPLETE
    assert seen.note == (
        "a newer pod template of the operator waits (image of the manager): "
        "`kubectl vllm rollout restart qwen` takes it"
    )
