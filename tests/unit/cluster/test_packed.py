"""Packing objects: what is read is what was packed, whatever it is, and what objects have in common costs once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.resources import child_of, resource
from vllm_operator.cluster.packed import MOST_LEARNED, Packed, Packer

DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda parts: st.lists(parts, max_size=5) | st.dictionaries(st.text(), parts, max_size=5),
    max_leaves=20,
)


def unpacked(packer: Packer, body: Any) -> Any:
    """What a reader gets."""
    packed = packer.pack(body)
    return packed() if isinstance(packed, Packed) else packed


@given(st.lists(st.dictionaries(st.text(), DOCUMENTS, max_size=5), max_size=5))
def test_what_is_read_is_what_was_packed(bodies: list[dict[str, Any]]) -> None:
    packer = Packer()
    packed = [packer.pack(body) for body in bodies]
    assert [one() if isinstance(one, Packed) else one for one in packed] == bodies


@pytest.mark.parametrize("levels", [300, 900, 100_000])
def test_an_object_of_any_depth_can_be_kept(levels: int) -> None:
    deep: dict[str, Any] = {}
    for _ in range(levels):
        deep = {"a": deep}
    found, depth = unpacked(Packer(), deep), 0
    while found:
        found, depth = found["a"], depth + 1
    assert depth == levels


def test_large_numbers_and_half_of_a_character_are_kept() -> None:
    body = {"number": 10**30, "text": json.loads('"\\ud83d"')}
    assert unpacked(Packer(), body) == body


def test_each_reading_is_the_readers_own() -> None:
    packed = Packer().pack({"spec": {"replicas": 1}})
    assert isinstance(packed, Packed)
    reading: Any = packed()
    reading["spec"]["replicas"] = 2
    assert packed() == {"spec": {"replicas": 1}}


def test_what_objects_have_in_common_is_kept_once() -> None:
    """A Deployment has some 4 KB, of which all but its names, its uid and its numbers is that of any other."""
    packer = Packer()
    packed = [packer.pack(child_of(resource(f"model-{number}"), "Deployment")) for number in range(50)]
    sizes = [one.size for one in packed if isinstance(one, Packed)]
    assert len(sizes) == 50
    assert max(sizes[2:]) < 400


def test_what_is_learned_is_bounded_and_what_was_packed_before_can_still_be_read() -> None:
    packer = Packer()
    bodies = [{"text": f"{number:0512b}" + chr(65 + number) * 700} for number in range(26)]
    strange = [{"random": [hash((number, place)) for place in range(60)]} for number in range(50)]
    packed = [packer.pack(body) for body in bodies + strange]
    assert [one() if isinstance(one, Packed) else one for one in packed] == bodies + strange
    assert len(packer._samples) <= MOST_LEARNED  # noqa: SLF001 # the bound is the point
