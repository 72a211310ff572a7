"""Engines wait for a claim that a Job fills: which Jobs there are, who shares them, and what is told meanwhile."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.resources import (
    NOW,
    as_desired,
    as_live,
    condition,
    deployment_status,
    live,
    observation,
    pod,
    resource,
)
from vllm_operator.api.live import ObjectKey, key_of
from vllm_operator.api.resource import parse_resource
from vllm_operator.planner.decide import decide
from vllm_operator.planner.namespace import decide_namespace
from vllm_operator.planner.plan import NamespaceObservation
from vllm_operator.planner.prefetch import (
    JobAction,
    JobAnswer,
    JobSeen,
    PrefetchSeen,
    changes,
    job_answer,
    newest_pod,
)
from vllm_operator.render.catalog import catalog
from vllm_operator.render.manager import program as manager_program
from vllm_operator.render.prefetch import jobs, program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.planner.plan import Plan

DEPLOYMENT = ObjectKey("Deployment", "qwen")
COMPLETE: dict[str, Any] = {"conditions": [{"type": "Complete", "status": "True"}]}


def prefetched(
    name: str = "qwen", *, claim: str = "models", revision: str | None = None, **spec: Any
) -> dict[str, Any]:
    """A model whose claim is filled before."""
    source = {"source": "org/model", **({"revision": revision} if revision else {}), **spec.pop("model", {})}
    wanted = spec.pop("prefetch", {})
    return resource(name, model=source, storage={"cache": {"existingClaim": claim, "prefetch": wanted}}, **spec)


def job(
    raw: Mapping[str, Any], *, owners: tuple[str, ...] = ("qwen",), answer: JobAnswer | None = None, **status: Any
) -> JobSeen:
    """The Job of a model, live."""
    body = copy.deepcopy(jobs(parse_resource(raw))[0])
    references = [{"apiVersion": "v", "kind": "VLLMModel", "name": name, "uid": f"uid-of-{name}"} for name in owners]
    body["metadata"]["ownerReferences"] = references
    return JobSeen(as_live(live(body, **status), "Job"), answer=answer)


def seen(*found: JobSeen, **more: Any) -> PrefetchSeen:
    return PrefetchSeen({one.live.name: one for one in found}, **more)


def decided(raw: dict[str, Any], found: PrefetchSeen | None, children: Any = None, *pods: Any) -> Plan:
    return decide(observation(raw, children, *pods, prefetch=found))


def made(plan: Plan) -> list[str]:
    return [write.desired["kind"] for write in plan.writes]


def ready(plan: Plan) -> dict[str, Any]:
    assert plan.status
    return condition(plan.status, "Ready")


def test_a_new_model_gets_a_job_and_everything_but_its_engines() -> None:
    plan = decided(prefetched(), seen())
    (change,) = plan.jobs
    assert (change.action, change.body["metadata"]["ownerReferences"][0]["name"]) == (JobAction.MAKE, "qwen")
    assert not change.body["metadata"]["ownerReferences"][0].get("controller")
    assert "Deployment" not in made(plan)
    assert {"Service", "ConfigMap"} <= set(made(plan))
    assert plan.look_again_at is not None


def test_engines_are_made_once_the_job_is_complete_and_start_offline() -> None:
    raw = prefetched()
    plan = decided(raw, seen(job(raw, **COMPLETE)))
    assert plan.jobs == ()
    (deployment,) = [write.desired for write in plan.writes if write.desired["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in container["env"]


@pytest.mark.parametrize("found", [None, seen(), seen(unreadable="Jobs cannot be read: forbidden")])
def test_no_engine_is_made_while_it_is_not_known_that_all_is_there(found: PrefetchSeen | None) -> None:
    assert "Deployment" not in made(decided(prefetched(), found))


def serving(raw: dict[str, Any]) -> tuple[dict[ObjectKey, dict[str, Any]], dict[str, Any]]:
    """The children of a model whose engine serves, and its pod."""
    children = as_desired(raw)
    children[DEPLOYMENT]["status"] = deployment_status(1)
    return children, pod(ready=True)


def test_a_new_revision_is_downloaded_while_the_old_one_serves_and_then_rolls_out() -> None:
    old, new = prefetched(), prefetched(revision="v2", generation=2)
    children, engine = serving(old)
    both = seen(job(old, **COMPLETE), job(new))
    plan = decided(new, both, children, engine)
    assert "Deployment" not in made(plan)
    assert ready(plan)["reason"] == "Prefetching"
    assert ready(plan)["message"].startswith("1 of 1 engines serve; engines wait until org/model (v2)")
    assert plan.status
    assert condition(plan.status, "Available")["status"] == "True"
    whole = seen(job(old, **COMPLETE), job(new, **COMPLETE))
    assert "Deployment" in made(decided(new, whole, children, engine))


def test_what_is_scaled_while_a_new_revision_comes_is_scaled_with_the_pods_of_before() -> None:
    old, new = prefetched(), prefetched(revision="v2", generation=2, replicas=3)
    children, engine = serving(old)
    plan = decided(new, seen(job(old, **COMPLETE), job(new)), children, engine)
    (deployment,) = [write.desired for write in plan.writes if write.desired["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 3
    before, after = children[DEPLOYMENT]["spec"]["template"], deployment["spec"]["template"]
    assert after["spec"]["containers"] == before["spec"]["containers"]


def test_an_edit_that_is_taken_back_leaves_the_engines_alone_and_deletes_the_job_of_the_other_revision() -> None:
    old, new = prefetched(), prefetched(revision="v2")
    children, engine = serving(old)
    back = {**old, "metadata": {**old["metadata"], "generation": 3}}
    plan = decided(back, seen(job(new)), children, engine)
    assert "Deployment" not in made(plan)
    actions = {change.action: change.name for change in plan.jobs}
    assert actions == {JobAction.DELETE: job(new).live.name, JobAction.MAKE: job(old).live.name}
    assert ready(plan)["status"] == "True"


def test_a_job_that_somebody_deletes_after_it_was_done_stops_no_engine() -> None:
    raw = prefetched()
    children, engine = serving(raw)
    plan = decided(raw, seen(), children, engine)
    assert ready(plan)["status"] == "True"
    assert [change.action for change in plan.jobs] == [JobAction.MAKE]


def test_models_with_the_same_claim_and_source_share_a_job_that_goes_with_the_last_of_them() -> None:
    first, second = prefetched(), prefetched("other")
    assert jobs(parse_resource(first))[0]["metadata"]["name"] == jobs(parse_resource(second))[0]["metadata"]["name"]
    other, elsewhere = parse_resource(second), parse_resource(prefetched("third", claim="another"))
    assert jobs(elsewhere)[0]["metadata"]["name"] != jobs(other)[0]["metadata"]["name"]
    (join,) = changes(other, seen(job(first)))
    assert [one["name"] for one in join.body["metadata"]["ownerReferences"]] == ["qwen", "other"]
    both = job(first, owners=("qwen", "other"))
    assert changes(other, seen(both)) == ()
    gone = parse_resource(resource("other"))
    (leave,) = changes(gone, seen(both))
    assert [one["name"] for one in leave.body["metadata"]["ownerReferences"]] == ["qwen"]
    (delete,) = changes(gone, seen(job(first, owners=("other",))))
    assert delete.action is JobAction.DELETE
    assert changes(gone, seen(job(first))) == (), "it is somebody else's"


def test_a_job_that_is_not_done_is_made_anew_where_its_pod_is_to_be_another() -> None:
    before, after = prefetched(), prefetched(model={"tokenSecret": {"name": "hub", "key": "token"}})
    (change,) = changes(parse_resource(after), seen(job(before)))
    assert (change.action, changes(parse_resource(after), seen(job(before, **COMPLETE)))) == (JobAction.DELETE, ())
    other = prefetched("zeta", model={"tokenSecret": {"name": "hub", "key": "token"}})
    shared = job(before, owners=("qwen", "zeta"))
    assert changes(parse_resource(other), seen(shared)) == (), "the first of its owners says how it is"


def test_a_suspended_model_downloads_nothing_and_keeps_what_is_done() -> None:
    raw = prefetched(suspend=True)
    plan = decided(raw, seen(job(raw)))
    assert [change.action for change in plan.jobs] == [JobAction.DELETE]
    assert (ready(plan)["reason"], "Deployment" in made(plan)) == ("Suspended", False)
    assert decided(raw, seen(job(raw, **COMPLETE))).jobs == ()


def test_everything_that_an_engine_would_download_has_a_job() -> None:
    raw = prefetched(
        model={"tokenizer": "org/tokenizer", "tokenizerRevision": "t1"},
        engine={"speculativeDecoding": {"numSpeculativeTokens": 2, "model": "org/draft", "revision": "d1"}},
        lora={"adapters": [{"name": "a", "source": "hf://org/adapter"}, {"name": "b", "source": "pvc://x/y"}]},
    )
    assert len(jobs(parse_resource(raw))) == 4
    done = [JobSeen(as_live(live(body, **COMPLETE), "Job")) for body in jobs(parse_resource(raw))]
    assert "Deployment" not in made(decided(raw, seen(*done[:3])))
    assert "Deployment" in made(decided(raw, seen(*done)))


def told(answer: JobAnswer) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The entry of status.prefetch, Ready and Stalled."""
    raw = prefetched()
    plan = decided(raw, seen(job(raw, answer=answer)))
    assert plan.status
    return plan.status["prefetch"][0], ready(plan), condition(plan.status, "Stalled")


