"""The control groups of a cluster: made before the kubelet starts, removed when everything in them is dead.

Works with version 1 hierarchies, with version 2, and with both mounted beside each other.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

_CPUSET = ("cpuset.cpus", "cpuset.mems")
# What a group of the weight of one process weighs, by version of the hierarchy.
_WEIGHTS = (("cpu.shares", 1024), ("cpu.weight", 100))


def hierarchies() -> tuple[Path, ...]:
    """Where the hierarchies are mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in {"cgroup", "cgroup2"}:
            found.append(Path(before.split()[4]))
    return tuple(found)


def create(name: str, nodes: Sequence[str]) -> None:
    """Make the group `name`/NODE for each node in every hierarchy: the kubelet insists that its root exists.

    The pods of a cluster weigh together what a kubelet lets those of its node weigh: as many processes as it has
    processors. As one process, thirty engines that start wait for minutes behind the API servers of all clusters.
    """
    for hierarchy in hierarchies():
        for group in (hierarchy / name, *(hierarchy / name / node for node in nodes)):
            group.mkdir(exist_ok=True)
            _prepare(group)
        for knob, weight in _WEIGHTS:
            if (hierarchy / name / knob).exists():
                (hierarchy / name / knob).write_text(str(weight * (os.cpu_count() or 1)), encoding="ascii")


def remove(name: str, seconds: float = 10.0) -> None:
    """Remove the group `name` and all below it from every hierarchy; its last processes may still be dying.

    Raises:
        ClusterError: something in it lives on.
    """
    deadline = time.monotonic() + seconds
    while left := [
        path for hierarchy in hierarchies() if (path := hierarchy / name).exists() and not _remove_tree(path)
    ]:
        if time.monotonic() > deadline:
            raise ClusterError(f"cannot remove control groups, processes live in them: {', '.join(map(str, left))}")
        time.sleep(0.05)


def _prepare(group: Path) -> None:
    for name in _CPUSET:  # version 1: a new cpuset is empty and takes no process until it has processors and memory
        own, parent = group / name, group.parent / name
        if own.exists() and parent.exists() and not own.read_text(encoding="ascii").strip():
            own.write_text(parent.read_text(encoding="ascii"), encoding="ascii")
    controllers = group.parent / "cgroup.controllers"
    if controllers.exists():  # version 2: a child has the controllers that its parent hands down
        for controller in controllers.read_text(encoding="ascii").split():
            (group.parent / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")


def _remove_tree(top: Path) -> bool:
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            Path(folder).rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # still busy
            return False
    return True
