"""What the manager costs an engine's pod: CPU and memory, the server's event loop, the relay of its output, kubelet.

    python -m tests.bench.manager [--seconds N]

The manager runs its program from the sources. "idle" and "busy" are the real vLLM with the tiny model on loopback; the
share of the server's event loop is its CPU beside that of the same server without a manager, in pairs, one of each
after the other. For kubelet and the container runtime a node runs stub engines: with the manager and its probes, and
then without both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.bench.machine import cpu_seconds
from tests.cluster import ClusterSpec, NodeKind, OwnCluster, start
from tests.e2e.matrix.fleet import plain_twin
from tests.support import images, models
from tests.support.servers import REAL_FLAGS, REAL_START_SECONDS, EngineServer, free_port, real_server
from tests.support.site import Site, install_operator
from tests.support.vllm_cpu import engine_environment, real_engine
from vllm_operator import manager
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

STEM: Final = Path(manager.__file__).with_name("stem.py")
PAIRS: Final = 3
PODS: Final = 8
SETTLE_SECONDS: Final = 20.0
RELAYED_BYTES: Final = 1 << 30
CPU_GOAL, LOOP_GOAL, MEMORY_GOAL_MIB = 0.01, 0.005, 35.0
"""Of one core, of the server's event loop, and of both programs together."""


@dataclass(frozen=True)
class Share:
    """CPU of some processes during a while, as shares of one core."""

    own: float
    """Of the manager's two programs."""
    server: float
    """Of the engine's API server."""
    memory_mib: float
    """Resident memory of the manager's two programs."""


