"""The resident judge in virtual time: a look about once a second, canaries beside, and kubelet that reads /ready.

What is modelled is what the program does around the judge: its questions and their deadlines, its threads of canaries,
the moments of its looks. The judgement is the judge's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.simulation.world import REST, Fault, Trouble, Work, World
from vllm_operator.manager import judge
from vllm_operator.manager.evidence import (
    ANSWERS,
    COMPLETED,
    FAILED,
    REFUSES,
    SAYS_DEAD,
    SCALING,
    SILENT,
    UNANSWERED,
    Canary,
    LogLook,
    Look,
    Peer,
    PeersLook,
    ProcessesLook,
    RankLook,
)
from vllm_operator.manager.settings import RESTART_WINDOW_SECONDS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

METRICS_SECONDS, HEALTH_SECONDS, CANARY_SECONDS, PEERS_SECONDS = 2.0, 1.0, 20.0, 1.0
"""Deadlines of the program's questions."""

KUBELET_PERIOD, KUBELET_FAILURES = 1.0, 2
OWN_ADDRESS: Final = "10.0.0.5"
OTHERS: Final = (Peer("10.0.0.6", routable=True), Peer("10.0.0.7", routable=True))


@dataclass
class Outcome:
    """What became of one engine. Times are those of its own life."""

    looks: int = 0
    withdrawals: list[tuple[float, str]] = field(default_factory=list)
    """Each time that the verdict took its traffic, and the cause."""
    out_at: float | None = None
    """When kubelet first took it out of the endpoints, after its fault where it has one."""
    restarted_at: float | None = None
    served_at_rest: float = 0.0
    """Seconds in which an engine that slept, or was paused or scaled, was in the endpoints; not counted are the first
    five of each time, and times without metrics, in which nobody can see it."""
    in_at_end: bool = True


@dataclass
class SentCanary:
    """A canary on its way."""

    sent_at: float
    rank: str | None
    done_at: float
    outcome: str = COMPLETED

    def shown(self, now: float, world: World) -> Canary:
        """As a look sees it."""
        sent = world.clock(self.sent_at)
        if self.done_at > now:
            return Canary(sent, rank=self.rank)
        return Canary(sent, world.clock(self.done_at), self.outcome, rank=self.rank)


def healthy(now: float) -> PeersLook:
    """Two other engines that serve, so that nothing protects this one."""
    return PeersLook(now, OWN_ADDRESS, OTHERS, 3)


