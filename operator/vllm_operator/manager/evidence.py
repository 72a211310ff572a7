"""What one look at an engine has seen: frozen data, gathered by the program and judged by `judge.py`. Pure.

All times are seconds of the machine's monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWERS, REFUSES, SILENT, SAYS_DEAD, SCALING = "answers", "refuses", "silent", "says dead", "scaling"
"""What the server did when it was asked: answered, be it an error; refused the connection, since nothing listens; took
the connection and did not answer within the deadline; answered that its engine is dead (503 of /health); answered
that elastic expert parallelism adds or removes ranks (503 with words of its own)."""

COMPLETED, UNANSWERED, BUSY, REFUSED, FAILED = "completed", "unanswered", "busy", "refused", "failed"
"""Outcomes of a canary: done; no answer in time; turned away by a full queue (429, 503); refused as a request that no
restart mends (401, 404, other 4xx); anything else, such as a status 5xx or an empty completion."""


ALIVE, GONE, FAULTY, LEAVING, SILENT_WORKER = "alive", "gone", "faulty", "leaving", "silent"
"""What the leader of an engine over several pods knows of a worker: it lives; its process 1 has ended, or was started
anew; its own manager has found that it does not work; it was asked to end; nobody answers, which proves nothing."""


@dataclass(frozen=True)
class WorkerLook:
    """What the manager of another pod of this engine tells of its worker."""

    number: int
    """From 1 on."""
    state: str
    """One of ALIVE, GONE, FAULTY, LEAVING, SILENT_WORKER."""
    sentence: str = ""
    """What is wrong, for people."""


@dataclass(frozen=True)
class RankLook:
    """What /metrics says of one engine core, a rank of data parallelism."""

    steps: float
    """Counter of steps (`vllm:iteration_tokens_total_count`); of tokens where vLLM counts no steps."""
    kv_usage: float = 0.0
    """Share of the KV cache in use, 0 to 1: steps that read a long prompt make no token and move this number alone."""
    running: float = 0.0
    waiting: float = 0.0
    """Requests that wait for room."""
    deferred: float = 0.0
    """Requests that the scheduler has put off: their grammar is compiled, their KV cache or next input is on its way.
    No step is due for them."""
    asleep: bool = False

    @property
    def in_flight(self) -> float:
        """Requests for which a step is due."""
        return self.running + self.waiting


@dataclass(frozen=True)
class Canary:
    """A prompt of our own, as small as the model allows."""

    sent_at: float
    ended_at: float | None = None
    """None while its answer is waited for."""
    outcome: str | None = None
    """One of the outcomes above; None while its answer is waited for."""
    sentence: str = ""
    """What went wrong, for people."""
    rank: str | None = None
    """The rank that was to complete it; None where the server chose one."""
    cause: str = ""
    """What went wrong, as a word for programs: a cause of `engine.EngineError`."""


@dataclass(frozen=True)
class ProcessesLook:
    """What the kernel says of the engine's processes. Each CPU time is the sum since the engine's start.

    Time for which a process was ready to run and got no processor counts as CPU time: on a crowded machine a process
    that computes gets little of it, and must not look like one that does nothing.
    """

    server_cpu_seconds: float
    """Of the API server's processes."""
    core_cpu_seconds: float | None
    """Of the engine cores, the workers and what these have started (compilers); None: cannot be told apart."""
    core_alive: bool = True
    """Whether an engine core is there, as a process of its own; True as well where none was ever seen, or cores cannot
    be told apart."""
    core_processes: int = 1
    """How many processes `core_cpu_seconds` is about, compilers left out: a worker that waits polls, and uses up to
    0.8 % of a CPU so, as measured with vLLM 0.32.0."""
    core_cpu_by_process: tuple[tuple[int, float], ...] = ()
    """Number and CPU seconds of each of these, without what it has started. Where one of several workers hangs, the
    others wait for it in a collective operation and use a whole CPU each: only the one that hangs uses none."""
    stopped: tuple[str, ...] = ()
    """Names of the processes that a signal or a debugger has stopped."""
    compilers: tuple[str, ...] = ()
    """Names of the compilers that run among the engine's processes: nvcc, ptxas, cc1plus, and so on."""
    unread_since: float | None = None
    """Since when one of SEVERAL API server processes leaves bytes of a client unread and uses no CPU; None where none
    does, and where there is one process only (its silence shows in the answers)."""
    written_bytes: float = 0.0
    """What all of them have written to files and sockets: a profiler writes for minutes and makes no step."""


@dataclass(frozen=True)
class LogLook:
    """What the engine's log has said up to now."""

    compiled_at: float | None = None
    """When it last said that a kernel is or was compiled during inference."""
    blocked_at: float | None = None
    """When a worker last said that it waits for others ("No available shared memory broadcast block")."""


@dataclass(frozen=True)
class Peer:
    """Another engine of the same model, as its address in DNS and its own manager tell."""

    address: str
    routable: bool
    """Whether the headless Service's DNS has its address, and its manager (where it answers) says that it is ready."""
    reachable: bool = True
    """Whether its manager answered."""
    suspected: bool = False
    """Whether its judge suspects it, whatever has come of that."""
    restarting: bool = False
    """Whether it was restarted by its judge and has not been admitted since."""


@dataclass(frozen=True)
class PeersLook:
    """The model's engines beside this one, as of a moment."""

    at: float
    own_address: str
    others: tuple[Peer, ...] = ()
    most_routable: int = 0
    """The largest number of addresses, this engine's included, that DNS had in the last ten minutes."""


@dataclass(frozen=True)
class Look:
    """One look at the engine."""

    at: float
    """When the questions were put: until then at least, nothing had moved."""
    ended_at: float
    server: str
    """One of ANSWERS, REFUSES, SILENT, SAYS_DEAD, SCALING."""
    ranks: Mapping[str, RankLook] | None = None
    """By their names in the metrics; None where the metrics could not be read, or were not understood."""
    paused: bool = False
    """Whether the server says that it was paused."""
    canaries: tuple[Canary, ...] = ()
    """Those that have ended since the look before, and those whose answer is waited for, by the time of sending."""
    unserved: str | None = None
    """The sentence of served names that are missing; empty: none; None: nobody asked, or was told."""
    processes: ProcessesLook | None = None
    """None where the kernel does not show them."""
    log: LogLook = field(default_factory=LogLook)
    connections: int | None = None
    """Open connections of others to the server; None where the kernel does not say."""
    peers: PeersLook | None = None
    """None where nobody has looked; the judge says when it wants them (`judge.wants_peers`)."""
    workers: tuple[WorkerLook, ...] = ()
    """Of an engine over several pods, by number; empty where nobody has looked."""
    trouble: str = ""
    """What stood in the way of the metrics, for people."""
