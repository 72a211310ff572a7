"""Processes by pid and start time, so that a pid that was given to another process is never mistaken for ours."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_STATE, _START = 0, 19  # fields of /proc/PID/stat behind the name


@dataclass(frozen=True)
class Process:
    """One process of this machine."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this pid now; None for one that is gone or only waits to be reaped."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[_STATE] in {"Z", "X"} else cls(pid, int(fields[_START]))

    @classmethod
    def current(cls) -> Process:
        """This process as /proc shows it.

        For the first process of a PID namespace that is how the host sees it, until it mounts its own /proc.
        """
        found = cls.of(int(Path("/proc/self").readlink().name))
        if found is None:
            raise RuntimeError("/proc does not show this process")
        return found

    @classmethod
    def load(cls, path: Path) -> Process | None:
        """The recorded process if it still lives."""
        if not path.exists():
            return None
        recorded = cls(**json.loads(path.read_text(encoding="utf-8")))
        return recorded if recorded.alive() else None

    def save(self, path: Path) -> None:
        """Record the process; a reader sees all of it or nothing."""
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(path)

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal if the process still runs; with SIGSTOP, return once it stands still."""
        if self.alive():
            try:
                stop(self.pid) if number == signal.SIGSTOP else os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def wait(self, seconds: float) -> bool:
        """Wait until the process is gone; False if it outlives the time."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def stop(pid: int) -> None:
    """Stop a process, and return once each of its threads stands still.

    SIGSTOP reaches one thread first, and the others when that one runs: until then they go on, and may answer a client
    although the signal is sent.

    Raises:
        TimeoutError: A thread still runs after ten seconds.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 10
    while not _thread_states(pid) <= {"T", "t", "Z", "X"}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} still runs after SIGSTOP: its threads are {_thread_states(pid)}")
        time.sleep(0.005)


def _thread_states(pid: int) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            found.add(path.read_text(encoding="utf-8").rpartition(")")[2].split()[_STATE])
    return found


def in_namespace_of(member: Process, pids: Iterable[int]) -> dict[int, Process]:
    """The host's view of processes that are known by their pids in the PID namespace of `member`."""
    wanted = set(pids)
    namespace = Path(f"/proc/{member.pid}/ns/pid").stat().st_ino
    found: dict[int, Process] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            inner = _inner_pid(folder)
            if inner not in wanted or (folder / "ns" / "pid").stat().st_ino != namespace:
                continue
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        process = Process.of(int(folder.name))
        if process:
            found[inner] = process
    return found


def _inner_pid(folder: Path) -> int:
    status = (folder / "status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])