@dataclass(frozen=True)
class Managed:
    """An engine with a manager."""

    stem: int
    judge: int
    engine: EngineServer

    def share(self, seconds: float) -> Share:
        """Watch for a while."""
        own, server = (self.stem, self.judge), self.engine.process.pid
        before, loop, began = sum(map(cpu_seconds, own)), cpu_seconds(server), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        used = sum(map(cpu_seconds, own)) - before
        return Share(used / passed, (cpu_seconds(server) - loop) / passed, sum(map(resident_mib, own)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.manager", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each watch")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        idle, busy, loops = engine_shares(Path(folder), seconds)
        tell("CPU of the manager, idle engine", idle.own, CPU_GOAL)
        tell("CPU of the manager, busy engine", busy.own, CPU_GOAL)
        tell(f"event loop of the idle server, median of {PAIRS} pairs", statistics.median(loops), LOOP_GOAL)
        met = "met" if idle.memory_mib <= MEMORY_GOAL_MIB else "MISSED"
        print(f"{'memory of the manager':50} {idle.memory_mib:.1f} MiB, goal {MEMORY_GOAL_MIB:.0f}: {met}")
        through, bare = relayed(Path(folder), managed=True), relayed(Path(folder), managed=False)
        print(f"{'output through the manager':50} {through:.0f} MB/s; without it {bare:.0f} MB/s")
    tell(f"a pod's whole CPU, kubelet and runtime included ({PODS} stubs)", node_share(seconds), CPU_GOAL)


def tell(what: str, share: float, goal: float) -> None:
    """One line."""
    print(f"{what:50} {share:.2%} of a core, goal {goal:.1%}: {'met' if share <= goal else 'MISSED'}", flush=True)


def engine_shares(folder: Path, seconds: float) -> tuple[Share, Share, list[float]]:
    """The manager beside an idle and a busy engine, and what its looks take of the server's event loop, by pair."""
    with managed_engine(folder) as own, real_server(folder=folder) as other:
        time.sleep(SETTLE_SECONDS)
        pairs = [beside(own, other, seconds) for _ in range(PAIRS)]
        with load(own.engine):
            busy = own.share(seconds)
    return pairs[0][0], busy, [share.server - bare for share, bare in pairs]


def beside(own: Managed, other: EngineServer, seconds: float) -> tuple[Share, float]:
    """The same while for an engine with a manager, and for the event loop of one without."""
    before, began = cpu_seconds(other.process.pid), time.monotonic()
    share = own.share(seconds)
    return share, (cpu_seconds(other.process.pid) - before) / (time.monotonic() - began)


@contextlib.contextmanager
def load(engine: EngineServer) -> Iterator[None]:
    """One request after the other."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            engine.complete(max_tokens=64, ignore_eos=True, timeout=60)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()


@contextlib.contextmanager
def managed_engine(folder: Path) -> Iterator[Managed]:
    """The real vLLM under a manager, once it is admitted; both end with the block."""
    engine, port, gate = real_engine().require(), free_port(), free_port()
    serve = [str(engine.command), "serve", str(engine.model), *REAL_FLAGS, "--served-model-name", "tiny"]
    command = [*stem_words(gate, port), *serve, "--host", "127.0.0.1", "--port", str(port)]
    log_path = folder / "managed.log"
    environment = {"PATH": "/usr/bin:/bin", "GATE_LOOPBACK": "allowed", **engine_environment(folder)}
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, process_group=0)
    try:
        wait_for(f"http://127.0.0.1:{gate}/ready", REAL_START_SECONDS)
        judge, server = children_of(process.pid)
        yield Managed(process.pid, judge, EngineServer(_Child(server), port, log_path))  # type: ignore[arg-type] # only its pid is used
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@dataclass(frozen=True)
class _Child:
    """A process that another one has started."""

    pid: int


def stem_words(gate: int, port: int) -> list[str]:
    """The start of the manager's command line, up to the engine's own."""
    python = str(Path(sys.executable).resolve())  # neither a shim nor what a virtual environment adds
    options = ["--gate-port", str(gate), "--engine-port", str(port), "--model", "tiny"]
    return [python, "-S", "-E", "-B", str(STEM), *options, "--"]


def children_of(stem: int) -> tuple[int, int]:
    """The pids of the judge and of the engine's first process."""
    pids = [int(word) for word in Path(f"/proc/{stem}/task/{stem}/children").read_text(encoding="ascii").split()]
    judges = [pid for pid in pids if b"program" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    (judge,) = judges
    (engine,) = [pid for pid in pids if pid != judge]
    return judge, engine


def wait_for(url: str, seconds: float) -> None:
    """Until it answers 200.

    Raises:
        TimeoutError: it did not in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 # loopback
            return
        time.sleep(0.2)
    raise TimeoutError(url)


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def relayed(folder: Path, *, managed: bool) -> float:
    """Megabytes of output a second, into a pipe that is read at once."""
    lines = RELAYED_BYTES // (128 * 512)
    writer = f"import os\nchunk = (b'x' * 127 + b'\\n') * 512\nfor _ in range({lines}): os.write(1, chunk)"
    words = [sys.executable, "-c", writer]
    port = free_port()
    command = [*stem_words(free_port(), port), *words] if managed else words
    began = time.monotonic()
    with (folder / "relay.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    count = 0
    while chunk := os.read(process.stdout.fileno(), 1 << 20):
        count += len(chunk)
    passed = time.monotonic() - began
    process.stdout.close()
    process.wait()
    return count / passed / 1e6


def node_share(seconds: float) -> float:
    """CPU of a pod's manager and of what kubelet and the runtime do for it, as a share of a core."""
    stub = models.stub()
    spec = ClusterSpec(
        name=f"bench-manager-{os.getpid()}",
        node=NodeKind.REAL,
        images=(images.operator_image(), stub.archive),
        gpus=PODS,
    )
    with start(spec) as cluster:
        assert isinstance(cluster, OwnCluster)
        install_operator(cluster)
        site = Site(cluster, "default")
        site.apply(models.model("cost", stub, replicas=PODS))
        site.wait_ready("cost", 300)
        gated = node_cpu(cluster, site, "cost", seconds)
        deployment, service = site.get("deployment", "cost"), site.get("service", "cost")
        site.patch("cost", {"replicas": 0})  # its service account is the others' too
        site.until("the end of the pods", lambda: not site.list("pods", instance="cost"), 120)
        bare = plain_twin(deployment, service)[0]
        unwatch(bare)
        site.apply(bare)
        site.until("pods without probes", lambda: len(site.list("pods", instance="cost-plain")) == PODS, 120)
        site.kubectl("rollout", "status", "deployment/cost-plain", "--timeout=120s")
        return (gated - node_cpu(cluster, site, "cost-plain", seconds)) / PODS


def unwatch(deployment: dict[str, Any]) -> None:
    """Take the probes away from the engine's container of a Deployment."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    (engine,) = [container for container in containers if container["name"] == CONTAINER_NAME]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        del engine[probe]


def node_cpu(cluster: OwnCluster, site: Site, name: str, seconds: float) -> float:
    """CPU of kubelet, of the runtime and of all processes of the pods, as a share of a core."""
    time.sleep(SETTLE_SECONDS)
    pids = [cluster.process("kubelet@node-1").pid, cluster.process("containerd@node-1").pid]
    pods = {pod["metadata"]["uid"] for pod in site.list("pods", instance=name)}
    before, began = sum(map(cpu_seconds, pids)) + pods_cpu(pods), time.monotonic()
    time.sleep(2 * seconds)
    return (sum(map(cpu_seconds, pids)) + pods_cpu(pods) - before) / (time.monotonic() - began)


def pods_cpu(uids: set[str]) -> float:
    """CPU of all processes in the control groups of pods, their shims not included."""
    total = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            groups = (process / "cgroup").read_text(encoding="utf-8")
            if any(uid in groups or uid.replace("-", "_") in groups for uid in uids):
                total += cpu_seconds(int(process.name))
    return total


if __name__ == "__main__":
    main()
