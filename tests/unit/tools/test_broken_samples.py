"""The list of broken samples: it covers what people ask about, and each is a small change of a sample."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.support.broken_samples import Shown, untold
from tools.broken_samples import BrokenSample, Chapter, Engine, broken_samples, merged, with_broken_samples
from tools.generate import REPOSITORY
from vllm_operator.api.spec import parse_spec

SHOWN = Shown(
    get="NAME   READY   REASON           SERVING   AGE\nqwen   False   EnginesFailing   0         9s\n",
    describe="""Name:         qwen
Spec:
  Model:
    Revision:  v9
Status:
  Conditions:
    Message:  0 of 1 engines serve; qwen-1: the model has no revision v9: set spec.model.revision to a branch
    Reason:   EnginesFailing
    Status:   True
    Type:     Stalled
  Diagnosis:
    Field:   spec.model.revision
    Id:      UnknownRevision
Events:      <none>
""",
)


def row(**other: Any) -> BrokenSample:
    """A broken sample that those words tell of, but for what is given."""
    whole = {
        "id": "revision",
        "chapter": Chapter.LOADING,
        "done": "a revision",
        "sample": "qwen2.5-0.5b-instruct.yaml",
        "patch": {"spec": {"model": {"revision": "v9"}}},
        "engine": Engine.REAL,
        "reason": "EnginesFailing",
        "stalled": True,
        "says": ("the model has no revision v9",),
        "field": "spec.model.revision",
        "remedy": "set spec.model.revision to a branch",
    }
    return BrokenSample.model_validate(whole | other)


def test_there_are_twenty_five_and_more_with_the_chapters_that_people_look_for() -> None:
    found = broken_samples()
    assert len(found) >= 25
    assert len({one.id for one in found}) == len(found)
    assert {one.chapter for one in found} == set(Chapter)
    assert Counter(one.engine for one in found)[Engine.REAL] >= 15


@pytest.mark.parametrize("one", broken_samples(), ids=lambda one: one.id)
def test_what_is_applied_is_a_resource_that_the_operator_reads(one: BrokenSample) -> None:
    if one.reason:
        parse_spec(one.document["spec"])
    assert one.done in with_broken_samples((REPOSITORY / "docs/troubleshooting.md").read_text(encoding="utf-8"))


def test_a_merge_patch_changes_takes_out_and_leaves_alone() -> None:
    before = {"spec": {"a": 1, "b": {"c": 2, "d": [3]}}}
    assert merged(before, {"spec": {"a": None, "b": {"d": [4]}, "e": 5}}) == {"spec": {"b": {"c": 2, "d": [4]}, "e": 5}}
    assert before == {"spec": {"a": 1, "b": {"c": 2, "d": [3]}}}


def test_what_kubectl_prints_tells_all() -> None:
    assert untold(row(), SHOWN) == []


@pytest.mark.parametrize(
    ("other", "lacking"),
    [
        ({"ready": "True"}, "the column READY is 'False', not True"),
        ({"reason": "WrongModel"}, "the column REASON is 'EnginesFailing', not WrongModel"),
        ({"stalled": False}, "Stalled is True"),
        ({"says": ("Revision: v9",)}, "cause: 'Revision: v9'"),
        ({"field": "spec.model"}, "field: 'Field: spec.model '"),
        ({"remedy": "pray"}, "remedy: 'pray'"),
    ],
)
def test_what_kubectl_does_not_print_is_named(other: dict[str, Any], lacking: str) -> None:
    assert untold(row(**other), SHOWN) == [lacking]
