"""What the kernel has done to this container for memory and CPU, out of its control group."""

from __future__ import annotations

import contextlib
import os

ROOT = "/sys/fs/cgroup"
OWN = "/proc/self/cgroup"


def oom_kills(root: str | None = None, own: str = OWN) -> int | None:
    """How many processes the kernel has killed since the container began; None where it does not say.

    `oom_kill` of memory.events in cgroup v2, and of memory.oom_control in v1. (memory.failcnt of v1 also counts what
    was cleared by giving up caches, so that it proves no death.)
    """
    for path in _places(root or ROOT, own):
        try:
            with open(path, encoding="ascii") as file:
                return int(dict(line.split() for line in file)["oom_kill"])
        except (OSError, KeyError, ValueError):  # another version of cgroups, or a kernel before 4.13
            continue
    return None


def cpu_periods(root: str | None = None, own: str = OWN) -> tuple[int, int] | None:
    """Scheduling periods since the container began, and those in which it was stopped; None where it has no limit.

    `nr_periods` and `nr_throttled` of cpu.stat, in both versions of cgroups. Only periods count in which it ran.
    """
    root = root or ROOT
    paths = _own_paths(own)
    names = [os.path.join(root, paths[""]), root]
    names += [os.path.join(root, "cpu", paths["cpu"]), os.path.join(root, "cpu")]
    for name in names:
        try:
            with open(os.path.join(name, "cpu.stat"), encoding="ascii") as file:
                found = dict(line.split() for line in file)
            periods, throttled = int(found["nr_periods"]), int(found["nr_throttled"])
        except (OSError, KeyError, ValueError):  # another version of cgroups, or no limit
            continue
        return (periods, throttled) if periods else None
    return None


def _places(root: str, own: str) -> list[str]:
    """Where the count may stand: containers mostly see their own group as the root, but not always."""
    paths = _own_paths(own)
    return [
        os.path.join(root, paths[""], "memory.events"),
        os.path.join(root, "memory.events"),
        os.path.join(root, "memory", paths["memory"], "memory.oom_control"),
        os.path.join(root, "memory", "memory.oom_control"),
    ]


def _own_paths(own: str) -> dict[str, str]:
    """The paths of the container's groups by their controllers; that of cgroup v2 has none."""
    paths = {"": "", "memory": "", "cpu": ""}
    with contextlib.suppress(OSError, ValueError), open(own, encoding="utf-8") as file:  # without it: the roots alone
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                paths[controller] = path.lstrip("/")
    return paths
