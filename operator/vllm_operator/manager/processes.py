"""The engine's processes as the kernel shows them: who lives, who computes, who compiles.

The tree of the engine's first process is read from /proc, in one pass over it per look. Other containers' processes
are seen too where a pod shares its processes (`shareProcessNamespace`) or the node's (`hostPID`); they belong to
another tree and another process group, and are left out.

vLLM names its processes by their titles: `VLLM::EngineCore` or `VLLM::EngineCore_DP0`, `VLLM::Worker_TP0`,
`VLLM::APIServer_0` (the prefix can be changed; the first process has no title where there is one API server). The
kernel shows the first 15 bytes of a title as the command's name, in /proc/PID/stat. Where the package setproctitle is
missing there are no titles: the one child of the server that Python's multiprocessing has started is the core then.

/proc/PID/cmdline is read as seldom as possible: the kernel takes a lock of the process's memory for it, which a process
that hangs in a driver may hold. /proc/PID/stat and /proc/PID/io need no such lock.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from .evidence import ProcessesLook
from .unread import Unread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SERVER, CORE, WORKER, HELPER = "server", "core", "worker", "helper"
"""What a process is part of: the API server with what it has started for itself; an engine core; its workers and what
core and workers have started; none of these, such as multiprocessing's resource tracker and the coordinator of data
parallelism."""

_TITLES = (
    (re.compile(rb"::EngineCor"), CORE),
    (re.compile(rb"::Worker"), WORKER),
    (re.compile(rb"::A(?:PI|pi)Server"), SERVER),
    (re.compile(rb"::DPCoord"), HELPER),
)
_HELPERS = re.compile(rb"multiprocessing\.(?:resource_tracker|forkserver)")
_SPAWNED = re.compile(rb"multiprocessing\.spawn|--multiprocessing-fork")

_COMPILERS = re.compile(
    rb"(?:nvcc|cicc|ptxas(?:-\w+)?|fatbinary|nvlink|cudafe\+\+|hipcc|ninja|cc1|cc1plus|as|ld(?:\.\w+)?|collect2|icpx|"
    rb"(?:amd)?clang(?:\+\+)?(?:-[\d.]+)?|(?:[\w-]+-)?(?:gcc|g\+\+|c\+\+)(?:-[\d.]+)?|"
    rb"(?:x86_64|aarch64)-linux-g.*|tilelang\S*)"
)
"""Names of compilers' processes, whole, as the kernel cuts them to 15 bytes: `x86_64-linux-gnu-g++` is
`x86_64-linux-gn`. Triton compiles within the worker and calls ptxas; TileLang calls nvcc; Inductor calls g++ (seen with
vLLM 0.32.0 on CPU with two workers: g++, collect2 and ld at the first prompt, while the workers used 3 % of a CPU)."""

_FIRST_SIGHT_LOOKS = 20
"""So many looks long the words of a process that has no title yet are read: processes get them within seconds."""

_FOREIGN_LOOKS = 10
"""So many looks long a process of others stays known as that: with `hostPID` there are thousands."""

_SCHEDSTAT_WORDS = 3
"""/proc/PID/schedstat: nanoseconds on a processor, nanoseconds ready to run without one, and a count."""

_TICKS_PER_SECOND = float(os.sysconf("SC_CLK_TCK"))
_LONGEST_FILE_BYTES = 4096


@dataclass(frozen=True)
class _Stat:
    """One process as of now: /proc/PID/stat."""

    pid: int
    name: bytes
    state: str
    parent: int
    group: int
    ticks: int
    """CPU time that it has used itself."""
    waited_ticks: int
    """CPU time of its children that have ended, and of theirs, as far as these were waited for."""
    started: int

    @property
    def ended(self) -> bool:
        """Whether it is a zombie: it has ended, and nobody has waited for it."""
        return self.state in {"Z", "X", "x"}


@dataclass
class _Process:
    """What is remembered of one process of the engine."""

    stat: _Stat
    ticks: int = 0
    """CPU time that has been added to the sum of its role."""
    queued_ticks: int = 0
    """Time for which its first thread was ready to run and had no processor, as far as it is in the sum."""
    waited_ticks: int = 0
    credit_ticks: int = 0
    """CPU time of children that have gone, which is in the sum and which the kernel will add to `waited_ticks`."""
    written: int | None = 0
    """Bytes that have been added to the sum; None where the kernel does not show them."""
    words: bytes = b""
    reads: int = 0
    """How often its words were read."""


@dataclass
class _Sums:
    ticks: dict[str, int] = field(default_factory=lambda: dict.fromkeys((SERVER, CORE, WORKER, HELPER), 0))
    written: int = 0


class Processes:
    """The processes of one engine; one look follows the other.

    Args:
        engine_pid: Its first process.
        port: The port on which it serves.
        proc: Where /proc is.
    """

    def __init__(self, engine_pid: int, port: int, proc: str = "/proc") -> None:
        self._engine, self._proc = engine_pid, proc
        self._unread = Unread(port, proc)
        self._born: int | None = None
        self._known: dict[int, _Process] = {}
        self._foreign: set[int] = set()
        self._looks = 0
        self._sums = _Sums()
        self._had_core = self._has_titles = False

    def look(self, now: float) -> ProcessesLook | None:
        """What the kernel shows now; None where it does not show the engine's first process, or that has ended."""
        members = self._members()
        if members is None:
            self._known = {}
            return None
        self._remember(members)
        roles = self._roles(members)
        self._count(roles)
        alive = [one for one in members.values() if not one.ended]
        core_alive = roles is not None and any(roles[one.pid] == CORE for one in alive)
        self._had_core = self._had_core or core_alive
        servers = self._servers(alive, roles)
        computing = sorted((one.pid, one.ticks / _TICKS_PER_SECOND) for one in alive if self._computes(one, roles))
        return ProcessesLook(
            server_cpu_seconds=self._sums.ticks[SERVER] / _TICKS_PER_SECOND,
            core_cpu_seconds=self._core_cpu_seconds() if self._had_core and roles else None,
            core_alive=core_alive or not self._had_core or roles is None,
            core_processes=max(1, len(computing)),
            core_cpu_by_process=tuple(computing),
            stopped=tuple(sorted(_text(one.name) for one in alive if one.state in {"T", "t"})),
            compilers=tuple(sorted({_text(one.name) for one in alive if _is_compiler(one.name)})),
            unread_since=self._unread.look(now, servers) if len(servers) > 1 else None,
            written_bytes=float(self._sums.written),
        )

    def _members(self) -> dict[int, _Stat] | None:
        """All processes of the engine by number, parents before children."""
        if self._looks % _FOREIGN_LOOKS == 0:
            self._foreign.clear()
        self._looks += 1
        try:
            numbers = {int(name) for name in os.listdir(self._proc) if name.isdigit()}
        except OSError:
            return None
        found = {}
        for number in sorted(numbers - self._foreign):
            stat = self._stat(number)
            if stat is not None:
                found[number] = stat
        engine = found.get(self._engine)
        self._born = self._born if self._born is not None or engine is None else engine.started
        if engine is None or engine.ended or engine.started != self._born:
            return None
        members = _tree(engine, found, {one.stat.pid: one.stat.started for one in self._known.values()})
        self._foreign.update(found.keys() - members.keys())
        return members

    def _remember(self, members: Mapping[int, _Stat]) -> None:
        """Take over the new and drop the gone; their parents will be told of their CPU time by the kernel."""
        for number, process in list(self._known.items()):
            now = members.get(number)
            if now is None or now.started != process.stat.started:
                del self._known[number]
                parent = self._known.get(process.stat.parent)
                if parent is not None:
                    parent.credit_ticks += process.ticks + process.waited_ticks
        for number, stat in members.items():
            process = self._known.setdefault(number, _Process(stat))
            if process.stat.name != stat.name:
                process.reads = 0
            process.stat = stat

    def _roles(self, members: Mapping[int, _Stat]) -> dict[int, str] | None:
        """What each is part of; None where cores and API servers cannot be told apart."""
        titled = {number: self._titled(stat) for number, stat in members.items()}
        self._has_titles = self._has_titles or any(role not in {None, HELPER} for role in titled.values())
        untitled_cores = set() if self._has_titles else self._spawned_by_server(members, titled)
        if len(untitled_cores) > 1:
            return None
        roles: dict[int, str] = {}
        for number, stat in members.items():
            if number == self._engine:
                roles[number] = SERVER
            elif number in untitled_cores:
                roles[number] = CORE
            else:
                roles[number] = titled[number] or _inherited(roles.get(stat.parent))
        return roles

    def _titled(self, stat: _Stat) -> str | None:
        by_name = _role_of(stat.name)
        if by_name or _is_compiler(stat.name):
            return by_name
        process = self._known[stat.pid]
        if process.reads < _FIRST_SIGHT_LOOKS:
            process.reads += 1
            process.words = self._read(stat.pid, "cmdline") or process.words
        if _HELPERS.search(process.words):
            return HELPER
        return _role_of(process.words.partition(b"\0")[0])

    def _spawned_by_server(self, members: Mapping[int, _Stat], titled: Mapping[int, str | None]) -> set[int]:
        """Children of the server without a title that multiprocessing has started, by spawn or by fork."""
        parent_words = self._known[self._engine].words
        return {
            number
            for number, stat in members.items()
            if stat.parent == self._engine
            and titled[number] is None
            and not stat.ended
            and not _is_compiler(stat.name)
            and (_SPAWNED.search(self._known[number].words) or self._known[number].words == parent_words != b"")
        }

    def _count(self, roles: Mapping[int, str] | None) -> None:
        """Add what was used since the look before. What has ended stays in the sums, so they never fall."""
        for number, process in self._known.items():
            role = roles[number] if roles else SERVER if number == self._engine else HELPER
            stat = process.stat
            self._sums.ticks[role] += max(0, stat.ticks - process.ticks)
            process.ticks = max(stat.ticks, process.ticks)
            self._count_queued(process, role)
            waited = max(0, stat.waited_ticks - process.waited_ticks)
            if role in {CORE, WORKER}:  # of compilers that live shorter than the time between looks only this tells
                self._sums.ticks[role] += max(0, waited - process.credit_ticks)
            process.credit_ticks = max(0, process.credit_ticks - waited)
            process.waited_ticks += waited
            self._count_written(process)

    def _count_queued(self, process: _Process, role: str) -> None:
        """Add what it would have computed, had it got a processor: where many want one, its CPU time says little."""
        if role == HELPER or process.stat.ended:
            return
        words = self._read(process.stat.pid, "schedstat").split()
        if len(words) < _SCHEDSTAT_WORDS or not words[1].isdigit():  # a kernel without CONFIG_SCHED_INFO
            return
        queued = int(int(words[1]) / 1e9 * _TICKS_PER_SECOND)
        self._sums.ticks[role] += max(0, queued - process.queued_ticks)
        process.queued_ticks = max(queued, process.queued_ticks)

    def _count_written(self, process: _Process) -> None:
        if process.written is None or process.stat.ended:
            return
        text = self._read(process.stat.pid, "io")
        found = re.search(rb"wchar: (\d+)", text) if text else None
        if found is None:
            process.written = None if process.written == 0 else process.written
            return
        self._sums.written += max(0, int(found[1]) - process.written)
        process.written = max(int(found[1]), process.written)

    def _servers(self, alive: Iterable[_Stat], roles: Mapping[int, str] | None) -> dict[int, float]:
        """CPU seconds of the API servers' processes by number; the parent of several serves nobody itself."""
        if roles is None:
            return {}
        return {
            one.pid: one.ticks / _TICKS_PER_SECOND
            for one in alive
            if one.pid != self._engine and roles[one.pid] == SERVER and self._titled(one) == SERVER
        }

    def _core_cpu_seconds(self) -> float:
        return (self._sums.ticks[CORE] + self._sums.ticks[WORKER]) / _TICKS_PER_SECOND

    def _computes(self, stat: _Stat, roles: Mapping[int, str] | None) -> bool:
        """Whether it is a core or a worker itself, and nothing that these have started."""
        role = roles[stat.pid] if roles else None
        if role == WORKER:
            return bool(_role_of(stat.name) or _SPAWNED.search(self._known[stat.pid].words))
        return role == CORE

    def _stat(self, number: int) -> _Stat | None:
        text = self._read(number, "stat")
        return _stat_of(number, text) if text else None

    def _read(self, number: int, name: str) -> bytes:
        """The file of a process; empty where it has ended, or the kernel does not show it."""
        try:
            file = os.open(f"{self._proc}/{number}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.read(file, _LONGEST_FILE_BYTES)
        except OSError:
            return b""
        finally:
            os.close(file)


def _tree(engine: _Stat, found: Mapping[int, _Stat], known: Mapping[int, int]) -> dict[int, _Stat]:
    """Those of the engine, parents before children: its tree, its process group, and who was known as one of them.

    A process whose parent has ended is a child of the stem's from then on; group and memory keep it.
    """
    children: dict[int, list[_Stat]] = {}
    for stat in found.values():
        children.setdefault(stat.parent, []).append(stat)
    strays = [one for one in found.values() if one.group == engine.pid or known.get(one.pid) == one.started]
    members: dict[int, _Stat] = {}
    waiting = [engine, *strays]
    while waiting:
        stat = waiting.pop(0)
        if stat.pid not in members:
            members[stat.pid] = stat
            waiting[:0] = children.get(stat.pid, [])
    return members


def _stat_of(number: int, text: bytes) -> _Stat | None:
    """Read /proc/PID/stat; a name may hold blanks and brackets. None where the text is none."""
    start, end = text.find(b"("), text.rfind(b")")
    fields = text[end + 2 :].split()
    try:
        return _Stat(
            pid=number,
            name=text[start + 1 : end],
            state=_text(fields[0]),
            parent=int(fields[1]),
            group=int(fields[2]),
            ticks=int(fields[11]) + int(fields[12]),
            waited_ticks=int(fields[13]) + int(fields[14]),
            started=int(fields[19]),
        )
    except (IndexError, ValueError):
        return None


def _inherited(role: str | None) -> str:
    """What a process without a title is part of, by its parent's role."""
    return WORKER if role == CORE else role or HELPER


def _role_of(title: bytes) -> str | None:
    return next((role for pattern, role in _TITLES if pattern.search(title)), None)


def _is_compiler(name: bytes) -> bool:
    return _COMPILERS.fullmatch(name) is not None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")
