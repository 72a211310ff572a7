"""Running test clusters: use them, stop them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import configs, state
from tests.cluster.errors import ClusterError
from tests.cluster.guard import DETACH
from tests.cluster.node import import_image
from tests.cluster.paths import cache_folder
from tests.cluster.processes import Process, in_namespace_of
from tests.cluster.spec import ClusterSpec, Layout, NodeKind, node_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

STOP_SECONDS = 90.0
KUBECTL_TRIES = 3
KUBECTL_SECONDS = 180.0


@dataclass(frozen=True)
class ComponentStatus:
    """A component as `status` shows it; `process` is None while it is down or where it cannot be seen."""

    name: str
    process: Process | None
    restarts: int
    log: Path


class Cluster:
    """A running cluster that was not started here: the one that KUBECONFIG names. Base of the others."""

    def __init__(self, spec: ClusterSpec, kubeconfig: Path, binaries: Path) -> None:
        self.spec = spec
        self.kubeconfig = kubeconfig
        self.binaries = binaries

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def env(self) -> dict[str, str]:
        """The environment in which kubectl and helm are the built ones and work on this cluster."""
        return {**os.environ, **self.exports}

    @property
    def exports(self) -> dict[str, str]:
        """What `env` changes."""
        caches = cache_folder() / "kubectl" / self.spec.name
        path = f"{self.binaries}{os.pathsep}{os.environ.get('PATH', '')}"
        return {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(caches), "PATH": path}

    def kubectl(self, *args: str, input: str | None = None, timeout: float = KUBECTL_SECONDS) -> str:  # noqa: A002 - the name that subprocess gives it
        """Run kubectl and return what it printed; again where a starved API server did not even let it connect.

        Raises:
            ClusterError: it failed; with its error output.
        """
        command = [str(self.binaries / "kubectl"), *args]
        tries = 0
        while True:
            done = subprocess.run(
                command, input=input, env=self.env, capture_output=True, text=True, timeout=timeout, check=False
            )
            tries += 1
            if done.stdout or "TLS handshake timeout" not in done.stderr or tries == KUBECTL_TRIES:
                break
        if done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(args)} ended with code {done.returncode}:\n{done.stderr.strip()}")
        return done.stdout

    def load_image(self, archive: Path) -> None:
        """Make the image of an archive available to pods."""
        raise ClusterError(
            f"cannot load {archive} into an existing cluster: push the image to a registry it pulls from"
        )

    def components(self) -> list[ComponentStatus]:
        """The cluster's processes on this machine."""
        return []

    def stop(self) -> None:
        """Take the cluster down; nothing to do for one that was not started here."""


class KindCluster(Cluster):
    """A cluster of the `kind` program."""

    def load_image(self, archive: Path) -> None:
        """Load the archive into all nodes."""
        run_kind("load", "image-archive", str(archive), "--name", self.spec.name)

    def stop(self) -> None:
        """Delete the cluster."""
        run_kind("delete", "cluster", "--name", self.spec.name, "--kubeconfig", str(self.kubeconfig))
        shutil.rmtree(Layout.of(self.spec.name).state)


class OwnCluster(Cluster):
    """A cluster of our own processes."""

    def __init__(self, spec: ClusterSpec, binaries: Path, guard: subprocess.Popen[str] | None = None) -> None:
        self.layout = Layout.of(spec.name)
        super().__init__(spec, self.layout.kubeconfig, binaries)
        self._guard = guard

    @property
    def exports(self) -> dict[str, str]:
        """What `env` changes; kubectl keeps its caches with the cluster: the next one may have the same address."""
        return {**super().exports, "KUBECACHEDIR": str(self.layout.state / "kubectl-cache")}

    @property
    def logs(self) -> Path:
        """The folder of the components' logs."""
        return self.layout.logs

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs `command` in the network namespace of the first node, with the host's files.

        Services and pods can be reached there. The process that is started is the program itself, so it can be
        signalled by its pid.
        """
        if self.spec.node is not NodeKind.REAL:
            raise ClusterError("only a cluster with --node real has a network namespace")
        return ["nsenter", f"--net=/proc/{self._supervisor().pid}/ns/net", "--", *command]

    def run_inside(
        self,
        command: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002 - the name that subprocess gives it
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the network namespace of the first node and wait for it."""
        return subprocess.run(
            self.inside(command), input=input, capture_output=True, text=True, timeout=timeout, check=False
        )

    def load_image(self, archive: Path) -> None:
        """Import the archive on every node."""
        if self.spec.node is not NodeKind.REAL:
            raise ClusterError("a cluster with --node none runs no pods and takes no images")
        for node in node_names(self.spec):
            inner = self.process(f"containerd@{node}")
            import_image(archive, Path(f"/proc/{inner.pid}/root{configs.CONTAINERD_SOCKET}"), self.binaries / "ctr")

    def components(self) -> list[ComponentStatus]:
        """The cluster's processes as the host sees them."""
        supervisor = self._supervisor()
        rows = [row for path in sorted(self.layout.components.glob("*.json")) for row in json.loads(path.read_text())]
        found = in_namespace_of(supervisor, [row["pid"] for row in rows])
        return [
            ComponentStatus(row["name"], found.get(row["pid"]), row["restarts"], self.logs / f"{row['name']}.log")
            for row in rows
        ]

    def process(self, component: str) -> Process:
        """A component's process, to be killed or stopped by a test; a killed one is started again after a second."""
        for status in self.components():
            if status.name == component and status.process:
                return status.process
        raise ClusterError(f"{component} does not run in the cluster {self.spec.name!r}")

    def detach(self) -> None:
        """Let the cluster outlive this process; `down` or `stop` ends it."""
        if self._guard and self._guard.stdin:
            self._guard.stdin.write(DETACH.decode())
            self._guard.stdin.flush()

    def stop(self) -> None:
        """Take the cluster down and wait until no trace is left."""
        guard = Process.load(self.layout.guard)
        if guard:
            guard.kill(signal.SIGTERM)
            if not guard.wait(STOP_SECONDS):
                raise ClusterError(
                    f"the cluster {self.spec.name!r} (process {guard.pid}) does not end; see {self.logs}"
                )
        if self._guard:
            close(self._guard)
        state.running()  # removes what a guard left that was killed

    def _supervisor(self) -> Process:
        found = Process.load(self.layout.supervisor)
        if found is None:
            raise ClusterError(f"the cluster {self.spec.name!r} does not run")
        return found


def close(guard: subprocess.Popen[str]) -> None:
    """Cut the lifeline and wait until the guard has cleaned up."""
    if guard.stdin:
        guard.stdin.close()
    guard.wait(STOP_SECONDS)
    if guard.stdout:
        guard.stdout.close()


def run_kind(*arguments: str) -> None:
    """Run the `kind` program."""
    try:
        subprocess.run(["kind", *arguments], check=True)
    except subprocess.CalledProcessError as error:
        raise ClusterError(f"kind {' '.join(arguments)} ended with code {error.returncode}") from error
