"""What was seen of each failure mode, as a document for programs and as the table of docs/health-gates.md. Pure."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.e2e.matrix.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.e2e.matrix.diary import Diary
    from tests.e2e.matrix.fleet import Pair, Request
    from tests.e2e.matrix.rows import Row

BEGIN: Final = "<!-- written by make matrix -->\n"
END: Final = "<!-- the matrix ends here -->\n"


@dataclass(frozen=True)
class Seen:
    """What became of one fleet. Seconds count from the fault; None is never, as long as anybody watched.

    Attributes:
        withdrawn_seconds: Until the broken engine was out of the EndpointSlice.
        restarted_seconds: Until its container was restarted.
        admitted_seconds: Until it took traffic again.
        withdrawals: How often any engine lost its traffic.
        restarts: How many containers were restarted.
        lost: Requests of clients that were not answered in time, or with an error; None where nobody asked.
        requests: All requests of clients.
        note: What else there is to say.
    """

    withdrawn_seconds: float | None = None
    restarted_seconds: float | None = None
    admitted_seconds: float | None = None
    withdrawals: int = 0
    restarts: int = 0
    lost: int | None = None
    requests: int = 0
    note: str = ""
    diary: str = field(default="", repr=False)
    """Every change of the fleet."""


NOTHING: Final = Seen()
"""What is seen of a fleet that is not there."""


@dataclass(frozen=True)
class Finding:
    """One row of a run."""

    number: int
    gated: Seen
    plain: Seen


def seen(diary: Diary, pod: str, since: float, requests: Sequence[Request] | None = None, note: str = "") -> Seen:
    """What a diary and a client tell of a fleet in which one pod was broken at a moment."""
    counted = None if requests is None else [request for request in requests if request.ended >= since]
    return Seen(
        withdrawn_seconds=_later(diary.withdrawn_at(pod, since), since),
        restarted_seconds=_later(diary.restarted_at(pod, since), since),
        admitted_seconds=_later(diary.admitted_at(pod, since), since),
        withdrawals=diary.withdrawals(since),
        restarts=diary.restarts(since),
        lost=None if counted is None else sum(bool(request.trouble) for request in counted),
        requests=len(counted or ()),
        note=note,
        diary=f"{diary.since(since)}\n{Counter(request.trouble for request in counted or ())}",
    )


def both_seen(
    fleets: Pair, since: float, asked: Sequence[Sequence[Request]], names: Sequence[str] = ()
) -> tuple[Seen, Seen]:
    """The same of the gated and of the plain fleet, from the requests of their clients and the names of their pods.

    Where there is no plain fleet, nothing is seen of it.
    """
    present = fleets.fleets()
    gated, plain, *_ = (
        *(
            seen(fleet.diary, name, since, requests)
            for fleet, name, requests in zip(present, names or [""] * len(present), asked, strict=True)
        ),
        NOTHING,
    )
    return gated, plain


def _later(moment: float | None, since: float) -> float | None:
    return None if moment is None else round(moment - since, 1)


def written(findings: Sequence[Finding]) -> str:
    """The document of a run."""
    return json.dumps([asdict(finding) for finding in findings], indent=1) + "\n"


def read(document: str) -> list[Finding]:
    """The findings of a document."""
    rows: list[dict[str, Any]] = json.loads(document)
    return [Finding(one["number"], Seen(**one["gated"]), Seen(**one["plain"])) for one in rows]


def page_with(page: str, findings: Sequence[Finding]) -> str:
    """The page with the table in it.

    Raises:
        ValueError: the page has no place for it, or a row of the matrix was not run.
    """
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}{table(findings)}{END}{after}"


def table(findings: Sequence[Finding]) -> str:
    """A row for each failure mode: what was done, what must come of it, what came of it, and what plain probes did.

    Raises:
        ValueError: a row of the matrix was not run.
    """
    by_number = {finding.number: finding for finding in findings}
    missing = [row.number for row in ROWS if row.number not in by_number]
    if missing:
        raise ValueError(f"rows {missing} were not run")
    lines = [
        "| # | what is wrong | how | must | with the gates | lost | with plain probes | lost |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(row, by_number[row.number]) for row in ROWS),
    ]
    return "\n".join([*lines, ""])


def _line(row: Row, found: Finding) -> str:
    how = f"{row.done} ({row.engine})"
    cells = [str(row.number), row.mode, how, row.must, *_cells(found.gated), *_cells(found.plain)]
    return f"| {' | '.join(cells)} |"


def _cells(one: Seen) -> tuple[str, str]:
    times = [
        ("out", one.withdrawn_seconds),
        ("restarted", one.restarted_seconds),
        ("back", one.admitted_seconds),
    ]
    told = [f"{word} {seconds:.1f} s" for word, seconds in times if seconds is not None]
    told = told or [f"{one.withdrawals} withdrawals, {one.restarts} restarts"]
    lost = "" if one.lost is None else f"{one.lost} of {one.requests}"
    return ", ".join([*told, *([one.note] if one.note else [])]), lost
