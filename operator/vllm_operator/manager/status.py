"""What is told of an engine, as data: for kubelet's probes, /status, /metrics and the stem. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from . import exposition
from .capacity import Capacity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .evidence import RankLook
    from .matching import Diagnosis
    from .timeline import Entry

KINDS = STARTING, SERVING, WITHDRAWN, RESTART, LEAVING = "starting", "serving", "withdrawn", "restart", "leaving"


@dataclass(frozen=True)
class Counts:
    """What /metrics counts over the life of the engine, whichever judges there were."""

    looks: int = 0
    look_seconds: float = 0.0
    canaries: Mapping[str, int] = field(default_factory=dict)
    """By outcome."""
    withdrawals: Mapping[str, int] = field(default_factory=dict)
    """By cause."""
    adapter_loads: int = 0
    judge_restarts: int = 0
    """Judges that were started because the one before had failed."""
    judge_updates: int = 0
    """Judges that were started because there was a newer program."""
    faults: int = 0
    """Looks in which a part of the gate itself failed."""

    def as_dict(self) -> dict[str, object]:
        """The counts as they are handed on to the next judge."""
        return asdict(self)


def restored_counts(stored: object) -> Counts:
    """The counts that an earlier judge of whatever version has handed on; what is not understood begins at 0."""
    given = stored if isinstance(stored, dict) else {}
    numbers = {name: value for name, value in given.items() if _counts(value) and name in Counts.__dataclass_fields__}
    for name in ("canaries", "withdrawals"):
        table = given.get(name)
        known = table.items() if isinstance(table, dict) else ()
        numbers[name] = {str(key): value for key, value in known if _counts(value)}
    return Counts(**numbers)


def _counts(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def increased(table: Mapping[str, int], name: str) -> dict[str, int]:
    """The table with one more under that name."""
    return {**table, name: table.get(name, 0) + 1}


@dataclass(frozen=True)
class Status:
    """One engine, as of its judge's last look. Times of day are RFC 3339, UTC."""

    pod: str
    verdict: str
    """One of KINDS."""
    cause: str
    sentence: str
    since: str
    phase: str
    """How far the engine has come in its start, as its log says."""
    phase_detail: str
    phase_since: str
    admitted: bool
    """Whether it has completed a prompt in this life of the container."""
    stall_window: float
    program: str
    """Digest of the judge's files."""
    serving: bool = False
    """Whether it may have requests to finish, should it be asked to end."""
    overdue: bool = False
    """Whether it should have been ended, and is still there."""
    suspected: bool = False
    restarting: bool = False
    """Whether this life began because an earlier one was ended for a fault, and has not been admitted yet."""
    in_flight: float | None = None
    longest_step: float | None = None
    ranks: Mapping[str, RankLook] | None = None
    timeline: tuple[Entry, ...] = ()
    excerpt: str = ""
    diagnosis: Diagnosis | None = None
    """The known failure that the excerpt tells of."""
    symptoms: tuple[Diagnosis, ...] = ()
    """What slows it down, as its log says, and known failures that it serves with."""
    adapters: Mapping[str, object] = field(default_factory=dict)
    """Which list of adapters is followed, and how far; empty where they are part of the engine's start."""
    trouble: str = ""
    capacity: Capacity = field(default_factory=Capacity)
    """What the start has reported of the GPUs' memory."""
    counts: Counts = field(default_factory=Counts)
    restarts: Mapping[str, int] = field(default_factory=dict)
    """Starts of the container after its first one, by cause (`restarts.CAUSES`)."""
    load_phases: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each phase of this start, up to now of the one that it is in (`signatures.PHASES`)."""

    @property
    def ready(self) -> bool:
        """Whether the engine takes traffic."""
        return self.verdict == SERVING

    @property
    def started(self) -> bool:
        """Whether the startup probe passes."""
        return self.admitted and self.verdict != LEAVING

    @property
    def live(self) -> bool:
        """Whether the liveness probe passes: the manager ends engines itself, and kubelet only where that has failed.

        An engine that is asked to end is not to be killed in the midst of its last requests.
        """
        return not self.overdue or self.verdict == LEAVING

    def document(self) -> dict[str, object]:
        """The body of /status."""
        return {
            "pod": self.pod,
            "verdict": self.verdict,
            "cause": self.cause,
            "sentence": self.sentence,
            "since": self.since,
            "phase": {"name": self.phase, "detail": self.phase_detail, "since": self.phase_since},
            "admitted": self.admitted,
            "ready": self.ready,
            "suspected": self.suspected,
            "restarting": self.restarting,
            "in_flight": self.in_flight,
            "longest_step_seconds": self.longest_step,
            "stall_window_seconds": self.stall_window,
            "ranks": {name: _rank(rank) for name, rank in (self.ranks or {}).items()},
            "timeline": [entry.as_dict() for entry in self.timeline],
            "excerpt": self.excerpt,
            "diagnosis": self.diagnosis.as_dict() if self.diagnosis else None,
            "symptoms": [symptom.as_dict() for symptom in self.symptoms],
            "adapters": dict(self.adapters),
            "trouble": self.trouble,
            "capacity": self.capacity.as_dict(),
            "program": self.program,
            "answered_by": "judge",
        }

    def report(self) -> dict[str, object]:
        """The verdict as the stem keeps it, to answer for a judge that is not there."""
        verdict = {"kind": self.verdict, "cause": self.cause, "sentence": self.sentence, "since": self.since}
        answers = {"startup": self.started, "ready": self.ready, "live": self.live, "serving": self.serving}
        return {"verdict": verdict, **answers}

    def metrics(self) -> str:
        """The body of /metrics, in Prometheus' text format."""
        return exposition.text(self)


def _rank(rank: RankLook) -> dict[str, object]:
    return {
        "steps": rank.steps,
        "running": rank.running,
        "waiting": rank.waiting,
        "deferred": rank.deferred,
        "asleep": rank.asleep,
    }
