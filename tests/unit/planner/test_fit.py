"""Whether a model has room: an engine that has started is believed first, then spec.estimate; nothing is stopped."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.configs import TINY, config
from tests.support.resources import NOW, as_desired, condition, deployment_status, observation, pod, resource
from vllm_operator.api.capacity import Capacity
from vllm_operator.api.conditions import Reason
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.spec import parse_spec
from vllm_operator.diagnosis.engine_status import EngineStatus, capacity_of
from vllm_operator.diagnosis.lookups import after_lookup
from vllm_operator.fit.description import CONFIG, INDEX
from vllm_operator.planner.decide import decide
from vllm_operator.planner.fit import MISSING_AGAIN_AFTER, Estimated, estimated, unreadable
from vllm_operator.planner.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

DEPLOYMENT = ObjectKey("Deployment", "qwen")
LLAMA = {CONFIG: json.dumps(config("llama-3.1-8b-instruct"))}
GATE = {"containers": [{"name": "vllm", "ports": [{"name": "gate", "containerPort": 8480}]}]}
FIGURES = {"weights_gib": 14.99, "kv_cache_gib": 3.3, "kv_cache_tokens": 26400, "max_model_len": 2048}
STARTED_AT = "2026-11-22T10:00:00Z"
TOO_SMALL = Estimated(Reason.GPU_MEMORY_TOO_SMALL, "too small", Capacity(weights="14.96Gi", kv_cache_tokens=26336))
ROOMY = Estimated(Reason.ESTIMATED_TO_FIT, "has room", Capacity(weights="14.96Gi", kv_cache_tokens=26336))
STARTED = "an engine has started, and reported weights of 14.99Gi, a KV cache of 3.30Gi, room for 26,400 tokens"


def llama(data: Mapping[str, str] = LLAMA, **spec: Any) -> Estimated:
    """What is estimated of Llama 3.1 8B."""
    return estimated(parse_spec({"model": {"source": "meta-llama/Llama-3.1-8B-Instruct"}, **spec}), "llama", data)


# --- what is estimated


def test_a_model_without_room_is_told_with_what_would_fit() -> None:
    found = llama(accelerator={"memory": "24Gi"})
    assert found.told[:2] == ("False", Reason.GPU_MEMORY_TOO_SMALL)
    assert found.message == (
        "1 x a card sold as 24 GB (L4, A10, RTX 4090): weights 14.96 and 2.09 besides, of 20.27 GiB on each GPU, leave "
        "3.22 GiB for the KV cache, and one sequence of 131,072 tokens needs 16.00; it would fit with "
        "spec.engine.maxModelLen 26320, or with spec.parallelism.tensor 2"
    )
    assert found.capacity == Capacity(
        weights="14.96Gi", kv_cache="3.22Gi", kv_cache_tokens=26336, max_model_len=131072, max_concurrency="0.20"
    )


@pytest.mark.parametrize(
    ("spec", "status", "reason", "words"),
    [
        ({"accelerator": {"memory": "80Gi"}}, "True", Reason.ESTIMATED_TO_FIT, "1 x a card sold as 80 GB"),
        (
            {"accelerator": {"memory": "24Gi"}, "parallelism": {"tensor": 2}},
            "True",
            Reason.ESTIMATED_TO_FIT,
            "2 x a card sold as 24 GB",
        ),
        ({}, "Unknown", Reason.GPU_MEMORY_UNKNOWN, "weights take 14.96 GiB of each GPU"),
        (
            {"accelerator": {"profile": "cpu"}, "engine": {"kvCacheMemory": "32G"}},
            "Unknown",
            Reason.GPU_MEMORY_UNKNOWN,
            "on CPU weights of 14.96 GiB, a KV cache of 32.00 and some 3 GiB",
        ),
        (
            {"accelerator": {"profile": "cpu"}, "engine": {"kvCacheMemory": "1G"}},
            "False",
            Reason.GPU_MEMORY_TOO_SMALL,
            "spec.engine.kvCacheMemory is 1.00 GiB, and one sequence of 131,072 tokens needs 16.00",
        ),
        (
            {"accelerator": {"memory": "18Gi"}, "engine": {"maxModelLen": 8192}},
            "Unknown",
            Reason.TIGHT,
            "activations and CUDA graphs decide, which only a start measures; it would fit with spec.",
        ),
        (
            {"accelerator": {"memory": "1Gi"}},
            "False",
            Reason.GPU_MEMORY_TOO_SMALL,
            "take larger GPUs, or a smaller or quantized model",
        ),
        (
            {"parallelism": {"tensor": 3}},
            "Unknown",
            Reason.SIZES_UNKNOWN,
            "spec.parallelism.tensor is 3, and vLLM wants a divisor of the model's 32 attention heads",
        ),
    ],
)
def test_each_verdict_is_a_condition(spec: dict[str, Any], status: str, reason: Reason, words: str) -> None:
    found = llama(**spec)
    assert found.told[:2] == (status, reason), found
    assert words in found.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "has no key config.json: `kubectl vllm estimate"),
        ({CONFIG: "{"}, "config.json of ConfigMap llama is no JSON"),
        ({CONFIG: "{}"}, "no model_type"),
        ({**LLAMA, INDEX: "[]"}, "model.safetensors.index.json must be a JSON object"),
    ],
)
def test_what_describes_no_model_is_told(data: dict[str, str], words: str) -> None:
    found = llama(data)
    assert (found.reason, found.capacity, found.is_missing) == (Reason.SIZES_UNKNOWN, None, False)
    assert words in found.message


odd: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]) | st.just({"a": 1})
)


@given(st.dictionaries(st.sampled_from([*TINY, "quantization_config", "rope_scaling", "sliding_window"]), odd))
def test_whatever_users_write_into_it_the_operator_goes_on(fields: dict[str, Any]) -> None:
    found = llama({CONFIG: json.dumps({**TINY, "num_hidden_layers": 2, **fields})}, accelerator={"memory": "24Gi"})
    assert found.message


# --- what is told


def engine(name: str = "qwen-1", *, hash_of_template: str = "new", started_at: str = STARTED_AT) -> dict[str, Any]:
    """A pod whose engine serves."""
    running = {"started": True, "ready": True, "state": {"running": {"startedAt": started_at}}}
    found = {**pod(name, ready=True, container=running, podIP="10.0.0.5"), "spec": GATE}
    found["metadata"]["labels"]["pod-template-hash"] = hash_of_template
    return found


def looked_up(*pods: dict[str, Any], **figures: Any) -> dict[str, Any]:
    """That the managers of the pods were asked."""
    answer = EngineStatus("serving", ready=True, capacity=capacity_of({**FIGURES, **figures}))
    return {one["metadata"]["uid"]: after_lookup(one, None, answer, NOW) for one in pods}


def decided(raw: dict[str, Any], children: Any, *pods: dict[str, Any], **around: Any) -> dict[str, Any]:
    """The status that follows; what was told before where nothing is news."""
    status = decide(observation(raw, children, *pods, **around)).status
    return dict(raw["status"] if status is None else status)


def fits(status: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Status, reason and message of the condition; None where it is not told."""
    found = [one for one in status["conditions"] if one["type"] == "Fits"]
    return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else None


