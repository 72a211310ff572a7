"""What the simulation found, as two tables and a drawing for docs/health-gates.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from tests.simulation.before.kubelet import Pod
from tests.simulation.fleet import Fleet, fewest
from tests.simulation.resident import Outcome, Resident
from tests.simulation.rows import BREAKS, ROWS, Break, Row, broken, slow_fleet

if TYPE_CHECKING:
    from tests.simulation.world import World

DOCS: Final = Path(__file__).parent.parent.parent / "docs"
PAGE: Final = DOCS / "health-gates.md"
DRAWING: Final = DOCS / "health-gates-times.svg"
BEGIN: Final = "<!-- written by python -m tests.simulation -->\n"
END: Final = "<!-- until here -->\n"

BROKEN_ENGINES: Final = 40
FLEETS: Final = 60
WATCHED_SECONDS: Final = 380.0


@dataclass(frozen=True)
class Verdicts:
    """What one judge made of the engines of a row."""

    withdrawn: int
    """Engines that lost their traffic at least once."""
    restarted: int
    served_at_rest: float
    """Seconds of traffic on engines that slept, were paused or scaled."""
    out_at_end: int
    """Engines that had no traffic at the end, when they had been sound and at work again for a while."""


@dataclass(frozen=True)
class Sound:
    """One row of the sound world."""

    row: Row
    now: Verdicts
    before: Verdicts
    looks: int


@dataclass(frozen=True)
class Fleets:
    """What became of fleets whose engines were all slow at once."""

    below_half: int
    """Fleets of which fewer than half served at a moment."""
    none_left: int
    restarted: int
    """Engines."""
    withdrawn: int
    """Engines."""


@dataclass(frozen=True)
class Times:
    """Seconds until a broken engine was out of the endpoints, since its last sign of life, and until its restart."""

    out: list[float]
    restarted: list[float]
    missed: int
    """Engines that were never taken out."""
    early: int
    """Engines that were out when they broke, sound as they were."""


@dataclass(frozen=True)
class Broken:
    """One fault."""

    fault: Break
    now: Times
    before: Times


@dataclass(frozen=True)
class Findings:
    """A whole simulation."""

    sound: list[Sound]
    fleets: Fleets
    fleets_before: Fleets
    broken: list[Broken]
    looks: int


def simulate() -> Findings:
    """Run everything. The same every time."""
    sound = [_sound(row) for row in ROWS]
    fleets, fleets_before = _fleets()
    broken_ones = [Broken(one, _times(one, Resident), _times(one, Pod)) for one in BREAKS]
    return Findings(sound, fleets, fleets_before, broken_ones, sum(one.looks for one in sound))


def _random(name: str) -> Random:
    return Random(name)  # noqa: S311 # repeatable on purpose


def _sound(row: Row) -> Sound:
    now: list[tuple[World, Outcome]] = []
    before: list[tuple[World, Outcome]] = []
    looks = 0
    for seed in range(row.engines):
        name = f"{row.number} {row.title} {seed}"
        for kind, found in ((Resident, now), (Pod, before)):
            world = row.made(_random(name))
            outcome = kind(world, _random(f"{name} judged"), name).run(world.end)
            found.append((world, outcome))
        looks += now[-1][1].looks
    return Sound(row, _verdicts(now), _verdicts(before), looks)


def _verdicts(found: list[tuple[World, Outcome]]) -> Verdicts:
    return Verdicts(
        withdrawn=sum(any(at >= world.counted_from for at, _ in one.withdrawals) for world, one in found),
        restarted=sum(one.restarted_at is not None for _, one in found),
        served_at_rest=sum(one.served_at_rest for _, one in found),
        out_at_end=sum(not one.in_at_end for _, one in found),
    )


def _fleets() -> tuple[Fleets, Fleets]:
    """Row 31, with the judge of now and that of before."""
    now, before = [], []
    for seed in range(FLEETS):
        name = f"fleet {seed}"
        worlds = slow_fleet(_random(name))
        end = max(world.end for world in worlds)
        fleet = Fleet(worlds, _random(f"{name} judged"), name)
        fleet.run(end)
        served = [[(at, ready) for at, ready, _, _ in one.history] for one in fleet.residents]
        now.append((served, [one.outcome for one in fleet.residents]))
        pods = [Pod(world, _random(f"{name} {n}"), f"{name}-{n}") for n, world in enumerate(slow_fleet(_random(name)))]
        outcomes = [pod.run(end) for pod in pods]
        before.append(([pod.history for pod in pods], outcomes))
    return _of_fleets(now), _of_fleets(before)


def _of_fleets(found: list[tuple[list[list[tuple[float, bool]]], list[Outcome]]]) -> Fleets:
    least = [(fewest(served), len(served)) for served, _ in found]
    outcomes = [one for _, each in found for one in each]
    return Fleets(
        below_half=sum(left < math.ceil(size / 2) for left, size in least),
        none_left=sum(left == 0 for left, _ in least),
        restarted=sum(one.restarted_at is not None for one in outcomes),
        withdrawn=sum(bool(one.withdrawals) for one in outcomes),
    )


def _times(fault: Break, kind: type[Resident | Pod]) -> Times:
    out, restarted, missed, early = [], [], 0, 0
    for seed in range(BROKEN_ENGINES):
        name = f"{fault.fault} {fault.title} {seed}"
        world = broken(fault, _random(name))
        outcome = kind(world, _random(f"{name} judged"), name).run(world.fault_at + WATCHED_SECONDS)
        if outcome.out_at is None:
            missed += 1
            continue
        early += any(world.counted_from <= at < world.fault_at for at, _ in outcome.withdrawals)
        out.append(outcome.out_at - world.last_sign_of_life())
        if outcome.restarted_at is not None:
            restarted.append(outcome.restarted_at - world.fault_at)
    return Times(out, restarted, missed, early)


def quantile(values: list[float], share: float) -> float:
    """The value that a share of the others does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


