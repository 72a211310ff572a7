"""Start test clusters, and find those that run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.cluster import images, state, tools
from tests.cluster.binaries import ensure_binaries
from tests.cluster.cluster import Cluster, KindCluster, OwnCluster, close, run_kind
from tests.cluster.errors import ClusterError
from tests.cluster.paths import REPOSITORY, cache_folder
from tests.cluster.reports import follow
from tests.cluster.spec import ClusterSpec, Layout, NodeKind

if TYPE_CHECKING:
    from collections.abc import Callable

KIND_CONFIG = Path(__file__).resolve().parent / "kind.yaml"
GOGC = "300"
"""How much a Go program allocates before it looks for garbage, in percent of what it uses; by default 100.

Clusters that are tested side by side compete for processors rather than for memory. By kube-apiserver's own metrics,
go_cpu_classes_gc_total_cpu_seconds_total and process_cpu_seconds_total, 40 % of what it computed in three of them was
that by default, and 12 % is now (the former is an overestimate, as its help says).
"""


def _print(line: str) -> None:
    print(line, flush=True)


def start(spec: ClusterSpec, *, report: Callable[[str], None] = _print) -> Cluster:
    """Start a cluster; it ends with `stop`, at the end of a `with` block, or with this process.

    Raises:
        ClusterError: something is missing or a component failed; nothing is left then.
    """
    tools.check(spec.node)
    binaries = ensure_binaries(report)
    match spec.node:
        case NodeKind.EXISTING:
            return Cluster(spec, _users_kubeconfig(), binaries)
        case NodeKind.KIND:
            return _start_kind(spec, binaries)
        case NodeKind.REAL:
            return _start_own(replace(spec, images=(images.pause_image(), *spec.images)), binaries, report)
        case NodeKind.NONE:
            return _start_own(spec, binaries, report)


def attach(name: str = "default") -> Cluster:
    """The running cluster of this name.

    Raises:
        ClusterError: none runs.
    """
    layout = next((layout for layout in state.running() if layout.state.name == name), None)
    if layout is None:
        raise ClusterError(f"no cluster named {name!r} runs: start it with `python -m tests.cluster up --name {name}`")
    try:
        spec = ClusterSpec.from_json(layout.spec.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ClusterError(f"the cluster {name!r} has just ended") from None
    if spec.node is NodeKind.KIND:
        return KindCluster(spec, layout.kubeconfig, ensure_binaries())
    return OwnCluster(spec, ensure_binaries())


def _start_own(spec: ClusterSpec, binaries: Path, report: Callable[[str], None]) -> OwnCluster:
    lock = state.create(spec)
    layout = Layout.of(spec.name)
    try:
        with (layout.logs / "guard.log").open("ab") as log:
            guard = _spawn_guard(layout, binaries, lock, log)
    finally:
        os.close(lock)
    try:
        follow(guard.stdout or (), report)
    except BaseException as error:
        close(guard)
        if isinstance(error, ClusterError):
            logs = state.kept_logs(spec.name)
            raise ClusterError(f"{error}\n{_tail(logs / 'guard.log')}all logs: {logs}") from error
        raise
    return OwnCluster(spec, binaries, guard)


def _spawn_guard(layout: Layout, binaries: Path, lock: int, log: IO[bytes]) -> subprocess.Popen[str]:
    env = {
        "PATH": f"{binaries}{os.pathsep}{tools.search_path()}",
        "HOME": str(layout.state),
        "TMPDIR": str(layout.temporary),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(REPOSITORY),
        "VLLM_OPERATOR_CACHE": str(cache_folder()),
        "GOGC": GOGC,
    }
    guard = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.guard", str(layout.state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=env,
        cwd="/",
        pass_fds=(lock,),
        start_new_session=True,  # a Ctrl-C is for the starter; the guard hears of it through the lifeline
    )
    _weigh(guard.pid, os.nice(0))
    return guard


def _weigh(pid: int, niceness: int) -> None:
    """Have the session of a process weigh what its starter's niceness says.

    Where the kernel groups processes by their sessions, niceness counts within a session alone, and a cluster that was
    started beside other tests with `nice` takes as much as theirs (sched(7), "The autogroup feature").
    """
    autogroup = Path("/proc", str(pid), "autogroup")
    if niceness > 0 and autogroup.exists():
        autogroup.write_text(str(niceness), encoding="utf-8")


def _tail(log: Path, lines: int = 15) -> str:
    """What the cluster's own processes had to say, if anything."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return "".join(f"  {line}\n" for line in text.splitlines()[-lines:])


def _users_kubeconfig() -> Path:
    chosen = os.environ.get("KUBECONFIG")
    path = Path(chosen.split(os.pathsep)[0]) if chosen else Path.home() / ".kube" / "config"
    if not path.exists():
        raise ClusterError(f"--node existing uses the cluster of {path}, which does not exist: set KUBECONFIG")
    return path


def _start_kind(spec: ClusterSpec, binaries: Path) -> KindCluster:
    if shutil.which("kind") is None:
        raise ClusterError("--node kind needs the program `kind` and a container engine; `kind` is not on PATH")
    layout = Layout.of(spec.name)
    os.close(state.create(spec))
    cluster = KindCluster(spec, layout.kubeconfig, binaries)
    try:
        run_kind(
            "create",
            "cluster",
            "--name",
            spec.name,
            "--config",
            str(KIND_CONFIG),
            "--kubeconfig",
            str(layout.kubeconfig),
        )
        for image in spec.images:
            cluster.load_image(image)
    except BaseException:
        cluster.stop()
        raise
    return cluster
