"""What a cluster could leave on the machine: collected while it runs, looked for when it is gone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import cgroups
from tests.cluster.isolation import KUBELET_SYSCTLS
from tests.cluster.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster

_FIXED_PATHS = (
    "/run/containerd",
    "/run/netns",
    "/run/runc",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/usr/libexec/kubernetes",
    "/etc/cni",
)
_NAMESPACES = ("mnt", "net", "pid")


@dataclass(frozen=True)
class HostState:
    """What a cluster must not change."""

    mounts: frozenset[str]
    interfaces: frozenset[str]
    paths: frozenset[str]
    sysctls: tuple[str, ...]

    @classmethod
    def now(cls) -> HostState:
        """The host as it is."""
        return cls(
            mounts=frozenset(Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()),
            interfaces=frozenset(path.name for path in Path("/sys/class/net").iterdir()),
            paths=frozenset(path for path in _FIXED_PATHS if Path(path).exists()),
            sysctls=tuple((Path("/proc/sys") / name).read_text(encoding="ascii") for name in KUBELET_SYSCTLS),
        )


@dataclass(frozen=True)
class Traces:
    """What exists while a cluster runs."""

    state: Path
    cgroup: str
    namespaces: frozenset[tuple[str, int]]
    processes: tuple[Process, ...]

    @classmethod
    def of(cls, cluster: OwnCluster) -> Traces:
        """The traces of a running cluster, its pods included."""
        guard, supervisor = (Process.load(path) for path in (cluster.layout.guard, cluster.layout.supervisor))
        assert guard is not None
        assert supervisor is not None
        own = dict(_namespaces_of(supervisor.pid))
        host = dict(_namespaces_of(os.getpid()))
        members = [pid for pid in _pids() if dict(_namespaces_of(pid)).get("pid") == own["pid"] != host["pid"]]
        namespaces = {pair for pid in members for pair in _namespaces_of(pid)} - set(host.items())
        parts = [part.process for part in cluster.components() if part.process]
        return cls(cluster.layout.state, cluster.layout.cgroup, frozenset(namespaces), (guard, supervisor, *parts))

    def left(self) -> list[str]:
        """What of it still exists."""
        found = [f"process {process.pid}" for process in self.processes if process.alive()]
        for pid in _pids():
            found += [
                f"process {pid} in {kind}" for kind, node in _namespaces_of(pid) if (kind, node) in self.namespaces
            ]
        groups = [hierarchy / self.cgroup for hierarchy in cgroups.hierarchies()]
        found += [str(path) for path in (self.state, *groups) if path.exists()]
        return found + [str(path) for path in self.state.parent.glob(f".{self.state.name}.*")]


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _namespaces_of(pid: int) -> Iterator[tuple[str, int]]:
    for kind in _NAMESPACES:
        try:
            yield kind, Path(f"/proc/{pid}/ns/{kind}").stat().st_ino
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or none of ours
            return
