"""How tests wait for other processes."""

from __future__ import annotations

import time

import pytest

from tests.support.waiting import until


class Passing:
    """A clock that moves with the pauses alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        """Let them pass."""
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Passing:
    return Passing(monkeypatch)


def test_what_is_there_is_not_waited_for(clock: Passing) -> None:
    assert until(lambda: "there") == "there"
    assert clock.pauses == []


def test_what_comes_is_seen_a_twentieth_of_the_wait_later_or_half_a_second_at_most(clock: Passing) -> None:
    for moment in (0.3, 2.0, 15.0, 300.0):
        began = clock.now
        until(lambda: clock.now >= began + moment, seconds=400)  # noqa: B023 # called within this turn
        late = clock.now - began - moment
        assert 0 <= late <= max(0.05, min(0.5, moment * 0.05))


def test_a_long_wait_takes_few_looks(clock: Passing) -> None:
    until(lambda: clock.now >= 60)
    assert len(clock.pauses) < 180
    assert max(clock.pauses) == 0.5


def test_looks_that_assert_something_follow_each_other_closely(clock: Passing) -> None:
    until(lambda: clock.now >= 60, closely=True)
    assert set(clock.pauses) == {0.05}


def test_what_does_not_come_is_told_with_what_was_seen_last(clock: Passing) -> None:
    with pytest.raises(AssertionError, match="the end did not come within 30 s; seen last: ''"):
        until(lambda: "", seconds=30, what="the end")
    assert 30 < clock.now <= 31.1
