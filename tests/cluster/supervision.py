"""Start components, wait until they work, restart what dies later, reap what nobody else waits for."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.errors import ClusterError
from tests.cluster.processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.components import Component
    from tests.cluster.spec import Layout

POLL_SECONDS = 0.05
RESTART_SECONDS = 1.0
REAP_SECONDS = 0.2
TAIL_LINES = 15


@dataclass
class _Running:
    component: Component
    process: subprocess.Popen[bytes]
    restarts: int = 0


class Supervision:
    """The components of one supervisor. Used from its main thread only: their lives are bound to that thread."""

    def __init__(self, layout: Layout, owner: str, report: Callable[[str], None]) -> None:
        self._logs = layout.logs
        self._list = layout.components / f"{owner}.json"
        self._report = report
        self._running: dict[str, _Running] = {}
        self._start = time.monotonic()

    def start(self, component: Component) -> None:
        """Start the component; it dies with this process."""
        self._running[component.name] = _Running(component, self._spawn(component))
        self._save()

    def until(self, what: str, works: Callable[[], bool], seconds: float = 240.0) -> None:
        """Wait until it works. Patience costs nothing: a component that dies ends the wait at once.

        Raises:
            ClusterError: it took too long, or a component died meanwhile; with the last lines of the logs.
        """
        deadline = time.monotonic() + seconds
        while not works():
            self._check(what)
            if time.monotonic() > deadline:
                raise ClusterError(f"waited {seconds:.0f} s in vain: {what}\n{self._all_tails()}")
            time.sleep(POLL_SECONDS)
        self.say(what)

    def say(self, what: str) -> None:
        """Report a step with the time since the start."""
        self._report(f"{time.monotonic() - self._start:5.1f} s  {what}")

    def run(self) -> None:
        """Keep the components running for ever."""
        due: dict[str, float] = {}
        while True:
            for name in self._reap():
                due.setdefault(name, time.monotonic() + RESTART_SECONDS)
            for name in [name for name, at in due.items() if at <= time.monotonic()]:
                del due[name]
                running = self._running[name]
                running.process = self._spawn(running.component)
                running.restarts += 1
                self._save()
            time.sleep(REAP_SECONDS)

    def _spawn(self, component: Component) -> subprocess.Popen[bytes]:
        with (self._logs / f"{component.name}.log").open("ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *component.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=component.pass_fds,
            )

    def _reap(self) -> list[str]:
        """Reap every dead child, also those that were handed to this process; the names of components to restart."""
        names = {running.process.pid: name for name, running in self._running.items()}
        dead: list[str] = []
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return dead
            if found is None:
                return dead
            if found.si_pid in names:
                name = names[found.si_pid]
                self._running[name].process.wait()
                if self._running[name].component.restart:
                    dead.append(name)
            else:
                os.waitpid(found.si_pid, 0)

    def _check(self, what: str) -> None:
        for name, running in self._running.items():
            code = running.process.poll()
            if code is not None:
                raise ClusterError(f"{name} ended with code {code} before: {what}\n{self._tail(name)}")

    def _tail(self, name: str) -> str:
        lines = (self._logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {name}: {line}" for line in lines[-TAIL_LINES:])

    def _all_tails(self) -> str:
        return "\n".join(self._tail(name) for name in self._running)

    def _save(self) -> None:
        rows = [
            {
                "name": name,
                "pid": running.process.pid,
                "start": process.start if (process := Process.of(running.process.pid)) else 0,
                "restarts": running.restarts,
            }
            for name, running in self._running.items()
        ]
        temporary = self._list.with_suffix(".new")
        temporary.write_text(json.dumps(rows), encoding="utf-8")
        temporary.replace(self._list)
