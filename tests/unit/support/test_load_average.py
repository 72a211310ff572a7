"""When a test begins that waits for a crowded machine."""

from __future__ import annotations

import pytest

from tests.support.load_average import PATIENCE_SECONDS, wait_below


@pytest.mark.parametrize(
    ("loads", "waited"),
    [
        pytest.param([23.9], 0.0, id="quiet"),
        pytest.param([60.0, 24.0, 23.9], 4.0, id="crowded for a while"),
        pytest.param([60.0] * 1000, PATIENCE_SECONDS, id="crowded for ever"),
    ],
)
def test_a_test_begins_when_fewer_want_a_processor_or_after_five_minutes(loads: list[float], waited: float) -> None:
    seen = iter(loads)
    slept: list[float] = []
    assert wait_below(24, load=lambda: next(seen), sleep=slept.append) == waited == sum(slept)
