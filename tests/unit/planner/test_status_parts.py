"""What is left of a status that an API server refuses, and how one status replaces another."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.planner.status_parts import differing, replacing, was_replaced, without

STATUS: dict[str, Any] = {
    "replicas": 2,
    "rollout": {"strategy": "Surge", "updated": 1},
    "warnings": ["a", "b", "c"],
    "conditions": [{"type": "Ready", "reason": "New", "message": "m"}, {"type": "Stalled", "reason": "Known"}],
}


def less(**changed: Any) -> dict[str, Any]:
    """The status, with other parts; None for what is gone."""
    return {name: value for name, value in {**STATUS, **changed}.items() if value is not None}


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        (["status.rollout.strategy"], less(rollout={"updated": 1})),
        (["status.rollout"], less(rollout=None)),
        (["status.rollout", "status.rollout.strategy"], less(rollout=None)),
        (["status.warnings"], less(warnings=None)),
        (["status.warnings[1]"], less(warnings=["a", "c"])),
        (["status.warnings[0]", "status.warnings[2]"], less(warnings=["b"])),
        (["status.conditions[1].reason"], less(conditions=[STATUS["conditions"][0], {"type": "Stalled"}])),
        (["status.conditions[0].reason", "status.replicas"], less(
            replicas=None, conditions=[{"type": "Ready", "message": "m"}, STATUS["conditions"][1]]
        )),
    ],
)  # fmt: skip
def test_what_a_refusal_names_is_left_out_and_nothing_else(fields: list[str], left: dict[str, Any]) -> None:
    before = repr(STATUS)
    assert without(STATUS, fields) == left
    assert repr(STATUS) == before


@pytest.mark.parametrize(
    ("field", "left"),
    [
        ("status.conditions[1].message", less(conditions=STATUS["conditions"][:1])),
        ("status.conditions.reason", less(conditions=None)),
        ("status.rollout.reason", less(rollout=None)),
        ("status.replicas.inside", less(replicas=None)),
    ],
)
def test_where_a_part_is_named_that_is_not_there_what_should_hold_it_goes(field: str, left: dict[str, Any]) -> None:
    assert without(STATUS, [field]) == left


@pytest.mark.parametrize("field", ["", "<nil>", "status", "spec.replicas", "metadata.name", "statuses.replicas"])
def test_what_is_no_part_of_the_status_takes_nothing_away(field: str) -> None:
    assert without(STATUS, [field]) == STATUS


def test_a_required_part_of_the_status_itself_that_is_not_there_takes_nothing_away() -> None:
    assert without({}, ["status.replicas"]) == {}


@pytest.mark.parametrize(
    ("kept", "paths"),
    [
        (STATUS, []),
        (less(rollout=None), ["status.rollout"]),
        (less(rollout={"strategy": "Surge"}), ["status.rollout.updated"]),
        (less(replicas=3, extra=1), ["status.extra", "status.replicas"]),
        (less(warnings=["a"]), ["status.warnings"]),
        (less(warnings=["a", "x", "c"]), ["status.warnings[1]"]),
    ],
)
def test_what_is_not_kept_is_named_by_its_path(kept: dict[str, Any], paths: list[str]) -> None:
    assert differing(STATUS, kept) == paths


def merged(before: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    found = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


@pytest.mark.parametrize(
    "before", [{}, STATUS, {"old": 1}, {"rollout": {"old": {"er": 1}}}, {"rollout": 7}, {"replicas": {"a": 1}}]
)
def test_nothing_of_an_earlier_status_stays_beside_the_one_that_replaces_it(before: dict[str, Any]) -> None:
    assert merged(before, replacing(before, STATUS)) == STATUS


def test_what_somebody_else_has_written_meanwhile_is_told_from_what_the_api_server_made_of_a_status() -> None:
    assert was_replaced({}, STATUS, less(rollout=None))
    assert was_replaced({"default": 1}, STATUS, less(default=1))
    assert not was_replaced({}, STATUS, less(default=1))
    assert not was_replaced({"rollout": {}}, STATUS, less(rollout={"strategy": "Surge", "theirs": 1}))
