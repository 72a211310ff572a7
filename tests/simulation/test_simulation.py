"""Hours of virtual time with random faults: nobody sound is evicted, everybody broken is found in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.report import CASES, DRAWING, EPISODES, PAGE, Findings, Times, drawing, simulate, written

if TYPE_CHECKING:
    from tests.simulation.engine import Fault, Work

SERVICE_SECONDS = 12.0
RESTART_SECONDS = 260.0


@pytest.fixture(scope="module")
def findings() -> Findings:
    """One simulation for all tests."""
    return simulate()


def times(findings: Findings, fault: Fault, work: Work) -> Times:
    """Those of one row."""
    return next(one for one in findings.times if (one.fault, one.work) == (fault, work))


def test_no_sound_engine_is_ever_withdrawn_or_found_dead(findings: Findings) -> None:
    assert findings.sound.runs > 50_000
    assert (findings.sound.withdrawals, findings.sound.live_failures) == (0, 0)


def test_a_sleeping_engine_has_no_traffic(findings: Findings) -> None:
    assert findings.sound.served_asleep == 0


def test_the_sound_world_is_odd_enough(findings: Findings) -> None:
    assert findings.sound.compiling > 20


@pytest.mark.parametrize(("fault", "work"), CASES)
def test_every_broken_engine_is_withdrawn_within_12_seconds_and_restarted_later(
    findings: Findings, fault: Fault, work: Work
) -> None:
    found = times(findings, fault, work)
    assert found.missed == 0
    assert len(found.withdrawals) == len(found.restarts) == EPISODES
    assert max(found.withdrawals) <= SERVICE_SECONDS
    assert max(found.restarts) <= RESTART_SECONDS


def test_restarts_of_a_fleet_are_spread(findings: Findings) -> None:
    for one in findings.times:
        assert max(one.restarts) - min(one.restarts) > 5


def test_the_page_and_the_drawing_show_what_is_simulated(findings: Findings) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page, findings), "run: make simulate"
    assert DRAWING.read_text(encoding="utf-8") == drawing(findings), "run: make simulate"