def test_the_status_tells_how_far_it_is() -> None:
    entry, condition_ready, stalled = told(
        JobAnswer("Downloading", commit="c" * 40, bytes_done=5, bytes_total=20, bytes_per_second=3, seconds_left=5)
    )
    assert {name: entry[name] for name in ("source", "revision", "commit", "state")} == {
        "source": "org/model",
        "revision": "main",
        "commit": "c" * 40,
        "state": "Downloading",
    }
    numbers = [entry[name] for name in ("bytesDone", "bytesTotal", "bytesPerSecond", "secondsLeft")]
    assert numbers == [5, 20, 3, 5]
    assert condition_ready["reason"] == "Prefetching"
    assert not any(digit in condition_ready["message"].partition("engines wait")[2] for digit in "520")
    assert stalled["status"] == "False"


@pytest.mark.parametrize(
    ("reason", "is_stalled"),
    [
        ("Gated", "True"),
        ("WrongRevision", "True"),
        ("DiskFull", "True"),
        ("RateLimited", "False"),
        ("Corrupt", "False"),
    ],
)
def test_what_keeps_it_from_going_on_is_told_and_whether_somebody_has_to_act(reason: str, is_stalled: str) -> None:
    entry, condition_ready, stalled = told(JobAnswer("Waiting", reason, "what to do"))
    assert (entry["state"], entry["reason"]) == ("Waiting", reason)
    assert (condition_ready["reason"], stalled["status"]) == ("PrefetchFails", is_stalled)
    assert f"org/model (main) cannot be downloaded ({reason}): what to do" in condition_ready["message"]


