"""Looks at an engine, once a second: a small builder for the tests of the judge."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from vllm_operator.manager import judge
from vllm_operator.manager.evidence import (
    ANSWERS,
    COMPLETED,
    Canary,
    LogLook,
    Look,
    Peer,
    PeersLook,
    ProcessesLook,
    RankLook,
)
from vllm_operator.manager.settings import Settings

SETTINGS: Final = Settings(gate_port=8480, service="model-engines")
TOOK: Final = 0.01


@dataclass
class Watch:
    """A judge that looks at an engine each second. What the engine shows is set, and stays until it is set anew."""

    settings: Settings = SETTINGS
    now: float = 1000.0
    memory: judge.Memory = field(default_factory=judge.Memory)
    steps: dict[str, float] = field(default_factory=lambda: {"0": 0.0})
    step_rate: float = 0.0
    """Steps that each rank makes in a second, but for those that hang."""
    hung: tuple[str, ...] = ()
    rank: RankLook = field(default_factory=lambda: RankLook(steps=0))
    """All but the steps."""
    ranks: dict[str, RankLook] = field(default_factory=dict)
    """The same for ranks that differ."""
    shown: dict[str, Any] = field(default_factory=lambda: {"server": ANSWERS})
    readable: bool = True
    server_cores: float | None = 0.05
    core_cores: float | None = 0.0
    core_processes: int = 1
    written: float = 0.0
    server_cpu: float = 0.0
    core_cpu: float = 0.0
    bytes_written: float = 0.0
    compilers: tuple[str, ...] = ()
    unread_since: float | None = None
    peers: tuple[Peer, ...] | None = None
    most_routable: int = 0
    due: tuple[str | None, ...] = ()

    def look(self, *canaries: Canary, took: float = TOOK, **shown: Any) -> judge.Verdict:
        """One look, one second after the one before."""
        for name in self.steps:
            self.steps[name] += 0 if name in self.hung else self.step_rate
        self.server_cpu += self.server_cores or 0.0
        self.core_cpu += self.core_cores or 0.0
        self.bytes_written += self.written
        look = Look(
            **{
                "at": self.now,
                "ended_at": self.now + took,
                "ranks": self._ranks() if self.readable else None,
                "canaries": canaries,
                "processes": self._processes(),
                "peers": self._peers(),
                "log": LogLook(),
                **self.shown,
                **shown,
            }
        )
        self.memory = judge.observe(self.memory, look, self.settings)
        self.due = judge.due_canaries(self.memory, look, self.settings)
        self.now += 1.0
        return self.verdict

    def looks(self, count: int, *canaries: Canary, **shown: Any) -> list[judge.Verdict]:
        """Several looks that see the same."""
        return [self.look(*canaries, **shown) for _ in range(count)]

    def until(self, kind: str, *canaries: Canary, most: int = 1000, **shown: Any) -> int | None:
        """How many looks until the verdict is of that kind; None: not within so many."""
        for count in range(1, most + 1):
            if self.look(*canaries, **shown).kind == kind:
                return count
        return None

    @property
    def verdict(self) -> judge.Verdict:
        """As of the last look."""
        return judge.verdict(self.memory, self.settings)

    def admit(self) -> Watch:
        """Complete the first prompt."""
        self.look(self.completed(), unserved="")
        assert self.verdict.kind == judge.SERVING
        return self

    def completed(self, rank: str | None = None) -> Canary:
        """A canary that has just completed."""
        return Canary(self.now - 0.9, self.now - 0.8, COMPLETED, rank=rank)

    def ended(self, outcome: str, rank: str | None = None, sentence: str = "") -> Canary:
        """A canary that has just ended otherwise."""
        return Canary(self.now - 0.9, self.now - 0.8, outcome, sentence, rank=rank)

    def outstanding(self, rank: str | None = None) -> Canary:
        """A canary that was sent just now."""
        return Canary(self.now - 0.9, rank=rank)

    def works(self, running: float = 8.0, *, step_rate: float = 20.0) -> Watch:
        """Give it requests, and see it make steps for a while."""
        self.rank, self.step_rate = RankLook(steps=0, running=running), step_rate
        self.looks(15)
        assert self.verdict.kind == judge.SERVING
        return self

    def hangs(self) -> Watch:
        """Let it make no steps, and use no CPU."""
        self.step_rate, self.core_cores = 0.0, 0.0
        return self

    def beside(self, *peers: Peer, most: int = 0) -> Watch:
        """Put other engines beside it."""
        self.peers, self.most_routable = peers, most
        return self

    def _ranks(self) -> dict[str, RankLook]:
        return {name: replace(self.ranks.get(name, self.rank), steps=steps) for name, steps in self.steps.items()}

    def _processes(self) -> ProcessesLook | None:
        if self.server_cores is None:
            return None
        core = None if self.core_cores is None else self.core_cpu
        return ProcessesLook(
            self.server_cpu,
            core,
            core_processes=self.core_processes,
            compilers=self.compilers,
            unread_since=self.unread_since,
            written_bytes=self.bytes_written,
        )

    def _peers(self) -> PeersLook | None:
        return None if self.peers is None else PeersLook(self.now, "10.0.0.5", self.peers, self.most_routable)


def serving(address: str, **told: Any) -> Peer:
    """Another engine that serves."""
    return Peer(address, **{"routable": True, **told})
