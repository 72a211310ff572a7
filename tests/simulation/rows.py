"""The sound world, row by row: what public reports and vLLM's own code say that sound engines do. And the faults.

Each row makes engines from a seed, so that a run can be repeated. Rows have the numbers of docs/health-gates.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tests.simulation.world import Fault, Trouble, While, Work, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

IDLE, BUSY = Work.IDLE, Work.BUSY
HOUR: Final = 3600.0


@dataclass(frozen=True)
class Row:
    """One way in which an engine is odd and sound."""

    number: str
    title: str
    made: Callable[[Random], World]
    engines: int = 12
    kept: bool = False
    """Whether it has to keep its traffic; otherwise it may lose it while others serve, and never its life."""
    rests: bool = False
    """Whether it must have no traffic meanwhile."""
    before: str = ""
    """What the judge of before is known to get wrong: "withdrawn", "restarted", or nothing."""


def idle(random: Random, least: float = 10, most: float = 40) -> While:
    """A while without work."""
    return While(IDLE, random.uniform(least, most))


def busy(random: Random, least: float = 10, most: float = 40) -> While:
    """A while of ordinary load."""
    return While(BUSY, random.uniform(least, most), step_seconds=random.choice([0.02, 0.2, 0.8]))


def step(seconds: float, **fields: object) -> While:
    """One long step."""
    return replace(While(Work.STEP, seconds), **fields)  # type: ignore[arg-type]


def _grammar(random: Random) -> World:
    return World(random, [idle(random), While(Work.DEFERRED, random.uniform(20, 150)), busy(random)])


def _short_grammars(random: Random) -> World:
    whiles = []
    for _ in range(8):
        whiles += [idle(random, 5, 15), While(Work.DEFERRED, random.uniform(1.5, 4.0)), While(BUSY, 3.0)]
    return World(random, whiles)


def _remote_cache(random: Random) -> World:
    return World(random, [busy(random), While(Work.DEFERRED, random.uniform(240, 400)), busy(random)])


def _rests(work: Work, least: float, most: float) -> Callable[[Random], World]:
    def made(random: Random) -> World:
        first = random.choice([idle(random), busy(random)])
        return World(random, [first, While(work, random.uniform(least, most)), idle(random)])

    return made


def _long_steps(least: float, most: float, *, known: bool, cores: float = 1.0) -> Callable[[Random], World]:
    """Steps of that length under load; the first of them is over where they are known."""

    def made(random: Random) -> World:
        whiles = [busy(random)]
        longest = random.uniform(least, most)
        if known:
            whiles += [replace(step(longest, cores=cores), log=""), busy(random)]
        for _ in range(2):
            seconds = longest * random.uniform(0.5, 1.2) if known else random.uniform(least, most)
            whiles += [step(seconds, cores=cores), busy(random)]
        world = World(random, whiles)
        world.counted_from = world.starts[3] if known else 0.0
        return world

    return made


def _compiles(least: float, most: float, **fields: object) -> Callable[[Random], World]:
    def made(random: Random) -> World:
        before = random.choice([idle(random), busy(random)])
        return World(random, [before, step(random.uniform(least, most), **fields), busy(random)])

    return made


def _blocked(seconds: float, *, work: Callable[[Random], While]) -> Callable[[Random], World]:
    def made(random: Random) -> World:
        world = World(random, [replace(work(random), seconds=seconds * 2 + 120)])
        at = random.uniform(20, 60)
        length = seconds * random.uniform(0.8, 1.0)
        world.blocks = [(at, at + length, random.uniform(0.6, 1.0))]
        again = at + length + random.uniform(10, 30)
        world.blocks.append((again, again + length, random.uniform(0.6, 1.0)))
        return world

    return made


def _first_prompts(cores: float) -> Callable[[Random], World]:
    def made(random: Random) -> World:
        whiles = []
        for _ in range(6):
            whiles += [idle(random, 8, 30), step(random.uniform(4.0, 6.0), cores=cores), While(BUSY, 5.0)]
        return World(random, whiles)

    return made


def _saturated(random: Random) -> World:
    return World(random, [While(BUSY, 200, step_seconds=random.choice([0.2, 1.0, 2.5]), waiting=200)])


def _prefill(random: Random) -> World:
    return World(random, [idle(random), While(BUSY, 150, step_seconds=random.uniform(0.5, 4.0), prefill=True)])


def _profiler(random: Random) -> World:
    return World(random, [busy(random), step(600.0, cores=0.9, written=3e6), busy(random)])


def _disturbed(random: Random) -> World:
    """Ordinary work, while everything around it goes wrong: metrics, counters, clock, machine."""
    whiles = []
    for _ in range(8):
        whiles += [random.choice([idle(random, 20, 60), busy(random, 20, 60)]), busy(random, 5, 20)]
    world = World(random, whiles)
    _disturb(random, world, until=world.end, pause=60)
    return world


def _disturb(random: Random, world: World, *, until: float, pause: float) -> None:
    """Metrics that are away so often, counters that start anew, clocks and machines that jump."""
    at = random.uniform(0, 40)
    while at < until:
        length = random.uniform(5, 90)
        world.troubles.append((at, at + length, random.choice(list(Trouble))))
        at += length + random.uniform(5, pause)
    world.resets = sorted(random.uniform(0, until) for _ in range(3))
    world.jumps = sorted((random.uniform(0, until), random.choice([-1, 1]) * random.uniform(1, 5000)) for _ in range(4))


ODDITIES: Final = (
    _grammar,
    _short_grammars,
    _remote_cache,
    _rests(Work.ASLEEP, 60, 900),
    _rests(Work.PAUSED, 60, 600),
    _rests(Work.SCALING, 60, 240),
    _long_steps(5, 25, known=True),
    _long_steps(8, 70, known=False),
    _compiles(30, 70, log="last"),
    _compiles(60, 290, compilers=True),
    _blocked(8, work=busy),
    _blocked(8, work=idle),
    _blocked(75, work=busy),
    _first_prompts(1.0),
    _saturated,
    _prefill,
    _profiler,
)


def _everything(random: Random) -> World:
    """Two hours of all that is odd, one after the other, with everything around it going wrong meanwhile."""
    whiles: list[While] = []
    blocks: list[tuple[float, float, float]] = []
    while (length := sum(one.seconds for one in whiles)) < 2 * HOUR:
        part = random.choice(ODDITIES)(random)
        whiles += part.whiles
        blocks += [(start + length, end + length, share) for start, end, share in part.blocks]
    world = World(random, [*whiles, While(IDLE, 120.0)], blocks=blocks)
    _disturb(random, world, until=world.end - 120, pause=600)
    return world


ROWS: Final = (
    Row("10", "saturated, hundreds in line", _saturated, kept=True),
    Row("11", "long prefills, steps of up to 4 s", _prefill, kept=True),
    Row("12, 20", "metrics away or renamed, counters reset, clock and machine jump", _disturbed, kept=True),
    Row("21", "a grammar takes 20 to 150 s, nothing else in flight", _grammar, kept=True, before="restarted"),
    Row("22", "grammars of 1.5 to 4 s after idling", _short_grammars, kept=True, before="withdrawn"),
    Row("23", "remote KV for 4 to 7 minutes", _remote_cache, kept=True, before="restarted"),
    Row("24", "asleep for an hour", _rests(Work.ASLEEP, HOUR, HOUR), engines=3, rests=True, before="restarted"),
    Row("25", "paused for 5 to 10 minutes", _rests(Work.PAUSED, 300, 600), engines=6, rests=True, before="restarted"),
    Row("26", "steps of 5 to 12 s, known", _long_steps(5, 12, known=True), kept=True, before="withdrawn"),
    Row("26", "steps of 8 s, the first ones", _long_steps(8, 8, known=False), before="withdrawn"),
    Row("26", "steps of 12 to 25 s, known", _long_steps(12, 25, known=True), kept=True, before="withdrawn"),
    Row("26", "steps of 20 to 70 s, the first ones", _long_steps(20, 70, known=False), before="withdrawn"),
    Row("26", "steps of 20 to 55 s without CPU", _long_steps(20, 55, known=False, cores=0.0), before="withdrawn"),
    Row("27", "kernels compiled for 3.4 s", _compiles(3.4, 3.4, compilers=True), kept=True),
    Row(
        "27",
        "compiled for 30 to 55 s, told in the log first",
        _compiles(30, 55, log="first"),
        kept=True,
        before="withdrawn",
    ),
    Row("27", "compiled for 30 to 70 s, told last", _compiles(30, 70, log="last"), before="withdrawn"),
    Row(
        "27", "compiled for 30 to 70 s, compilers run", _compiles(30, 70, compilers=True, cores=1.5), before="withdrawn"
    ),
    Row("27", "compiled for 60 to 70 s, nothing told", _compiles(60, 70), before="restarted"),
    Row("27", "compiled for 200 to 290 s", _compiles(200, 290, cores=1.0), engines=8, before="restarted"),
    Row("28", "event loop blocked for 8 s, steps go on", _blocked(8, work=busy), kept=True, before="withdrawn"),
    Row("28", "event loop blocked for 8 s, idle", _blocked(8, work=idle), kept=True, before="withdrawn"),
    Row("29", "event loop blocked for 75 s", _blocked(75, work=busy), engines=8, before="restarted"),
    Row("30", "first prompts of 4 to 6 s after idling", _first_prompts(1.0), kept=True, before="withdrawn"),
    Row("30", "the same without CPU", _first_prompts(0.0), kept=True, before="withdrawn"),
    Row(
        "35",
        "elastic scaling for 2 to 4 minutes",
        _rests(Work.SCALING, 120, 240),
        engines=8,
        rests=True,
        before="restarted",
    ),
    Row("40", "the profiler writes for 10 minutes", _profiler, engines=3, before="restarted"),
    Row("all", "all of this at random for two hours, and disturbed", _everything, engines=8, before="restarted"),
)


def slow_fleet(random: Random) -> list[World]:
    """Row 31: one kind of request comes to every engine of a fleet within a second or two, and takes long each time."""
    worlds, at = [], random.uniform(20, 40)
    work, longest, cores = random.choice([(IDLE, 110, 1.0), (BUSY, 110, 1.0), (BUSY, 45, 0.0)])
    seconds = random.uniform(15, longest)
    for _ in range(random.randint(2, 6)):
        before = While(work, at + random.uniform(0, 2), step_seconds=0.2)
        slow = step(seconds * random.uniform(0.8, 1.2), cores=cores)
        again = step(seconds * random.uniform(0.8, 1.2), cores=cores)
        worlds.append(World(random, [before, slow, While(BUSY, 5.0), again, While(BUSY, 20.0)]))
    return worlds


@dataclass(frozen=True)
class Break:
    """One way in which an engine breaks, and what it does meanwhile."""

    fault: Fault
    title: str
    made: Callable[[Random], list[While]]
    short: bool = True
    """Whether its steps are short, so that it has to be out of the endpoints within 12 s."""
    computes: bool = False
    """Whether something computes all the same, so that it is not called frozen."""
    found_before: bool = True


def _idle(random: Random) -> list[While]:  # noqa: ARG001 # all look alike
    return [While(IDLE, 2000.0)]


def _busy(random: Random) -> list[While]:
    return [While(BUSY, 2000.0, step_seconds=random.choice([0.02, 0.2, 1.0]))]


def _full(random: Random) -> list[While]:
    return [While(BUSY, 2000.0, step_seconds=random.choice([0.02, 0.2, 1.0]), waiting=200)]


def _in_a_step(random: Random) -> list[While]:
    """A step of 20 s, as the one before, in whose midst it breaks."""
    ordinary = While(BUSY, 10.0, step_seconds=0.2)
    return [ordinary, step(random.uniform(15, 20), cores=1.0), ordinary, step(2000.0, cores=1.0)]


BREAKS: Final = (
    Break(Fault.CORE, "idle", _idle),
    Break(Fault.CORE, "busy", _busy),
    Break(Fault.CORE, "saturated", _full),
    Break(Fault.CORE, "in the midst of a long step", _in_a_step, short=False),
    Break(Fault.WORKER, "idle", _idle, computes=True),
    Break(Fault.WORKER, "busy", _busy, computes=True),
    Break(Fault.RANK, "idle", _idle),
    Break(Fault.RANK, "busy", _busy, computes=True),
    Break(Fault.SERVER, "idle", _idle),
    Break(Fault.SERVER, "busy", _busy),
    Break(Fault.ONE_SERVER, "busy", _busy, found_before=False),
    Break(Fault.DEATH, "idle", _idle),
    Break(Fault.DEATH, "busy", _busy),
)


def broken(one: Break, random: Random) -> World:
    """An engine that breaks after a while."""
    whiles = one.made(random)
    at = (
        random.uniform(20, 40) if len(whiles) == 1 else sum(each.seconds for each in whiles[:3]) + random.uniform(3, 12)
    )
    world = World(random, whiles, fault=one.fault, fault_at=at)
    world.counted_from = 0.0 if len(whiles) == 1 else world.starts[3]
    return world
