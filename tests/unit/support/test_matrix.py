"""The table of failure modes: every row is there, and it says what was seen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.cluster.paths import REPOSITORY
from tests.e2e.matrix.diary import Diary
from tests.e2e.matrix.findings import BEGIN, END, Finding, Seen, page_with, read, table, written
from tests.e2e.matrix.rows import ROWS
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.api import Api

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


class Told:
    """An API server that tells of one EndpointSlice as it changes, and of no pod."""

    def __init__(self, *ready: str) -> None:
        self._ready = ready

    def watch(self, path: str, **_: Any) -> Events:
        """The changes, each by the names of the pods that are ready then."""
        return Events(slice_of(names) for names in self._ready) if "endpointslices" in path else Events()


class Events(list[dict[str, Any]]):
    """A watch that has told everything."""

    def close(self) -> None:
        """Nothing is to be done."""


def slice_of(names: str) -> dict[str, Any]:
    """The event of a slice in which these pods are ready."""
    endpoints = [{"targetRef": {"name": name}, "conditions": {"ready": True}} for name in names.split()]
    return {"type": "MODIFIED", "object": {"metadata": {"name": "slice"}, "endpoints": endpoints}}


def test_a_diary_tells_how_few_took_traffic_at_a_time_and_when_a_pod_was_in_again() -> None:
    began = time.monotonic()
    diary = Diary(cast("Api", Told("a b c", "a b", "b", "b c", "a b c")), "space", "service", "selector")
    until(lambda: diary.routable() == {"a", "b", "c"} and len(diary.changes("a", began)) == 3)
    assert diary.fewest(began) == 0, "nobody was in before"
    first = diary.routable_at("c", began)
    assert first is not None
    assert diary.fewest(first) == 1
    lost = diary.withdrawn_at("c", began)
    assert lost is not None
    again = diary.routable_at("c", lost)
    assert again is not None
    assert again > lost
    assert diary.fewest(time.monotonic()) == 3
