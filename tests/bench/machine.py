"""How much of the machine others used meanwhile: on a busy machine a time says little, and a run has to say so."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_USER_TICKS, _SYSTEM_TICKS = 11, 12  # fields of /proc/PID/stat behind the name
_IDLE = frozenset({3, 4, 8, 9})
"""Fields of the `cpu` line of /proc/stat that are no work: idle, waiting for disks, and guests, counted twice there."""


@dataclass(frozen=True, slots=True)
class Used:
    """CPU that a phase took."""

    own_seconds: float
    """Of everything under measurement: cluster, harness and operator."""
    others_share: float
    """Share of all cores that others used meanwhile, from 0 to 1; what the hypervisor took away counts too."""


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time of the whole machine and of the processes under measurement, at one moment."""

    at: float
    machine_seconds: float
    own_seconds: float

    def until(self, later: Usage) -> Used:
        """What was used between the two moments."""
        own = later.own_seconds - self.own_seconds
        others = later.machine_seconds - self.machine_seconds - own
        return Used(own, max(0.0, others / (later.at - self.at) / (os.cpu_count() or 1)))


def usage(pids: Iterable[int]) -> Usage:
    """Read the machine, this process and those with these pids."""
    own = time.process_time() + sum(cpu_seconds(pid) for pid in pids)
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    busy = sum(int(field) for number, field in enumerate(fields) if number not in _IDLE)
    return Usage(time.monotonic(), busy / _TICKS, own)


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS
