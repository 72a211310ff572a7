"""The end of an engine: time for one that serves, none for one that cannot."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from vllm_operator.gates import judge, memory, processes, stop

if TYPE_CHECKING:
    from pathlib import Path

LEAVE = 0.3


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Whose end was asked for; here it comes to nobody."""
    asked: list[int] = []
    monkeypatch.setattr(stop, "end", asked.append)
    monkeypatch.setattr(stop, "LAST_WORDS", str(tmp_path / "last-words"))
    return asked


def remember(folder: Path, state: judge.State) -> None:
    """Leave a state as the probes do."""
    memory.save_state(str(folder / memory.STATE_FILE), processes.container_birth(), state)


def stopped(folder: Path, *more: str) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    assert stop.main(["--state", str(folder), "--leave", str(LEAVE), *more]) == 0
    return time.monotonic() - began


def last_words(folder: Path) -> str:
    """What is left for kubelet to tell."""
    return (folder / "last-words").read_text(encoding="utf-8")


def hung(seconds: float) -> judge.State:
    """An admitted engine that has made no step for so long, with work."""
    now = time.monotonic()
    return judge.State(admitted=True, stalled_since={"0": now - seconds}, stalled_until=now, looked_at=now)


def test_an_engine_that_has_completed_no_prompt_yet_is_ended_at_once(tmp_path: Path, ended: list[int]) -> None:
    stopped(tmp_path)
    assert ended == [processes.first()]
    assert last_words(tmp_path) == "ended by its gate: has not completed a prompt yet"


@pytest.mark.parametrize("state", [judge.State(admitted=True), hung(10)], ids=["serves", "withdrawn"])
def test_an_engine_that_may_have_requests_gets_its_time(tmp_path: Path, ended: list[int], state: judge.State) -> None:
    remember(tmp_path, state)
    assert stopped(tmp_path) >= LEAVE
    assert ended == []


def test_an_engine_that_the_gate_has_given_up_is_ended_with_the_reason(tmp_path: Path, ended: list[int]) -> None:
    remember(tmp_path, hung(300))
    stopped(tmp_path)
    assert ended == [processes.first()]
    assert last_words(tmp_path) == "ended by its gate: no progress for 300 s with requests in flight (engine 0)"


def test_an_engine_that_is_not_to_be_restarted_gets_its_time(tmp_path: Path, ended: list[int]) -> None:
    remember(tmp_path, hung(300))
    assert stopped(tmp_path, "--restart", "never") >= LEAVE
    assert ended == []


def test_a_mistake_costs_no_requests(tmp_path: Path, ended: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert stopped(tmp_path, "--restart-window", "soon") >= LEAVE
    assert ended == []
    assert capsys.readouterr().out.startswith("the gate itself failed: ValueError")


def test_a_state_of_another_life_of_the_container_says_nothing(tmp_path: Path, ended: list[int]) -> None:
    (tmp_path / memory.STATE_FILE).write_text(json.dumps({"birth": "1", "admitted": True}), encoding="utf-8")
    stopped(tmp_path)
    assert ended == [processes.first()]


def test_neighbours_are_processes_of_the_same_root_and_neither_the_first_nor_this_one() -> None:
    found = stop.neighbours(os.getppid())
    assert os.getpid() not in found
    assert os.getppid() not in found
