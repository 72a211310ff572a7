"""Restarts of a pod's container, counted over its lives, whatever is in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vllm_operator.manager.policies import POLICIES
from vllm_operator.manager.restarts import CAUSES, ENGINE_ENDED, FILE, KUBELET, OTHER, counted
from vllm_operator.manager.timeline import TimeLine

if TYPE_CHECKING:
    from pathlib import Path

NOON = "2026-11-26T12:00:00Z"
FIRST, SECOND, THIRD = "7:100.00", "7:200.00", "7:300.00"


def life(folder: Path, name: str) -> dict[str, int]:
    """What the first judge of a life counts: causes that were seen."""
    return {cause: count for cause, count in counted(str(folder), TimeLine(str(folder), name)).items() if count}


def ends(folder: Path, name: str, verdict: str, cause: str = "Cause") -> None:
    """The last that the judge of a life says."""
    TimeLine(str(folder), name).add(NOON, verdict, cause, "sentence")


@pytest.mark.parametrize(
    ("verdict", "cause", "counts_as"),
    [
        ("restart", "Stalled", "Stalled"),
        ("restart", "OfALaterVersion", OTHER),
        ("leaving", "Leaving", KUBELET),
        ("serving", "Progress", ENGINE_ENDED),
        ("starting", "Loading", ENGINE_ENDED),
    ],
)
def test_a_restart_counts_for_what_ended_the_life_before(
    tmp_path: Path, verdict: str, cause: str, counts_as: str
) -> None:
    assert life(tmp_path, FIRST) == {}
    ends(tmp_path, FIRST, verdict, cause)
    assert life(tmp_path, SECOND) == {counts_as: 1}


def test_another_judge_of_the_same_life_counts_nothing_and_another_life_adds(tmp_path: Path) -> None:
    life(tmp_path, FIRST)
    ends(tmp_path, FIRST, "restart", "Stalled")
    assert life(tmp_path, SECOND) == {"Stalled": 1}
    assert life(tmp_path, "7:200.01") == {"Stalled": 1}, "its birth is reckoned anew by each judge"
    ends(tmp_path, SECOND, "restart", "Silent")
    assert life(tmp_path, THIRD) == {"Stalled": 1, "Silent": 1}


def test_a_life_that_ended_before_its_judge_said_a_word_counts(tmp_path: Path) -> None:
    life(tmp_path, FIRST)
    assert life(tmp_path, SECOND) == {ENGINE_ENDED: 1}


@pytest.mark.parametrize("rubbish", ["", "{", "[1]", "[" * 5000, '{"life": 3, "counts": {"Stalled": -1, "Gone": "x"}}'])
def test_rubbish_in_the_file_counts_as_nothing(tmp_path: Path, rubbish: str) -> None:
    (tmp_path / FILE).write_text(rubbish, encoding="utf-8")
    ends(tmp_path, FIRST, "restart", "Stalled")
    assert life(tmp_path, SECOND) == {"Stalled": 1}
    assert life(tmp_path, SECOND) == {"Stalled": 1}


def test_without_a_place_for_the_file_the_last_restart_counts(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    (tmp_path / f"{FILE}.new").mkdir()
    ends(tmp_path, FIRST, "restart", "Stalled")
    assert life(tmp_path, SECOND) == {"Stalled": 1}


def test_each_policy_that_restarts_has_a_cause_that_is_counted_from_the_start(tmp_path: Path) -> None:
    others = {"OneServerSilent", "WrongModel"}  # it is told as Silent; it never restarts
    assert {policy.name for policy in POLICIES} - others <= set(CAUSES)
    assert counted(str(tmp_path), TimeLine(str(tmp_path), FIRST)) == dict.fromkeys(CAUSES, 0)