class Resident:
    """An engine, its judge and kubelet."""

    def __init__(
        self, world: World, random: Random, name: str, peers: Callable[[float], PeersLook | None] = healthy
    ) -> None:
        self.world = world
        self.random = random
        self.peers = peers
        window = judge.spread(RESTART_WINDOW_SECONDS, name)
        self.settings = Settings(gate_port=8480, service="engines", restart_window=window)
        self.memory = judge.Memory(admitted=True)
        self.canaries: list[SentCanary] = []
        self.next_at = random.uniform(0, 1)
        self.kubelet_at = random.uniform(0, 1)
        self.failures = 0
        self.ready = True
        self.endpoint = True
        self.outcome = Outcome()
        self.history: list[tuple[float, bool, bool, bool]] = [(0.0, True, False, True)]
        """Since when it is ready, tells that it is suspected, and is in the endpoints."""

    def run(self, until: float) -> Outcome:
        """Look until a moment, or until the engine is ended."""
        while self.next_at < until and self.outcome.restarted_at is None:
            self.look()
        self.outcome.in_at_end = self.endpoint
        return self.outcome

    def look(self) -> None:
        """One look, and what comes of it."""
        world, began = self.world, self.next_at
        server, ranks, ended, trouble = self._sample(began)
        paused = server == ANSWERS and trouble is None and world.work(began) is Work.PAUSED
        peers = None
        if judge.wants_peers(self.memory, self.settings):
            peers = self.peers(ended)
            unreachable = peers is not None and not all(peer.reachable for peer in peers.others)
            ended += PEERS_SECONDS if unreachable else self.random.uniform(0.01, 0.3)
        look = Look(
            at=world.clock(began),
            ended_at=world.clock(ended),
            server=server,
            ranks=ranks,
            paused=paused,
            canaries=self._canaries(ended),
            processes=self._processes(began),
            log=self._log(ended),
            connections=world.connections(began),
            peers=peers,
        )
        self.memory = judge.observe(self.memory, look, self.settings)
        self._send(judge.due_canaries(self.memory, look, self.settings), ended)
        self._kubelet(ended)
        kind, cause = judge.verdict(self.memory, self.settings).kind, judge.verdict(self.memory, self.settings).cause
        if self.ready and kind != judge.SERVING:
            self.outcome.withdrawals.append((ended, cause))
        if kind == judge.RESTART:
            self.outcome.restarted_at = ended
        self.ready = kind == judge.SERVING
        self.outcome.looks += 1
        self.history.append((ended, self.ready, judge.suspects(self.memory), self.endpoint))
        self.next_at = max(began + 1.0, ended) + self.random.uniform(0.0, 0.05)

    def _sample(self, at: float) -> tuple[str, dict[str, RankLook] | None, float, Trouble | None]:
        """What the server says, the metrics, when they had come, and what stood in their way."""
        world = self.world
        if world.gone(at):
            return REFUSES, None, at + 0.002, None
        freed = world.blocked_until(at)
        if world.server_hung(at) or freed - at > METRICS_SECONDS + HEALTH_SECONDS:
            return SILENT, None, at + METRICS_SECONDS + HEALTH_SECONDS, None
        world.answered_at = freed
        if freed - at > METRICS_SECONDS:
            return ANSWERS, None, freed + 0.01, Trouble.SLOW
        if world.work(freed) is Work.SCALING:
            return SCALING, None, freed + 0.01, None
        trouble = world.trouble(freed)
        if trouble is not None:
            return ANSWERS, None, freed + (METRICS_SECONDS if trouble is Trouble.SLOW else 0.02), trouble
        # what the server was told while it was blocked may be read after the metrics
        as_of = at if freed > at and self.random.random() < 0.5 else freed + 0.005
        ranks = {name: self._rank(name, as_of) for name in world.ranks}
        return SAYS_DEAD if world.dead(at) else ANSWERS, ranks, freed + self.random.uniform(0.006, 0.1), None

    def _rank(self, name: str, at: float) -> RankLook:
        told = self.world.metrics(name, at)
        return RankLook(told.steps, told.kv, told.running, told.waiting, told.deferred, asleep=told.asleep)

    def _processes(self, at: float) -> ProcessesLook:
        world = self.world
        hung = world.fault is Fault.ONE_SERVER and at >= world.fault_at + 1
        return ProcessesLook(
            world.server_cpu(at),
            world.core_cpu(at),
            compilers=("ptxas",) if world.compiles(at) else (),
            unread_since=world.clock(world.fault_at) + 1 if hung else None,
            written_bytes=world.written(at),
        )

    def _log(self, at: float) -> LogLook:
        told = self.world.logged_at(at)
        return LogLook(None if told is None else self.world.clock(told))

    # --- canaries

    def _canaries(self, now: float) -> tuple[Canary, ...]:
        """Those that are on their way, and those that have ended since the look before, which are forgotten now."""
        shown = tuple(one.shown(now, self.world) for one in self.canaries)
        self.canaries = [one for one in self.canaries if one.done_at > now]
        return shown

    def _send(self, ranks: tuple[str | None, ...], now: float) -> None:
        for rank in ranks:
            if self.world.dead(now):
                self.canaries.append(SentCanary(now, rank, now + 0.01, FAILED))
                continue
            done = self.world.complete(now, rank)
            late = done > now + CANARY_SECONDS
            outcome = UNANSWERED if late else COMPLETED
            self.canaries.append(SentCanary(now, rank, now + CANARY_SECONDS if late else done, outcome))

    # --- kubelet

    def _kubelet(self, until: float) -> None:
        """Its runs since the look before, which saw what was the verdict then."""
        while self.kubelet_at < until:
            self.failures = 0 if self.ready else self.failures + 1
            endpoint = self.failures < KUBELET_FAILURES
            broken = self.world.fault is None or self.kubelet_at >= self.world.fault_at
            if not endpoint and broken and self.outcome.out_at is None:
                self.outcome.out_at = self.kubelet_at
            self.endpoint = endpoint
            if endpoint and self._rests(self.kubelet_at):
                self.outcome.served_at_rest += KUBELET_PERIOD
            self.kubelet_at += KUBELET_PERIOD

    def _rests(self, at: float) -> bool:
        seen = self.world.trouble(at) is None and self.world.trouble(at - 5) is None
        return seen and self.world.work(at) in REST and self.world.work(at - 5) in REST
