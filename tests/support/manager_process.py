"""The whole manager as it runs in a pod: the stem, the judge of this checkout, and the stub engine as its child."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.servers import ENGINE, MODEL, EngineServer, free_port
from tests.support.stem_process import SOURCES, Stem
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Manager(Stem):
    """One pod's manager. What is changed before `run` holds from the start.

    Args:
        folder: A new folder for its files.
        options: Further options of the manager.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        shutil.copy(SOURCES / "program.py", self.manager)
        self.state = folder / "state"
        self.state.mkdir()
        self.engine_port = free_port()
        self.options += ["--engine-port", str(self.engine_port), "--model", "tiny", *options]
        self.flags: list[str] = []
        self.log_path = folder / "log"
        self.environment.update(
            GATE_STATE=str(self.state), GATE_LOOPBACK="allowed", GATE_STAGGER_SECONDS="0", PYTHONUNBUFFERED="1"
        )

    def run(self) -> Manager:
        """Start it with the stub engine."""
        flags = ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(self.engine_port), *self.flags]
        with self.log_path.open("ab") as log:
            self.start_command([sys.executable, str(ENGINE), "serve", MODEL, *flags], stdout=log, stderr=log)
        return self

    def change(self, name: str, old: str, new: str) -> None:
        """Change a file of the program, in one instant."""
        text = (self.manager / name).read_text(encoding="utf-8")
        assert text.count(old) == 1
        self.write(name, text.replace(old, new))

    def write(self, name: str, text: str) -> None:
        """Replace a file of the program, in one instant."""
        partial = self.manager / f".{name}"
        partial.write_text(text, encoding="utf-8")
        partial.rename(self.manager / name)

    @property
    def engine(self) -> EngineServer:
        """A client for the engine."""
        return EngineServer(process=self.running, port=self.engine_port, log_path=self.log_path)

    def status(self) -> dict[str, Any]:
        """What /status says; empty while nothing listens."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            found: dict[str, Any] = json.loads(self.get("/status")[1])
            return found
        return {}

    def wait(self, seconds: float = 60, **fields: object) -> dict[str, Any]:
        """/status, once it has these fields."""

        def look() -> dict[str, Any] | None:
            seen.append(self.status())
            return seen[-1] if all(seen[-1].get(name) == value for name, value in fields.items()) else None

        seen: list[dict[str, Any]] = []
        try:
            found = until(look, seconds=seconds, what=f"a status with {fields}")
        except AssertionError as error:
            raise AssertionError(f"{error}; seen last: {seen[-1]}; log: {self.log_text()[-2000:]}") from None
        assert found is not None
        return found

    def wait_admitted(self) -> dict[str, Any]:
        """/status, once the engine takes traffic."""
        return self.wait(ready=True, answered_by="judge")

    def log_text(self) -> str:
        """What the container has printed."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def judge_pid(self) -> int:
        """The process id of the judge; 0 while there is none."""
        children = Path(f"/proc/{self.running.pid}/task/{self.running.pid}/children").read_text(encoding="ascii")
        for number in children.split():
            with contextlib.suppress(OSError):
                if b".program" in Path(f"/proc/{number}/cmdline").read_bytes():
                    return int(number)
        return 0

    def kill_judge(self) -> None:
        """End the judge as the kernel would for memory."""
        os.kill(self.judge_pid(), signal.SIGKILL)

    def end(self, seconds: float = 60) -> int:
        """The exit code of the container, once it has ended."""
        return self.running.wait(seconds)


@contextlib.contextmanager
def managed(folder: Path, *options: str) -> Iterator[Manager]:
    """A manager that is ended with the block. It runs once it is told to."""
    manager = Manager(folder, *options)
    try:
        yield manager
    finally:
        manager.close()
