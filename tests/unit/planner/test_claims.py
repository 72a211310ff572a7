"""A claim goes only where no spec wants it, nothing mounts it and it is not to be kept."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import (
    NOW,
    as_desired,
    as_live,
    child_of,
    deployment_status,
    live,
    observation,
    pod,
    resource,
)
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import INSTANCE, KEPT_FOR, labels
from vllm_operator.planner.claims import ClaimsSeen, handing_over, in_question, mounts_of
from vllm_operator.planner.decide import CLAIM_AGAIN_AFTER, decide
from vllm_operator.planner.owners import belongs
from vllm_operator.planner.plan import Observation, Plan

CACHE = ObjectKey("PersistentVolumeClaim", "qwen-cache")
DEPLOYMENT = ObjectKey("Deployment", "qwen")
MADE: dict[str, Any] = {"storage": {"cache": {"persistentVolumeClaim": {"size": "1Gi"}}}}
KEPT: dict[str, Any] = {"storage": {"cache": {"persistentVolumeClaim": {"size": "1Gi", "keep": True}}}}
NOBODY = ClaimsSeen(mounted_by={})

MENTIONED: dict[str, dict[str, Any]] = {
    "cache": {"storage": {"cache": {"existingClaim": "qwen-cache"}}},
    "model": {"model": {"source": "pvc://qwen-cache/model"}},
    "volume": {"pod": {"volumes": [{"name": "x", "persistentVolumeClaim": {"claimName": "qwen-cache"}}]}},
    "patch": {
        "pod": {"patch": {"spec": {"volumes": [{"name": "x", "persistentVolumeClaim": {"claimName": "qwen-cache"}}]}}}
    },
    "adapter": {"lora": {"adapters": [{"name": "a", "source": "pvc://qwen-cache/a"}]}},
}


def claim() -> dict[str, Any]:
    """The live claim that the model has had made."""
    return live(child_of(resource(**MADE), "PersistentVolumeClaim", suffix="-cache"))


def seen(claims: ClaimsSeen, *pods: dict[str, Any], **spec: Any) -> Observation:
    """A model whose spec has become this one, and whose engines have been replaced since."""
    raw = resource(generation=2, **spec)
    found = as_desired(raw, **deployment_status(1))
    found.setdefault(CACHE, claim())
    return observation(raw, found, *pods, claims=claims)


@pytest.mark.parametrize("spec", MENTIONED.values(), ids=MENTIONED)
def test_a_claim_that_the_spec_mounts_by_its_name_is_handed_over_and_not_deleted(spec: dict[str, Any]) -> None:
    plan = decide(seen(NOBODY, **spec))
    assert plan.deletions == ()
    assert [found.key for found in plan.releases] == [CACHE]


def test_a_claim_that_another_model_mounts_is_handed_over_and_not_deleted() -> None:
    plan = decide(seen(ClaimsSeen(of_others=frozenset({"qwen-cache"}), mounted_by={})))
    assert plan.deletions == ()
    assert [found.key for found in plan.releases] == [CACHE]


def test_a_claim_of_another_model_that_this_one_mounts_is_handed_over() -> None:
    theirs = live(child_of(resource("llama", **MADE), "PersistentVolumeClaim", suffix="-cache"))
    raw = resource(storage={"cache": {"existingClaim": "llama-cache"}})
    plan = decide(observation(raw, as_desired(raw), claims=ClaimsSeen(borrowed=(as_live(theirs),))))
    assert plan.releases == (as_live(theirs),)


def test_a_claim_of_the_models_own_that_another_mounts_too_has_no_owner_and_that_is_told() -> None:
    raw = resource(**MADE)
    around = observation(raw, as_desired(raw), claims=ClaimsSeen(of_others=frozenset({"qwen-cache"})))
    (write,) = decide(around).writes
    assert "ownerReferences" not in write.desired["metadata"]
    told = decide(around).status
    assert told is not None
    sentence = "PersistentVolumeClaim qwen-cache: another model mounts it too, so it stays when this one is deleted"
    assert sentence in told["warnings"]


def test_a_claim_that_nobody_wants_and_nothing_mounts_is_deleted() -> None:
    assert [one.live.key for one in decide(seen(NOBODY)).deletions] == [CACHE]


def test_nobody_is_asked_and_nothing_deleted_before_the_engines_have_been_replaced() -> None:
    raw = resource(generation=2)
    before = as_desired(resource(**MADE), **deployment_status(1))
    plan = decide(observation(raw, before, claims=NOBODY))
    assert [write.desired["kind"] for write in plan.writes] == ["ControllerRevision", "Deployment"]
    assert not in_question(observation(raw, before))

    for status in (deployment_status(2, updated=1), {**deployment_status(1), "observedGeneration": 0}):
        rolling = {**as_desired(raw, **status), CACHE: claim()}
        assert not in_question(observation(raw, rolling))
    assert in_question(seen(ClaimsSeen()))
    assert decide(seen(ClaimsSeen())).deletions == ()


def test_a_claim_that_an_engine_mounts_which_is_on_its_way_out_stays_without_a_word() -> None:
    leaving = pod()
    leaving["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    around = seen(ClaimsSeen(mounted_by={"qwen-cache": "qwen-1"}), leaving)
    plan = decide(around)
    assert (plan.deletions, plan.releases, plan.look_again_at) == ((), (), None)
    assert "warnings" not in (plan.status or {})


def test_a_claim_that_somebody_elses_pod_mounts_stays_and_that_is_told() -> None:
    plan = decide(seen(ClaimsSeen(mounted_by={"qwen-cache": "copy-job"})))
    assert (plan.deletions, plan.releases) == ((), ())
    assert plan.look_again_at == NOW + CLAIM_AGAIN_AFTER
    assert plan.status is not None
    (warning,) = plan.status["warnings"]
    assert "PersistentVolumeClaim qwen-cache" in warning
    assert "pod copy-job mounts it" in warning
    assert "spec.storage.cache.existingClaim" in warning


def test_a_claim_that_is_kept_is_neither_deleted_nor_touched() -> None:
    kept = live(child_of(resource(**KEPT), "PersistentVolumeClaim", suffix="-cache"))
    raw = resource(generation=2)
    found = {**as_desired(raw, **deployment_status(1)), CACHE: kept}
    plan = decide(observation(raw, found, pod(ready=True), claims=NOBODY))
    assert (plan.writes, plan.releases, plan.deletions) == ((), (), ())


def test_the_owner_of_an_earlier_model_is_left_to_garbage_collection() -> None:
    earlier = claim()
    earlier["metadata"]["ownerReferences"][0]["uid"] = "an-earlier-one"
    raw = resource(generation=2)
    found = {**as_desired(raw, **deployment_status(1)), CACHE: earlier}
    plan = decide(observation(raw, found, claims=NOBODY))
    assert (plan.releases, plan.deletions) == ((), ())


# --- the labels of what is kept


def handed_over(found: dict[str, Any]) -> dict[str, Any]:
    """A claim after it was handed over."""
    changes = handing_over(as_live(found))["metadata"]
    kept = {key: value for key, value in found["metadata"]["labels"].items() if changes["labels"].get(key, key)}
    kept |= {key: value for key, value in changes["labels"].items() if value}
    metadata = {**found["metadata"], "labels": kept, "ownerReferences": changes["ownerReferences"] or []}
    return {**found, "metadata": metadata}


def test_what_is_kept_has_no_label_by_which_a_gitops_tool_takes_it_for_its_own() -> None:
    kept = child_of(resource(**KEPT), "PersistentVolumeClaim", suffix="-cache")
    for found in (kept, handed_over(claim())):
        assert INSTANCE not in found["metadata"]["labels"]
        assert found["metadata"]["labels"][KEPT_FOR] == "qwen"
        assert not found["metadata"].get("ownerReferences")
        assert belongs("qwen", as_live(found))
        assert not belongs("llama", as_live(found))


def test_a_claim_that_an_earlier_version_kept_loses_the_labels_of_a_child_and_stays_the_models() -> None:
    earlier = claim()
    earlier["metadata"] |= {"ownerReferences": [], "labels": labels("qwen", "cache")}
    assert belongs("qwen", as_live(earlier))
    raw = resource(generation=2)
    found = {**as_desired(raw, **deployment_status(1)), CACHE: earlier}
    plan = decide(observation(raw, found, pod(ready=True)))
    assert plan.releases == (as_live(earlier),)
    assert belongs("qwen", as_live(handed_over(earlier)))
    after = {**found, CACHE: handed_over(earlier)}
    assert decide(observation(raw, after, pod(ready=True))).releases == ()
    by_hand = {**earlier, "metadata": {**earlier["metadata"], "annotations": {}}}
    assert decide(observation(raw, {**found, CACHE: by_hand}, pod(ready=True))).releases == (), "the operator made none"
    raw = resource(**KEPT)
    (write,) = decide(observation(raw, {**as_desired(raw), CACHE: earlier})).writes
    assert INSTANCE not in write.desired["metadata"]["labels"]


def test_owners_that_are_no_controllers_stay() -> None:
    found = claim()
    beside = {"kind": "Other", "name": "x", "uid": "y"}
    found["metadata"]["ownerReferences"].append(beside)
    assert handing_over(as_live(found))["metadata"]["ownerReferences"] == [beside]


def test_a_claim_that_was_handed_over_is_the_models_again_when_its_spec_asks_for_one() -> None:
    raw = resource(generation=3, **MADE)
    found = {**as_desired(raw, **deployment_status(1)), CACHE: handed_over(claim())}
    plan = decide(observation(raw, found))
    (write,) = plan.writes
    assert write.ours
    assert write.desired["metadata"]["ownerReferences"][0]["name"] == "qwen"
    assert plan.releases == ()


def test_an_edit_and_its_undo_leave_everything_as_it_was() -> None:
    raw = resource(generation=3, **MADE)
    found = as_desired(raw, **deployment_status(1))
    raw["status"] = decide(observation(raw, found, pod(ready=True))).status
    assert decide(observation(raw, found, pod(ready=True), claims=NOBODY)) == Plan()


def test_one_pod_is_named_for_each_claim() -> None:
    volumes = [{"name": "x", "persistentVolumeClaim": {"claimName": "a"}}]
    assert mounts_of([{"metadata": {"name": "one"}, "spec": {"volumes": volumes}}]) == {"a": "one"}