def test_without_an_estimate_and_without_an_engine_nothing_is_told() -> None:
    raw = resource()
    status = decided(raw, None)
    assert fits(status) is None
    assert "estimate" not in status


def test_the_first_status_of_a_model_says_that_it_has_no_room_and_nothing_waits_for_it() -> None:
    raw = resource()
    plan = decide(observation(raw, estimated=TOO_SMALL))
    assert plan.status is not None
    assert fits(plan.status) == ("False", "GpuMemoryTooSmall", "too small")
    assert plan.status["estimate"] == {"weights": "14.96Gi", "kvCacheTokens": 26336}
    assert {write.desired["kind"] for write in plan.writes} >= {"Deployment", "Service"}
    assert plan.news is not None
    assert (plan.news.type, plan.news.reason, plan.news.message) == ("Warning", "GpuMemoryTooSmall", "too small")
    raw["status"] = plan.status
    again = decide(observation(raw, as_desired(raw), estimated=TOO_SMALL, now=NOW + timedelta(minutes=1)))
    assert again == Plan()


def test_a_config_map_that_is_missing_is_looked_for_again() -> None:
    missing = unreadable("ConfigMap llama does not exist", is_missing=True)
    plan = decide(observation(resource(), as_desired(resource()), estimated=missing))
    assert plan.status is not None
    assert fits(plan.status) == ("Unknown", "SizesUnknown", "ConfigMap llama does not exist")
    assert plan.look_again_at == NOW + MISSING_AGAIN_AFTER


