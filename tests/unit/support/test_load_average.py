"""When a test begins that waits for a crowded machine."""

from __future__ import annotations

import pytest

from tests.support.load_average import PATIENCE_SECONDS, Patience


@pytest.mark.parametrize(
    ("loads", "waited"),
    [
        pytest.param([23.9], 0.0, id="quiet"),
        pytest.param([60.0, 24.0, 23.9], 4.0, id="crowded for a while"),
    ],
)
def test_a_test_begins_when_few_want_a_processor(loads: list[float], waited: float) -> None:
    seen = iter(loads)
    slept: list[float] = []
    Patience(24, load=lambda: next(seen), sleep=slept.append).wait()
    assert sum(slept) == waited


def test_on_a_machine_that_is_crowded_for_good_all_tests_together_wait_ten_minutes() -> None:
    slept: list[float] = []
    patience = Patience(24, load=lambda: 60.0, sleep=slept.append)
    for _ in range(3):
        patience.wait()
    assert sum(slept) == PATIENCE_SECONDS
