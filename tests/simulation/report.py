"""What the simulation found, as a table and a drawing for docs/health-gates.md."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.simulation.engine import Fault, Work
from tests.simulation.fleet import HOUR, ODD, Outcome, broken_engine, quantile, sound_engine

DOCS: Final = Path(__file__).parent.parent.parent / "docs"
PAGE: Final = DOCS / "health-gates.md"
DRAWING: Final = DOCS / "health-gates-times.svg"
BEGIN: Final = "<!-- written by python -m tests.simulation -->\n"
END: Final = "<!-- until here -->\n"

EPISODES: Final = 100
SOUND_ENGINES: Final = 16
SOUND_HOURS: Final = 4
CASES: Final = (
    (Fault.CORE, Work.IDLE),
    (Fault.CORE, Work.BUSY),
    (Fault.CORE, Work.SATURATED),
    (Fault.RANK, Work.BUSY),
    (Fault.RANK, Work.IDLE),
    (Fault.SERVER, Work.IDLE),
    (Fault.SERVER, Work.BUSY),
    (Fault.DEATH, Work.IDLE),
    (Fault.DEATH, Work.BUSY),
)


@dataclass(frozen=True)
class Times:
    """Seconds from a fault to the verdicts, of all engines that had it; those never found are counted."""

    fault: Fault
    work: Work
    withdrawals: list[float]
    restarts: list[float]
    missed: int


@dataclass(frozen=True)
class Sound:
    """What became of engines that nothing was wrong with."""

    runs: int
    withdrawals: int
    """Of engines that did not sleep, and were not in the midst of a long step."""
    compiling: int
    """Withdrawals in the midst of a step in which kernels were compiled."""
    served_asleep: int
    """Looks at a sleeping engine that left it its traffic, but for the first one of each sleep."""
    live_failures: int


@dataclass(frozen=True)
class Findings:
    """A whole simulation."""

    times: list[Times]
    sound: Sound


def simulate() -> Findings:
    """Run everything. The same every time."""
    times = []
    for fault, work in CASES:
        found = [broken_engine(seed, fault, work) for seed in range(EPISODES)]
        withdrawals = [withdrawn for _, withdrawn, _ in found if withdrawn is not None]
        restarts = [restarted for _, _, restarted in found if restarted is not None]
        times.append(Times(fault, work, withdrawals, restarts, EPISODES - min(len(withdrawals), len(restarts))))
    outcomes = [sound_engine(seed, SOUND_HOURS * HOUR) for seed in range(SOUND_ENGINES)]
    return Findings(times, _sound(outcomes))


def _sound(outcomes: list[Outcome]) -> Sound:
    works = Counter(work for outcome in outcomes for work, _ in outcome.withdrawals)
    return Sound(
        runs=sum(outcome.runs for outcome in outcomes),
        withdrawals=works.total() - sum(works[work] for work in ODD),
        compiling=works[Work.COMPILING],
        served_asleep=sum(outcome.served_asleep for outcome in outcomes),
        live_failures=sum(outcome.live_failures for outcome in outcomes),
    )


def table(findings: Findings) -> str:
    """The part of the page that is written."""
    rows = [
        "| what breaks | while it is | withdrawn after (median, 95 of 100, longest) | restarted after | not found |",
        "|---|---|---|---|---|",
    ]
    for one in findings.times:
        cells = [one.fault.value, one.work.value, _spread(one.withdrawals), _spread(one.restarts), str(one.missed)]
        rows.append(f"| {' | '.join(cells)} |")
    sound = findings.sound
    told = (
        f"\n{EPISODES} engines for each row. Sound engines, {SOUND_ENGINES} of them for {SOUND_HOURS} hours each, with "
        "bursts of load, long prompts, requests that are put off (for seconds after idling, or for minutes), sleep, "
        "steps of 30 to 70 s in which kernels are compiled, outages of the metrics, blocked servers, counters that are "
        f"reset, jumps of the clock and pauses of kubelet: {sound.runs} runs of the gate, **{sound.withdrawals} "
        f"withdrawals, {sound.live_failures} failures of the liveness probe**; sleeping engines had no traffic after "
        f"{'the second look' if sound.served_asleep == 0 else f'{sound.served_asleep} looks too many'}. Not counted as "
        f"wrong are {sound.compiling} withdrawals in the midst of the steps in which kernels were compiled.\n"
    )
    return "\n".join([*rows, told])


def _spread(values: list[float]) -> str:
    return ", ".join(f"{quantile(values, share):.1f} s" for share in (0.5, 0.95, 1.0))


def written(page: str, findings: Findings) -> str:
    """The page with the part in it.

    Raises:
        ValueError: the page has no place for it.
    """
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise ValueError(f"{PAGE.name} has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}{table(findings)}{END}{after}"


WIDTH, HEIGHT, LEFT, TOP, ROW = 760, 40, 250, 44, 26
SECONDS, TICK = 14, 2
SCALE: Final = (WIDTH - LEFT - 20) / SECONDS


def drawing(findings: Findings) -> str:
    """Seconds to withdrawal of each engine as a dot, a line of them for each row of the table: SVG."""
    height = HEIGHT + TOP + ROW * len(findings.times)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="Arial" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-weight="bold">Seconds from the fault to the verdict "withdrawn"</text>',
    ]
    bottom = TOP + ROW * len(findings.times)
    for second in range(0, SECONDS + 1, TICK):
        x = _x(second)
        lines.append(f'<line x1="{x}" y1="{TOP - 10}" x2="{x}" y2="{bottom}" stroke="#ddd"/>')
        lines.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{second}</text>')
    for row, one in enumerate(findings.times):
        y = TOP + ROW * row + ROW // 2
        lines.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{one.fault.value}, {one.work.value}</text>')
        dots = sorted({_x(value) for value in one.withdrawals})
        lines += [f'<circle cx="{x}" cy="{y}" r="3" fill="#25c" fill-opacity="0.4"/>' for x in dots]
    return "\n".join([*lines, "</svg>", ""])


def _x(second: float) -> float:
    return round(LEFT + second * SCALE, 1)
