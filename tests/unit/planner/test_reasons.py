"""Why an object is written, in words that a log may hold."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.support.resources import as_desired, child_of, live, resource
from vllm_operator.api.live import key_of
from vllm_operator.api.names import DESIRED_HASH
from vllm_operator.planner import reasons


def why(before: dict[str, Any], after: dict[str, Any], kind: str = "Deployment") -> str:
    """The reason for a write after an edit of the spec."""
    return reasons.reason(live(child_of(before, kind)), child_of(after, kind))


def test_what_is_not_there_is_missing() -> None:
    assert reasons.reason(None, child_of(resource(), "Deployment")) == "missing"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"replicas": 1}, {"replicas": 3}, "spec.replicas: 1 -> 3"),
        (
            {"engine": {"maxModelLen": 4096}},
            {"engine": {"maxModelLen": 512}},
            "spec.template.spec.containers[vllm].args: --max-model-len 4096 -> 512",
        ),
        (
            {"engine": {"image": "a:1"}},
            {"engine": {"image": "a:2"}},
            "spec.template.spec.containers[vllm].image: a:1 -> a:2",
        ),
        (
            {},
            {"engine": {"env": [{"name": "A", "value": "s3cret"}]}},
            "spec.template.spec.containers[vllm].env[A] is missing",
        ),
        (
            {"engine": {"env": [{"name": "A", "value": "s3cret"}]}},
            {"engine": {"env": [{"name": "A", "value": "another"}]}},
            "spec.template.spec.containers[vllm].env[A].value differs",
        ),
    ],
    ids=["number", "argument", "image", "new variable", "variable"],
)
def test_each_field_that_differs_is_named_with_what_was_and_what_comes(
    before: dict[str, Any], after: dict[str, Any], told: str
) -> None:
    assert told in why(resource(**before), resource(**after))


def test_a_field_that_is_no_longer_wanted_is_told_as_that() -> None:
    desired = child_of(resource(), "Deployment")
    found = live(desired)
    found["metadata"]["annotations"][DESIRED_HASH] = "another"
    assert reasons.reason(found, desired) == "a field is no longer wanted"


def test_an_addition_where_one_owner_has_all_is_told() -> None:
    desired = child_of(resource(), "Service")
    found = live(desired)
    found["spec"]["selector"]["added"] = "by hand"
    assert reasons.reason(found, desired) == "spec.selector holds what is not wanted"


def test_no_value_of_a_secret_or_a_config_map_is_told() -> None:
    for key, found in as_desired(resource()).items():
        if key.kind not in ("Secret", "ConfigMap"):
            continue
        desired = copy.deepcopy(found)
        for name in desired["data"]:
            desired["data"][name] = "cGxhbnRlZA=="
        desired["data"]["NEW"] = "cGxhbnRlZA=="
        told = reasons.reason(found, desired)
        assert "planted" not in told
        assert "cGxhbnRlZA==" not in told
        assert "data." in told


def test_many_differences_are_cut() -> None:
    found = live(child_of(resource(), "ConfigMap", suffix="-client"))
    desired = {**copy.deepcopy(found), "data": {f"KEY_{number}": "x" for number in range(20)}}
    assert reasons.reason(found, desired).endswith("and 16 more")
    assert key_of(found) == key_of(desired)


@pytest.mark.parametrize("text", ["x" * 500, ["y" * 500], {"z": "x" * 500}])
def test_a_long_value_is_cut(text: Any) -> None:
    told = reasons.differences({"spec": {"a": 1}}, {"spec": {"a": text}})
    assert [len(one) < 120 for one in told] == [True]
