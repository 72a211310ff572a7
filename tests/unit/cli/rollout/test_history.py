"""What the revisions of a model changed, and what becomes of the spec when one comes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from vllm_operator.api.revisions import RESTARTED_AT, ROLLED_BACK_TO, Revision, Rollback, pod_spec, restored
from vllm_operator.cli.rollout.history import (
    UnknownRevisionError,
    changed,
    current,
    entries,
    numbered,
    request,
    request_time,
    rollback_target,
)

NOW = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
AT, LATER = "2026-11-22T10:15:00Z", "2026-11-22T10:16:00Z"
SOURCE = {"source": "org/tiny"}


def spec(length: int, **more: Any) -> dict[str, Any]:
    """A spec."""
    return {"model": SOURCE, "engine": {"maxModelLen": length}, **more}


def revision(number: int, of: dict[str, Any], cause: str = "") -> Revision:
    """A revision of this spec."""
    return Revision(
        name=f"qwen-{number}",
        number=number,
        spec=pod_spec(of),
        template={},
        config={},
        created_at="2026-11-22T10:00:00Z",
        cause=cause,
        restarted_at="",
    )


def test_each_revision_says_what_it_changed_and_the_greatest_is_current() -> None:
    found = entries(
        [revision(4, spec(4096)), revision(1, spec(1024)), revision(3, spec(2048, parallelism={"tensor": 2}))]
    )
    assert [(one.revision.number, one.is_current, one.changes) for one in found] == [
        (1, False, ()),
        (3, False, ("engine.maxModelLen: 1024 -> 2048", 'parallelism: unset -> {"tensor": 2}')),
        (4, True, ("engine.maxModelLen: 2048 -> 4096", 'parallelism: {"tensor": 2} -> unset')),
    ]


def test_a_revision_of_an_equal_spec_changed_the_template_alone() -> None:
    assert entries([revision(1, spec(1)), revision(2, spec(1))])[1].changes == ("the pod template alone",)


def test_there_may_be_no_revision_yet() -> None:
    assert entries([]) == []


def test_of_long_values_the_path_alone_is_told() -> None:
    long = {"engine": {"extraArgs": ["--an-argument-that-is-long", "--and-another-one"]}}
    assert list(changed({"engine": {}}, long)) == ["engine.extraArgs"]
    assert list(changed({"a": {"b": 1}}, {"a": {}})) == ["a.b: 1 -> unset"]
    assert list(changed({"a": {"b": 1}}, {"a": 2})) == ['a: {"b": 1} -> 2']


def model(spec: dict[str, Any], **annotations: str) -> dict[str, Any]:
    """A model."""
    return {"metadata": {"name": "qwen", "annotations": annotations}, "spec": spec}


def test_undo_goes_to_the_second_newest_where_the_newest_is_what_the_spec_says() -> None:
    known = [revision(1, spec(1)), revision(2, spec(2)), revision(3, spec(3))]
    assert rollback_target(known, model(spec(3))).number == 2


def test_undo_goes_to_the_newest_where_the_operator_has_not_recorded_the_spec() -> None:
    known = [revision(1, spec(1)), revision(2, spec(2))]
    assert current(known, model(spec(3))) is None
    assert rollback_target(known, model(spec(3))).number == 2


def test_undo_twice_in_a_row_goes_forth_again_even_before_the_operator_has_counted() -> None:
    known = [revision(1, spec(1)), revision(2, spec(2))]
    first = restored(spec(2), rollback_target(known, model(spec(2))).spec)
    assert first == spec(1)
    assert rollback_target(known, model(first)).number == 2
    counted = [revision(3, spec(1)), revision(2, spec(2))]
    assert rollback_target(counted, model(first)).number == 2


def test_undo_of_a_restart_that_took_another_template_goes_back_to_the_one_of_before() -> None:
    known = [revision(1, spec(1)), revision(2, spec(2)), revision(3, spec(2))]
    assert rollback_target(known, model(spec(2))).number == 2
    asked = request(known, model(spec(2)), known[1], NOW).annotations
    assert current(known, model(spec(2), **asked)) == known[1]
    assert rollback_target(known, model(spec(2), **asked)).number == 3, "undo twice, before the operator has counted"
    followed = [known[0], replace(known[2], number=3), replace(known[1], number=4, handled_at=AT)]
    assert current(followed, model(spec(2), **asked)) == followed[2]
    assert rollback_target(followed, model(spec(2), **asked)).number == 3
    followed.append(replace(revision(5, spec(2)), handled_at=LATER))
    assert current(followed, model(spec(2), **asked)) == followed[3], "a restart came after it"


def test_undo_passes_over_revisions_that_differ_in_the_template_alone_where_engines_always_have_the_newest() -> None:
    known = [revision(1, spec(1)), revision(2, spec(2)), revision(3, spec(2))]
    assert rollback_target(known, model(spec(2, rollout={"templateUpdates": "Automatic"}))).number == 1


def test_a_request_is_later_than_all_that_was_asked_for_and_followed_though_clocks_differ() -> None:
    known, ahead = [revision(1, spec(1)), revision(2, spec(1))], "2026-11-22T10:30:00+00:00"
    wanted = Rollback("2026-11-22T10:30:01Z", "qwen-1")
    followed = [known[0], replace(known[1], handled_at=ahead)]
    assert request(known, model(spec(1)), known[0], NOW) == Rollback(AT, "qwen-1")
    assert request(followed, model(spec(1)), known[0], NOW) == wanted
    for asked in ({RESTARTED_AT: ahead}, {ROLLED_BACK_TO: f"{ahead} qwen-2"}):
        assert request(known, model(spec(1), **asked), known[0], NOW) == wanted
        assert request_time(model(spec(1), **asked), NOW) == wanted.at, "a restart"


def test_defaults_that_are_written_out_are_no_difference_nor_is_what_shapes_no_pod() -> None:
    for same in (spec(1, parallelism={"tensor": 1}), spec(1, replicas=7, rollout={"strategy": "InPlace"})):
        with pytest.raises(UnknownRevisionError, match="no rollout history found"):
            rollback_target([revision(1, spec(1))], model(same))


def test_without_history_there_is_nothing_to_undo() -> None:
    with pytest.raises(UnknownRevisionError, match="no rollout history found"):
        rollback_target([], model(spec(1)))


def test_a_number_that_is_not_kept_is_refused_with_those_that_are() -> None:
    known = [revision(3, spec(3)), revision(2, spec(2))]
    assert numbered(known, 3).number == 3
    with pytest.raises(
        UnknownRevisionError, match=r"unable to find specified revision 9 in history \(there are: 2, 3\)"
    ):
        numbered(known, 9)
    with pytest.raises(UnknownRevisionError, match=r"there are: none"):
        numbered([], 1)
