"""What the kernel has killed in this container for memory, out of its control group."""

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


def _places(root: str, own: str) -> list[str]:
    """Where the count may stand: containers mostly see their own group as the root, but not always."""
    paths = {"": "", "memory": ""}
    with contextlib.suppress(OSError, ValueError), open(own, encoding="utf-8") as file:  # without it: the roots alone
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                paths[controller] = path.lstrip("/")
    return [
        os.path.join(root, paths[""], "memory.events"),
        os.path.join(root, "memory.events"),
        os.path.join(root, "memory", paths["memory"], "memory.oom_control"),
        os.path.join(root, "memory", "memory.oom_control"),
    ]
