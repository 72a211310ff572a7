"""Several judges that decide at once, each for itself: suspicion never takes more than half, nor the last one."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from tests.unit.manager.looks import Watch, serving
from vllm_operator.manager import judge
from vllm_operator.manager.evidence import Peer, PeersLook
from vllm_operator.manager.judge import SERVING, WITHDRAWN


@dataclass
class Fleet:
    """Judges of one model. DNS follows what they say, late; some of their managers cannot be reached."""

    random: Random
    size: int
    dns_delay: float
    cut: set[tuple[int, int]] = field(default_factory=set)
    """Who does not reach whom."""
    watches: list[Watch] = field(default_factory=list)
    history: list[list[tuple[float, bool, bool]]] = field(default_factory=list)
    """Of each: since when it serves or not, and tells that it is suspected or not."""
    phase: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Admit them all."""
        for _ in range(self.size):
            self.watches.append(Watch(peers=()).admit().works())
            self.history.append([(0.0, True, False)])
            self.phase.append(self.random.uniform(0, 1))

    def address(self, number: int) -> str:
        """Of an engine, as DNS has it."""
        return f"10.0.0.{10 + number}"

    def told(self, number: int, moment: float) -> tuple[bool, bool]:
        """Whether an engine served at a moment, and told that it is suspected."""
        return next((serves, suspected) for since, serves, suspected in self.history[number][::-1] if since <= moment)

    def view(self, own: int, moment: float) -> PeersLook:
        """What one of them saw of the others at a moment: DNS follows late, managers tell at once."""
        others = []
        for number in range(self.size):
            if number == own:
                continue
            reachable = (own, number) not in self.cut
            serves, suspected = self.told(number, moment)
            up = self.told(number, moment - self.dns_delay)[0] and (not reachable or serves)
            others.append(Peer(self.address(number), up, reachable, reachable and suspected))
        return PeersLook(moment, self.address(own), tuple(others), self.size)

    def run(self, seconds: int) -> tuple[int, list[bool]]:
        """The fewest that served at any moment, and who serves in the end."""
        fewest, start = self.size, max(watch.now for watch in self.watches)
        for tick in range(seconds):
            for own in sorted(range(self.size), key=lambda one: self.phase[one]):
                watch = self.watches[own]
                watch.now = start + tick + self.phase[own]
                seen = self.view(own, watch.now - self.random.uniform(0, 2))
                kind = watch.look(peers=seen).kind
                assert kind in (SERVING, WITHDRAWN)
                self.history[own].append((watch.now - 1, kind == SERVING, judge.suspects(watch.memory)))
                fewest = min(fewest, sum(one.verdict.kind == SERVING for one in self.watches))
        return fewest, [one.verdict.kind == SERVING for one in self.watches]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_when_all_are_slow_at_once_half_of_them_stay(size: int) -> None:
    for seed in range(10):
        random = Random(f"{size} {seed}")  # noqa: S311 # repeatable on purpose
        fleet = Fleet(random, size, dns_delay=random.choice([0, 3, 10]))
        pairs = [(one, other) for one in range(size) for other in range(size)]
        share = random.choice([0, 0, 0.2, 0.5, 1])
        fleet.cut = {pair for pair in pairs if random.random() < share}
        for watch in fleet.watches:
            watch.hangs()
            watch.core_cores = 1.0
        fewest, _ = fleet.run(55)
        assert fewest >= (size + 1) // 2


@pytest.mark.parametrize("size", [2, 3, 6])
def test_when_all_that_are_slow_reach_each_other_half_of_them_go(size: int) -> None:
    fleet = Fleet(Random(size), size, dns_delay=5)  # noqa: S311
    for watch in fleet.watches:
        watch.hangs()
    fewest, serving_now = fleet.run(40)
    assert fewest == (size + 1) // 2
    assert sum(serving_now) == (size + 1) // 2


@pytest.mark.parametrize("own", [0, 1, 2])
def test_a_single_slow_one_goes_whatever_its_address(own: int) -> None:
    fleet = Fleet(Random(own), 3, dns_delay=5)  # noqa: S311
    fleet.watches[own].hangs()
    _, serving_now = fleet.run(10)
    assert serving_now == [number != own for number in range(3)]


def test_where_no_manager_reaches_another_the_lowest_addresses_go_late() -> None:
    fleet = Fleet(Random(0), 4, dns_delay=5, cut={(one, other) for one in range(4) for other in range(4)})  # noqa: S311
    for watch in fleet.watches:
        watch.hangs()
        watch.core_cores = 1.0
    fewest, serving_now = fleet.run(20)
    assert fewest == 4
    fewest, serving_now = fleet.run(30)
    assert serving_now == [False, False, True, True]
    assert fewest == 2


def test_one_that_went_comes_back_when_fewer_than_half_are_left() -> None:
    watch = Watch(peers=(serving("10.0.0.6"), serving("10.0.0.7"))).admit().works().hangs()
    assert watch.until(WITHDRAWN) is not None
    watch.beside(serving("10.0.0.6"), serving("10.0.0.7", routable=False), most=3)
    assert watch.look().kind == SERVING
    assert "want of enough others" in watch.verdict.sentence


def test_a_failed_lookup_brings_nobody_back() -> None:
    watch = Watch(peers=(serving("10.0.0.6"),)).admit().works().hangs()
    assert watch.until(WITHDRAWN) is not None
    watch.peers = None
    assert {one.kind for one in watch.looks(20)} == {WITHDRAWN}


def test_nobody_goes_on_an_old_view() -> None:
    watch = Watch(peers=(serving("10.0.0.6"),)).admit().works().hangs()
    watch.peers = None
    assert watch.until(WITHDRAWN, most=40) is None


def test_those_that_were_there_ten_minutes_ago_still_count() -> None:
    watch = Watch().beside(serving("10.0.0.6"), serving("10.0.0.7"), most=6).admit().works().hangs()
    assert watch.until(WITHDRAWN, most=40) is None
