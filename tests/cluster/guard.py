"""The cluster's outer process: starts the supervisor, waits, and removes every trace when either of them ends.

It stays on the host, outside of the cluster's namespaces. Its standard input is the starter's lifeline: when that
closes before a `d` (for detach) came through, the starter is gone and the cluster goes too.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import addresses, cgroups, components, state
from tests.cluster.processes import Process
from tests.cluster.spec import ClusterSpec, Layout, NodeKind, node_names

if TYPE_CHECKING:
    from types import FrameType

DETACH = b"d"
_NAMESPACES = ("--pid", "--mount", "--net", "--uts", "--ipc")


def spawn(spec: ClusterSpec, layout: Layout) -> subprocess.Popen[bytes]:
    """Start the supervisor; the kernel kills it when this process dies."""
    die_with_me = ("setpriv", "--pdeathsig", "KILL", "--")
    if spec.node is NodeKind.NONE:
        inner = components.python_component("supervisor", "tests.cluster.supervisor", [str(layout.state), "-1", "0"])
        return subprocess.Popen([*die_with_me, *inner.command], stdin=subprocess.DEVNULL)
    cgroups.create(layout.cgroup, node_names(spec))
    if not Path("/proc/sys/net/bridge").exists():
        _load_bridge_filter()
    with socket.create_server((addresses.LOOPBACK, 0), backlog=128) as listener:
        arguments = [str(layout.state), str(listener.fileno()), str(listener.getsockname()[1])]
        inner = components.python_component("supervisor", "tests.cluster.supervisor", arguments)
        unshare = ("unshare", "--fork", "--kill-child=KILL", "--propagation", "private", *_NAMESPACES, "--")
        return subprocess.Popen(
            [*die_with_me, *unshare, *inner.command], stdin=subprocess.DEVNULL, pass_fds=(listener.fileno(),)
        )


def _load_bridge_filter() -> None:
    """Load the kernel's module where it is one; the supervisor complains when it is missing all the same."""
    modprobe = shutil.which("modprobe")
    if modprobe:
        subprocess.run([modprobe, "br_netfilter"], check=False)


def wait_for_end(child: subprocess.Popen[bytes], lifeline: int) -> None:
    """Return when the child ends, a signal asks for the end, or the lifeline closes."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)

    def noted(_number: int, _frame: FrameType | None) -> None:
        """The wake-up pipe has it."""

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, noted)
    ended = os.pidfd_open(child.pid)
    watched = [wake, ended, lifeline]
    while True:
        readable, _, _ = select.select(watched, [], [])
        if wake in readable or ended in readable:
            return
        if lifeline in readable:
            if os.read(lifeline, 1) != DETACH:
                return
            watched.remove(lifeline)


def main(layout: Layout) -> None:
    """Guard one cluster from its start to its end."""
    spec = ClusterSpec.from_json(layout.spec.read_text(encoding="utf-8"))
    Process.current().save(layout.guard)
    try:
        child = spawn(spec, layout)
        wait_for_end(child, sys.stdin.fileno())
        supervisor = Process.load(layout.supervisor)
        if supervisor:  # first process 1: its parent `unshare` then reaps it and ends
            supervisor.kill()
        else:
            child.kill()
        child.wait()
    finally:
        state.remove(layout)


if __name__ == "__main__":
    main(Layout(Path(sys.argv[1])))