# --- the page


def tables(findings: Findings) -> str:
    """The part of the page that is written."""
    return "\n".join([*_sound_table(findings), "", *_broken_table(findings), ""])


def _sound_table(findings: Findings) -> list[str]:
    rows = [
        "Sound engines: how many of a row lost their traffic, and how many were restarted.",
        "",
        "| # | what they do | engines | must | withdrawn | restarted | 6afbc34: withdrawn | restarted |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in findings.sound:
        cells = [one.row.number, one.row.title, str(one.row.engines), _must(one.row)]
        for each in (one.now, one.before):
            cells += [str(each.withdrawn), str(each.restarted)]
        rows.append(f"| {' | '.join(cells)} |")
    cells = ["31", "all engines of a fleet of 2 to 6 slow at once", f"{FLEETS} fleets", "half of them stay in"]
    for fleets in (findings.fleets, findings.fleets_before):
        cells += [f"below half: {fleets.below_half} fleets, none left: {fleets.none_left}", str(fleets.restarted)]
    return [*rows, f"| {' | '.join(cells)} |"]


def _must(row: Row) -> str:
    if row.rests:
        return "no traffic, live on"
    return "stay in" if row.kept else "live on"


def _broken_table(findings: Findings) -> list[str]:
    told = (
        f"Broken engines, {BROKEN_ENGINES} of each row: seconds from their last sign of life until they are out of the "
        "endpoints (median, longest), and from the fault until their restart."
    )
    rows = [
        told,
        "",
        "| what breaks | while it is | out | restarted | not found | 6afbc34: out | restarted | not found |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in findings.broken:
        cells = [one.fault.fault.value, one.fault.title]
        for each in (one.now, one.before):
            cells += [_spread(each.out), _spread(each.restarted), str(each.missed)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _spread(values: list[float]) -> str:
    return ", ".join(f"{quantile(values, share):.1f} s" for share in (0.5, 1.0)) if values else "never"


def written(page: str, findings: Findings) -> str:
    """The page with the part in it.

    Raises:
        ValueError: the page has no place for it.
    """
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise ValueError(f"{PAGE.name} has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}{tables(findings)}{END}{after}"


# --- the drawing

WIDTH, HEIGHT, LEFT, TOP, ROW = 760, 40, 270, 44, 26
SECONDS, TICK = 14, 2
SCALE: Final = (WIDTH - LEFT - 20) / SECONDS


def drawing(findings: Findings) -> str:
    """Seconds until each broken engine is out, as a dot, in a line for each fault whose steps are short: SVG."""
    shown = [one for one in findings.broken if one.fault.short]
    bottom = TOP + ROW * len(shown)
    box = f"0 0 {WIDTH} {HEIGHT + bottom}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="Arial" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT + bottom}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-weight="bold">Seconds from the last sign of life until the engine is out</text>',
    ]
    for second in range(0, SECONDS + 1, TICK):
        x = _x(second)
        lines.append(f'<line x1="{x}" y1="{TOP - 10}" x2="{x}" y2="{bottom}" stroke="#ddd"/>')
        lines.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{second}</text>')
    for row, one in enumerate(shown):
        y = TOP + ROW * row + ROW // 2
        label = f"{one.fault.fault.value}, {one.fault.title}"
        lines.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{label}</text>')
        dots = sorted({_x(value) for value in one.now.out})
        lines += [f'<circle cx="{x}" cy="{y}" r="3" fill="#25c" fill-opacity="0.4"/>' for x in dots]
    return "\n".join([*lines, "</svg>", ""])


def _x(second: float) -> float:
    return round(LEFT + second * SCALE, 1)
