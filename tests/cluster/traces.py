"""What a cluster could leave on the machine: collected while it runs, looked for when it is gone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import cgroups
from tests.cluster.isolation import KUBELET_SYSCTLS
from tests.cluster.processes import Process

if TYPE_CHECKING:
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
    processes: tuple[Process, ...]

    @classmethod
    def of(cls, cluster: OwnCluster) -> Traces:
        """The traces of a running cluster: the guard and all below it, pods included."""
        guard = Process.load(cluster.layout.guard)
        assert guard is not None
        members = [process for pid in _descendants(guard.pid) if (process := Process.of(pid))]
        return cls(cluster.layout.state, cluster.layout.cgroup, (guard, *members))

    def left(self) -> list[str]:
        """What of it still exists, and what was started meanwhile: components have the state folder as HOME."""
        found = [f"process {process.pid}" for process in self.processes if process.alive()]
        found += [f"process {pid} of {self.state}" for pid in _pids() if _home(pid) == str(self.state)]
        groups = [hierarchy / self.cgroup for hierarchy in cgroups.hierarchies()]
        found += [str(path) for path in (self.state, *groups) if path.exists()]
        return found + [str(path) for path in self.state.parent.glob(f".{self.state.name}.*")]

    def count(self, kind: str) -> int:
        """In how many namespaces of this kind the processes live."""
        return len({Path(f"/proc/{process.pid}/ns/{kind}").readlink() for process in self.processes})


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _descendants(ancestor: int) -> list[int]:
    """All processes below this one: an orphan inside of a PID namespace becomes a child of its first process."""
    parents = {pid: parent for pid in _pids() if (parent := _parent(pid))}
    found = [ancestor]
    for known in found:  # grows while it is walked
        found += [pid for pid, parent in parents.items() if parent == known]
    return found[1:]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _home(pid: int) -> str:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or none of ours
        return ""
    return next((item[5:].decode() for item in environment if item.startswith(b"HOME=")), "")