def test_an_engine_that_has_started_is_believed_before_the_estimate() -> None:
    raw = resource()
    children = as_desired(raw, **deployment_status(1))
    status = decided(raw, children, engine(), lookups=looked_up(engine()), estimated=TOO_SMALL)
    told = f"{STARTED}; estimated were weights of 14.96Gi, room for 26,336 tokens"
    assert fits(status) == ("True", "EngineStarted", told)
    assert status["engines"][0]["capacity"] == {
        "weights": "14.99Gi",
        "kvCache": "3.30Gi",
        "kvCacheTokens": 26400,
        "maxModelLen": 2048,
        "startedAt": STARTED_AT,
    }


def test_what_was_reported_stays_told_without_another_question_until_the_engine_starts_again() -> None:
    raw = resource()
    children = as_desired(raw, **deployment_status(1))
    plan = decide(observation(raw, children, engine()))
    assert plan.look_again_at is not None, "its manager is to be asked"
    raw["status"] = decided(raw, children, engine(), lookups=looked_up(engine()))
    assert replace(decide(observation(raw, children, engine())), look_again_at=None) == Plan()
    again = decided(raw, children, engine(started_at="2026-11-22T10:59:00Z"))
    assert "capacity" not in again["engines"][0]
    assert fits(again) is None


def test_of_several_engines_the_one_with_the_least_room_counts() -> None:
    raw = resource(replicas=2)
    children = as_desired(raw, **deployment_status(2))
    one, two = engine("qwen-1"), engine("qwen-2")
    lookups = {**looked_up(one, kv_cache_tokens=500), **looked_up(two, kv_cache_tokens=400)}
    told = fits(decided(raw, children, one, two, lookups=lookups))
    assert told is not None
    assert told[2].endswith("room for 400 tokens")


def test_engines_of_an_older_template_say_nothing_of_the_newest_one() -> None:
    raw = resource()
    children = as_desired(raw, **deployment_status(1, updated=0))
    children[DEPLOYMENT]["status"] |= {"updatedReplicas": 0}
    old = engine(hash_of_template="old")
    assert fits(decided(raw, children, old, lookups=looked_up(old))) is None
    assert fits(decided(raw, children, old, lookups=looked_up(old), estimated=ROOMY)) == (
        "True",
        "EstimatedToFit",
        "has room",
    )


def test_until_the_controller_has_seen_an_edit_what_engines_have_shown_stands_unless_the_estimate_is_against_it() -> (
    None
):
    raw = resource()
    children = as_desired(raw, **deployment_status(1))
    raw["status"] = decided(raw, children, engine(), lookups=looked_up(engine()))
    unseen = copy.deepcopy(children)
    unseen[DEPLOYMENT]["metadata"]["generation"] = 2
    for found in (None, ROOMY, unreadable("gone")):
        assert fits(decided(raw, unseen, engine(), estimated=found)) == ("True", "EngineStarted", STARTED)
    assert fits(decided(raw, unseen, engine(), estimated=TOO_SMALL)) == ("False", "GpuMemoryTooSmall", "too small")


def test_an_invalid_spec_leaves_the_question_open() -> None:
    raw = resource(replicas=-1)
    status = decided(raw, None)
    assert fits(status) is None
    assert condition(status, "Stalled")["reason"] == "InvalidSpec"
