"""Fleets of engines that share a model and its DNS: what each judge sees of the others, and how many serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.resident import Resident
from vllm_operator.manager.evidence import Peer, PeersLook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from tests.simulation.world import World


class Fleet:
    """Engines beside each other. Their managers tell at once what they are; DNS follows kubelet late."""

    def __init__(self, worlds: Sequence[World], random: Random, name: str) -> None:
        size = len(worlds)
        self.random = random
        self.dns_seconds = random.choice([0.0, 1.0, 5.0, 10.0])
        share = random.choice([0.0, 0.0, 0.3, 1.0])
        pairs = ((one, other) for one in range(size) for other in range(size))
        self.unreachable = {pair for pair in pairs if random.random() < share}
        self.residents = [
            Resident(world, random, f"{name}-{number}", self._seen_by(number)) for number, world in enumerate(worlds)
        ]

    def run(self, until: float) -> None:
        """Let all of them look until a moment, in the order of their looks."""
        while (one := min(self.residents, key=lambda each: each.next_at)).next_at < until:
            one.look()

    def _seen_by(self, own: int) -> Callable[[float], PeersLook]:
        def look(now: float) -> PeersLook:
            others = [self._peer(own, number, now) for number in range(len(self.residents)) if number != own]
            return PeersLook(now, _address(own), tuple(others), len(self.residents))

        return look

    def _peer(self, own: int, number: int, now: float) -> Peer:
        resident, reachable = self.residents[number], (own, number) not in self.unreachable
        in_dns = _as_of(resident.history, now - self.dns_seconds)[3]
        _, ready, suspected, _ = _as_of(resident.history, now)
        return Peer(_address(number), in_dns and (ready or not reachable), reachable, reachable and suspected)


def _address(number: int) -> str:
    return f"10.0.0.{10 + number}"


def _as_of(history: list[tuple[float, bool, bool, bool]], moment: float) -> tuple[float, bool, bool, bool]:
    return next((one for one in reversed(history) if one[0] <= moment), history[0])


def fewest(histories: Sequence[Sequence[tuple[float, bool]]]) -> int:
    """How many served at the moment at which the fewest did: each history says since when one does, and does not."""
    events = sorted((moment, number, up) for number, one in enumerate(histories) for moment, up in one)
    now = dict.fromkeys(range(len(histories)), True)
    least = len(histories)
    for _, number, up in events:
        now[number] = up
        least = min(least, sum(now.values()))
    return least
