"""The table of failure modes: every row is there, and it says what was seen."""

from __future__ import annotations

import pytest

from tests.cluster.paths import REPOSITORY
from tests.e2e.matrix.findings import BEGIN, END, Finding, Seen, page_with, read, table, written
from tests.e2e.matrix.rows import ROWS

OUT = Seen(withdrawn_seconds=6.24, restarted_seconds=80.0, withdrawals=1, restarts=1, lost=4, requests=983)
STAYS = Seen(lost=52, requests=99, note="in")
WHOLE = [Finding(row.number, OUT, STAYS) for row in ROWS]


def test_a_row_tells_times_and_losses_of_both_fleets() -> None:
    line = next(line for line in table(WHOLE).splitlines() if line.startswith("| 5 |"))
    assert "| out 6.2 s, restarted 80.0 s | 4 of 983 | 0 withdrawals, 0 restarts, in | 52 of 99 |" in line


def test_a_run_that_left_out_rows_makes_no_table() -> None:
    with pytest.raises(ValueError, match=r"rows \[1\] were not run"):
        table(WHOLE[1:])


def test_the_document_of_a_run_is_read_as_it_was_written() -> None:
    assert read(written(WHOLE)) == WHOLE


def test_the_page_shows_all_rows_as_they_are_called_now() -> None:
    page = (REPOSITORY / "docs" / "health-gates.md").read_text(encoding="utf-8")
    shown = page.partition(BEGIN)[2].partition(END)[0].splitlines()[2:]
    assert [line.split(" | ")[:4] for line in shown] == [
        line.split(" | ")[:4] for line in table(WHOLE).splitlines()[2:]
    ]
    assert page_with(page, WHOLE) != page
