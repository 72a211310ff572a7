"""The processes of this container, which need not be all that it sees.

A pod may share its processes among its containers (`shareProcessNamespace`), and the node its own with a pod
(`hostPID`). Process 1 is then none of the engine's: it is the pod's pause, or the node's init.

Processes of one container have their root folder in common, and those of another have another one. The kernel shows it
of processes with our user id only, as those of an engine mostly are. Of others the control group tells: /proc/N/cgroup
is open to everybody, in both versions of control groups; namespaces change how a path is written there, but for all
processes alike.
"""

from __future__ import annotations

import contextlib
import os

PROC = "/proc"


def first() -> int:
    """Number of the process that the container was started with: its end is the container's."""
    return 1 if belongs(1) else min(own(), key=_age)


def container_birth() -> str:
    """When the container's first process started, in clock ticks since the machine's start."""
    return str(started(first()))


def own() -> list[int]:
    """Numbers of this container's processes, this one included."""
    return [int(name) for name in os.listdir(PROC) if name.isdigit() and belongs(int(name))]


def belongs(number: int) -> bool:
    """Whether a process is one of this container."""
    try:
        return os.path.samestat(os.stat(f"{PROC}/{number}/root"), os.stat(f"{PROC}/self/root"))
    except OSError:
        pass  # another user's, whose root is not shown; or it has ended
    try:
        return _groups(str(number)) == _groups("self")
    except OSError:
        return False


def started(number: int) -> int:
    """When a process started, in clock ticks since the machine's start.

    Raises:
        OSError: it has ended.
    """
    with open(f"{PROC}/{number}/stat", encoding="ascii", errors="replace") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])


def _age(number: int) -> tuple[int, int]:
    with contextlib.suppress(OSError):
        return started(number), number
    return 2**63, number


def _groups(process: str) -> str:
    with open(f"{PROC}/{process}/cgroup", encoding="utf-8", errors="replace") as groups:
        return groups.read()
