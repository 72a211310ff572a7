"""Sound engines of every odd kind keep what they must, broken ones are found in time: and this world can fail."""

from __future__ import annotations

import pytest

from tests.simulation.report import (
    BROKEN_ENGINES,
    DRAWING,
    FLEETS,
    PAGE,
    Broken,
    Findings,
    Sound,
    drawing,
    simulate,
    written,
)
from tests.simulation.rows import BREAKS, ROWS, Break, Row

SERVICE_SECONDS = 12.0
FROZEN_SECONDS = 65.0
LIMIT_SECONDS = 330.0


@pytest.fixture(scope="module")
def findings() -> Findings:
    """One simulation for all tests."""
    return simulate()


def sound(findings: Findings, row: Row) -> Sound:
    """What was found of a row."""
    return next(one for one in findings.sound if one.row == row)


def broken(findings: Findings, fault: Break) -> Broken:
    """What was found of a fault."""
    return next(one for one in findings.broken if one.fault == fault)


def titles(values: tuple[Row, ...] | tuple[Break, ...]) -> list[str]:
    """Names of the tests."""
    return [f"{one.number}: {one.title}" if isinstance(one, Row) else f"{one.fault}, {one.title}" for one in values]


@pytest.mark.parametrize("row", ROWS, ids=titles(ROWS))
def test_no_sound_engine_is_ever_restarted(findings: Findings, row: Row) -> None:
    assert sound(findings, row).now.restarted == 0


@pytest.mark.parametrize("row", ROWS, ids=titles(ROWS))
def test_a_sound_engine_that_must_stay_in_is_never_withdrawn(findings: Findings, row: Row) -> None:
    if row.kept:
        assert sound(findings, row).now.withdrawn == 0
    if row.rests:
        assert sound(findings, row).now.withdrawn == row.engines


@pytest.mark.parametrize("row", ROWS, ids=titles(ROWS))
def test_every_sound_engine_has_its_traffic_in_the_end_and_none_while_it_rests(findings: Findings, row: Row) -> None:
    found = sound(findings, row).now
    assert (found.out_at_end, found.served_at_rest) == (0, 0)


@pytest.mark.parametrize("row", [row for row in ROWS if row.before], ids=lambda row: f"{row.number}: {row.title}")
def test_the_judge_of_before_fails_where_it_is_known_to(findings: Findings, row: Row) -> None:
    found = sound(findings, row).before
    assert (found.restarted if row.before == "restarted" else found.withdrawn) > 0


def test_the_rows_that_must_stay_in_are_those_that_were_promised() -> None:
    promised = {"21", "22", "23", "28", "30"}
    assert promised <= {row.number for row in ROWS if row.kept}
    assert all(row.kept for row in ROWS if row.number in promised)


def test_half_of_a_fleet_stays_when_all_are_slow_at_once(findings: Findings) -> None:
    assert (findings.fleets.below_half, findings.fleets.none_left, findings.fleets.restarted) == (0, 0, 0)
    assert findings.fleets.withdrawn > 0
    assert findings.fleets_before.none_left > FLEETS / 2


@pytest.mark.parametrize("fault", BREAKS, ids=titles(BREAKS))
def test_every_broken_engine_is_out_in_time_and_restarted(findings: Findings, fault: Break) -> None:
    found = broken(findings, fault).now
    assert (found.missed, found.early) == (0, 0)
    assert len(found.out) == len(found.restarted) == BROKEN_ENGINES
    assert max(found.out) <= (SERVICE_SECONDS if fault.short else 60)
    assert max(found.restarted) <= (LIMIT_SECONDS if fault.computes else FROZEN_SECONDS)


def test_the_judge_of_before_misses_one_of_several_servers(findings: Findings) -> None:
    assert [one.before.missed for one in findings.broken if not one.fault.found_before] == [BROKEN_ENGINES]


def test_the_page_and_the_drawing_show_what_is_simulated(findings: Findings) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page, findings), "run: make simulate"
    assert DRAWING.read_text(encoding="utf-8") == drawing(findings), "run: make simulate"