def test_an_answer_that_is_none_of_the_program_is_no_progress() -> None:
    assert job_answer({"state": 1}) is None
    assert job_answer(["Downloading"]) is None
    assert job_answer({"state": "Downloading", "bytes_done": "7", "seconds_left": True}) == JobAnswer("Downloading")
    assert told(JobAnswer("of a newer program"))[0]["state"] == "Downloading"


def test_a_pod_that_is_done_is_no_job_that_is_complete() -> None:
    entry, condition_ready, _ = told(JobAnswer("Complete", bytes_done=9, bytes_total=9))
    assert (entry["state"], condition_ready["reason"]) == ("Verifying", "Prefetching")
    assert "engines wait until org/model (main)" in condition_ready["message"]


def test_what_was_told_of_a_download_stays_while_its_pod_is_made_anew() -> None:
    raw = prefetched()
    first = decided(raw, seen(job(raw, answer=JobAnswer("Downloading", commit="c", bytes_done=5, bytes_total=20))))
    again = decided({**raw, "status": first.status}, seen(job(raw)))
    assert again.status
    entry = again.status["prefetch"][0]
    assert (entry["state"], entry["bytesDone"], entry["commit"]) == ("Pending", 5, "c")


def pod_of_job(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "prefetch-1", "creationTimestamp": "2026-11-22T11:00:00Z"}, "status": status}


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]},
            "Unschedulable",
            "0/3 nodes are available",
        ),
        (
            {
                "containerStatuses": [
                    {"name": "prefetch", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "m"}}}
                ]
            },
            "ImagePullBackOff",
            "does not start (ImagePullBackOff): m",
        ),
        (
            {
                "containerStatuses": [
                    {
                        "name": "prefetch",
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"message": "python3: not found"}},
                    }
                ]
            },
            "CrashLoopBackOff",
            "python3: not found",
        ),
    ],
)
def test_a_job_whose_pod_does_not_run_is_told_with_the_pods_words(status: Any, reason: str, words: str) -> None:
    raw = prefetched()
    found = JobSeen(job(raw).live, pod=pod_of_job(**status))
    plan = decided(raw, seen(found))
    assert plan.status
    assert plan.status["prefetch"][0]["reason"] == reason
    assert words in ready(plan)["message"]


def test_of_the_pods_of_a_job_the_one_that_goes_on_counts() -> None:
    over = {**pod_of_job(phase="Failed"), "metadata": {"name": "b", "creationTimestamp": "2026-11-22T12:00:00Z"}}
    assert newest_pod([over, pod_of_job(phase="Running")])["metadata"]["name"] == "prefetch-1"  # type: ignore[index] # there is one
    assert newest_pod([]) is None


def test_a_job_that_the_api_server_refuses_is_told_and_not_tried_at_once_again() -> None:
    raw = prefetched()
    plan = decided(raw, seen(refusals={job(raw).live.name: "Job x: exceeded quota"}))
    assert plan.jobs == ()
    assert (ready(plan)["reason"], "exceeded quota" in ready(plan)["message"]) == ("PrefetchFails", True)
    assert plan.look_again_at is not None
    assert plan.look_again_at > NOW


def test_the_program_is_in_a_namespace_for_as_long_as_a_model_asks_for_it() -> None:
    def planned(raw: dict[str, Any], *shared: dict[str, Any]) -> tuple[list[str], list[str]]:
        live_shared = {key_of(one): as_live(live(one)) for one in shared}
        plan = decide_namespace(NamespaceObservation("team", (as_live(raw, "VLLMModel"),), live_shared, NOW))
        made_now = [write.desired["metadata"]["name"] for write in plan.writes]
        return made_now, [deletion.live.name for deletion in plan.deletions]

    assert "vllm-prefetch" in planned(prefetched())[0]
    assert "vllm-prefetch" not in planned(resource())[0]
    shared = [program("team"), manager_program("team"), *catalog("team", [resource()])]
    assert planned(resource(), *shared) == ([], ["vllm-prefetch"])
