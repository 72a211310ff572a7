"""The operator as a process of this machine, on the API server that a kubeconfig names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.servers import free_port
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

PROGRAM = Path(sys.executable).with_name("vllm-operator")
EXIT_SECONDS = 60.0


class OperatorProcess:
    """Started by `start` or by a `with` block, and ended again by its process id."""

    def __init__(self, kubeconfig: Path, folder: Path, *, program: Sequence[str] = (), **settings: str) -> None:
        self.program = program or (str(PROGRAM),)
        """The command; an operator of another version has another one."""
        self.kubeconfig = kubeconfig
        self.settings = settings
        self.log_path = folder / "operator.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process and wait for nothing."""
        # the Lease needs a namespace, and not every cluster of a test has that of the manifests; one that is started
        # again after a kill is the next process of the same pod
        lease = {"NAMESPACE": "default", "POD": f"operator-{self.port}"}
        settings = {"LISTEN_HOST": "127.0.0.1", "LISTEN_PORT": str(self.port), "WORKERS": "4", **lease, **self.settings}
        environment = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self.kubeconfig),
            **{f"VLLM_OPERATOR_{name}": value for name, value in settings.items()},
        }
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.program, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        return self._process

    def start(self) -> None:
        """Start it, and wait until it follows the cluster."""
        process = self.launch()
        until(lambda: self.get("/readyz") or process.poll() is not None, what="the operator")
        assert process.poll() is None, self.log()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it as a node does that loses its power."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def leads(self) -> bool:
        """Whether it answers that it is the one that writes."""
        return re.search(r"^vllm_operator_leader 1\.0$", self.get("/metrics"), re.MULTILINE) is not None

    def stop(self) -> int:
        """End it, and return its exit code."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def wait(self, seconds: float) -> int:
        """Until it has ended by itself; returns its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def get(self, path: str) -> str:
        """What it answers; nothing while it does not, or answers that it is not ready."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:  # loopback
                text: str = answer.read().decode()
                return text
        except (urllib.error.URLError, ConnectionError):
            return ""

    def looks(self) -> int:
        """How often it has looked at a model or a namespace."""
        found = re.search(r"^vllm_operator_reconcile_seconds_count (\S+)$", self.get("/metrics"), re.MULTILINE)
        assert found, "the operator has no such metric"
        return int(float(found[1]))

    def wait_for_look(self, after: int) -> None:
        """Until it has looked more often than `after`."""
        until(lambda: self.looks() > after, what="another look of the operator")

    def log(self) -> str:
        """All that it printed."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_logged(self, text: str) -> None:
        """Until it has printed that: what it writes to the API server is seen there before its line is in the log."""
        until(lambda: text in self.log(), what=f"a line with {text!r}")
