"""An engine that is stopped for want of CPU shows it as a symptom; one that is idle, or has no limit, shows none."""

from __future__ import annotations

from vllm_operator.diagnosis.signatures import explain
from vllm_operator.manager.throttling import PAUSE_SECONDS, Throttling


def symptoms(*readings: tuple[int, int] | None) -> list[dict[str, object]]:
    """What is told after readings that follow each other."""
    left = iter(readings)
    throttling = Throttling(lambda: next(left))
    found: list[dict[str, object]] = []
    for number in range(len(readings)):
        found = [one.as_dict() for one in throttling.symptoms(number * PAUSE_SECONDS)]
    return found


def test_a_container_that_is_stopped_in_many_periods_is_told_with_the_share() -> None:
    assert symptoms((1000, 0), (1100, 62)) == [{"id": "CpuThrottled", "groups": {"percent": "62"}}]
    told = explain("CpuThrottled", {"percent": "62"})
    assert told is not None
    assert "62 %" in told.cause


def test_one_that_is_seldom_stopped_or_hardly_runs_or_has_no_limit_shows_nothing() -> None:
    assert symptoms((1000, 0), (1100, 20)) == []
    assert symptoms((1000, 0), (1010, 10)) == []
    assert symptoms((1000, 500)) == [], "what was before the first reading may be long over"
    assert symptoms(None, None) == []
    assert symptoms((1000, 0), (1100, 90), (1200, 90)) == [], "and it ends"


def test_the_count_is_read_every_ten_seconds_and_not_with_each_look() -> None:
    made: list[float] = []
    throttling = Throttling(lambda: made.append(0.0))  # type: ignore[func-returns-value] # None is an answer
    for number in range(100):
        throttling.symptoms(number * 0.5)
    assert len(made) == 5
