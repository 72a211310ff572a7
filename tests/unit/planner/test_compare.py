"""What is a difference between a live object and the wanted one, and what is not."""

from __future__ import annotations

import decimal
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.world import canonical
from vllm_operator.planner.compare import holds, quantity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        ("1e3", "1k"),
        ("1E3", "1000"),
        ("1", "1000m"),
        (4, "4"),
        ("1.5Gi", "1536Mi"),
        ("+1", "1"),
        ("1.", "1"),
        (".5", "500m"),
        ("1000000n", "1m"),
        ("0.1n", "1n"),
        ("100E", "9223372036854775807"),
        ("9Ei", "9223372036854775807"),
        ("1E", "1000P"),
    ],
)
def test_quantities_are_compared_by_value(one: str | int, other: str) -> None:
    assert quantity(one) == quantity(other)
    assert holds({"limits": {"cpu": other}}, {"limits": {"cpu": one}})
    assert holds({"sizeLimit": other}, {"sizeLimit": one})


@pytest.mark.parametrize(("one", "other"), [("1G", "1Gi"), ("1m", "1M"), ("500m", "501m"), ("1", "0"), ("1n", "2n")])
def test_different_quantities_differ(one: str, other: str) -> None:
    assert quantity(one) != quantity(other)
    assert not holds({"requests": {"memory": other}}, {"requests": {"memory": one}})


digits = st.integers(0, 10**12)
suffixes = st.sampled_from(
    ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e2", "E-3"]
)
quantities = st.one_of(
    st.builds(lambda whole, suffix: f"{whole}{suffix}", digits, suffixes),
    st.builds(lambda whole, part, suffix: f"{whole}.{part}{suffix}", digits, digits, suffixes),
)


@given(quantities)
def test_the_canonical_form_of_a_quantity_is_no_difference(text: str) -> None:
    assert holds({"limits": {"cpu": canonical(text)}}, {"limits": {"cpu": text}})


@given(quantities, st.integers(1, 10**6))
def test_more_is_a_difference(text: str, more: int) -> None:
    value = quantity(text)
    larger = f"{value + more:f}"
    assert holds({"limits": {"cpu": larger}}, {"limits": {"cpu": text}}) is (quantity(larger) == value)


@pytest.mark.parametrize("text", ["", "four", "1e1.5", "1ki", "Gi"])
def test_what_is_no_quantity_is_none_and_differs_from_every_one(text: str) -> None:
    with pytest.raises(decimal.InvalidOperation):
        quantity(text)
    assert not holds({"limits": {"cpu": "1"}}, {"limits": {"cpu": text}})


def test_a_number_beyond_all_bounds_is_a_difference_and_no_mistake() -> None:
    assert not holds({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1e999999999"}})


def test_numbers_elsewhere_are_compared_as_they_are() -> None:
    assert not holds({"data": {"a": "1000m"}}, {"data": {"a": "1"}})


def test_a_resource_called_like_a_field_is_a_quantity_all_the_same() -> None:
    assert holds({"limits": {"name": "1000m"}}, {"limits": {"name": "1"}})


@pytest.mark.parametrize(
    ("live", "desired"),
    [
        ({"a": 1, "added": 2}, {"a": 1}),
        ({"a": {"b": 1, "added": 2}}, {"a": {"b": 1}}),
        ({}, {"a": ""}),
        ({}, {"a": 0}),
        ({}, {"a": False}),
        ({}, {"a": {}}),
        ({}, {"a": []}),
        ({"a": {}}, {"a": {}}),
    ],
    ids=["default beside", "default below", "empty text", "zero", "false", "empty map", "empty list", "kept empty map"],
)
def test_what_the_server_adds_or_leaves_out_is_no_difference(live: Any, desired: Any) -> None:
    assert holds(live, desired)


@pytest.mark.parametrize(
    ("live", "desired"),
    [
        ({}, {"a": 1}),
        ({"a": 2}, {"a": 1}),
        ({"a": 1}, {"a": 0}),
        ({"a": True}, {"a": False}),
        ({"a": "x"}, {"a": ""}),
        ({"a": None}, {"a": {"b": 1}}),
        ({"a": "x"}, {"a": ["x"]}),
        ({"a": "x"}, {"a": {"x": 1}}),
    ],
)
def test_a_field_that_is_missing_or_another_is_a_difference(live: Any, desired: Any) -> None:
    assert not holds(live, desired)


def test_items_that_another_manager_adds_to_a_keyed_list_are_no_difference() -> None:
    live = {"env": [{"name": "INJECTED", "value": "1"}, {"name": "A", "value": "1"}]}
    assert holds(live, {"env": [{"name": "A", "value": "1"}]})


@pytest.mark.parametrize(
    ("key", "rest"), [("name", {"value": "1"}), ("mountPath", {"name": "home"}), ("uid", {"name": "qwen"})]
)
def test_items_are_told_apart_by_their_key_whatever_their_order(key: str, rest: dict[str, str]) -> None:
    one, two = {**rest, key: "1"}, {**rest, key: "2"}
    assert holds([two, one], [one, two])
    assert not holds([two], [one, two])
    assert not holds([two, {**one, next(iter(rest)): "changed"}], [one, two])


def test_words_of_a_command_count_one_by_one() -> None:
    assert holds(["a", "b"], ["a", "b"])
    assert not holds(["b", "a"], ["a", "b"])
    assert not holds(["a", "b", "c"], ["a", "b"])
    assert not holds(["a"], ["a", "b"])


json = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=3),
    max_leaves=8,
)


@given(json)
def test_everything_holds_itself(node: Any) -> None:
    assert holds({"a": node}, {"a": node})


def test_the_canonical_form_is_another_text() -> None:
    assert canonical("1024Mi") == "1Gi"
    assert canonical("0.5") == "500000000n"
    assert Decimal(canonical(3)) == 3
