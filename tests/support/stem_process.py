"""The stem as it runs in a pod: a file in a folder that holds what the ConfigMap does, and a judge of the test."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.servers import free_port
from tests.support.waiting import until
from vllm_operator import manager

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCES = Path(manager.__path__[0])
RUNNER = """
import importlib, json, os, sys
sys.path[0] = sys.argv[1]
for name, value in json.loads(sys.argv[2]).items():
    module, _, constant = name.partition(".")
    setattr(importlib.import_module(module), constant, value)
import stem
os._exit(stem.main(sys.argv[3:], os.environ))
"""
"""Runs the stem with some of its constants changed: `{"keeper.HUNG_SECONDS": 1}`."""

SERVING = {
    "verdict": {"kind": "serving", "cause": "Serving", "sentence": "it serves", "since": "2026-01-01T00:00:00Z"},
    "startup": True,
    "ready": True,
    "live": True,
    "serving": True,
    "memory": {"longest_step": 1.5},
}
LOADING = {
    **SERVING,
    "verdict": {"kind": "starting", "cause": "Loading", "sentence": "3 of 8 shards", "since": "2026-01-01T00:00:00Z"},
    "startup": False,
    "ready": False,
    "serving": False,
}


class Stem:
    """One stem with its engine and its judge."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.manager = folder / "opt" / "manager"
        self.manager.mkdir(parents=True)
        for source in (*SOURCES.glob("*.py"), *SOURCES.glob("*.json")):
            shutil.copy(source, self.manager)
        shutil.copy(Path(__file__).with_name("fake_judge.py"), self.manager / "program.py")
        self.judge = folder / "judge"
        self.judge.mkdir()
        self.judge.chmod(0o777)
        self.message_file = folder / "termination-log"
        self.message_file.touch()
        self.options = ["--gate-port", str(self.port)]
        self.constants: dict[str, object] = {}
        self.environment = {
            "PATH": os.environ["PATH"],
            "JUDGE_FOLDER": str(self.judge),
            "GATE_TERMINATION_LOG": str(self.message_file),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def reports(self, report: Mapping[str, object], mode: str = "") -> None:
        """What judges report from now on, and how they behave from their start on."""
        for name, text in (("mode", mode), ("report.json", json.dumps(report))):
            partial = self.judge / f"{name}.new"
            partial.write_text(text, encoding="utf-8")
            partial.rename(self.judge / name)

    def start(self, engine: str, *arguments: str, **popen: Any) -> Stem:
        """Run an engine that is this Python program; see `start_command`."""
        return self.start_command([sys.executable, "-S", "-c", engine, *arguments], **popen)

    def start_command(self, command: list[str], *, prefix: Sequence[str] = (), **popen: Any) -> Stem:
        """Run an engine; the stem itself is run by the prefix, if there is one."""
        python = [sys.executable, "-S", "-E", "-B"]
        if self.constants:
            python += ["-c", RUNNER, str(self.manager), json.dumps(self.constants)]
        else:
            python.append(str(self.manager / "stem.py"))
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        words = [*prefix, *python, *self.options, "--", *command]
        self.process = subprocess.Popen(words, cwd=self.folder, env=self.environment, **{**streams, **popen})
        return self

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The stem's process."""
        assert self.process is not None, "the stem was not started"
        return self.process

    def send(self, number: int) -> None:
        """Send the stem a signal."""
        self.running.send_signal(number)

    def result(self, seconds: float = 60) -> tuple[int, bytes, bytes]:
        """Exit code, stdout and stderr, after the end."""
        out, err = self.running.communicate(timeout=seconds)
        return self.running.returncode, out, err

    @property
    def message(self) -> str:
        """The termination message."""
        return self.message_file.read_text(encoding="utf-8")

    def get(self, path: str, seconds: float = 30) -> tuple[int, str]:
        """Ask the gate's port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def get_when_up(self, path: str) -> tuple[int, str]:
        """The same, from the moment on when the port is open."""

        def look() -> tuple[int, str] | None:
            try:
                return self.get(path)
            except ConnectionRefusedError:
                return None

        answer = until(look, what="the gate's port")
        assert answer is not None
        return answer

    def life(self, after: int = 0) -> dict[str, Any]:
        """What the judge that runs was given; of another one than that with the process id `after`."""

        def look() -> dict[str, Any] | None:
            with contextlib.suppress(FileNotFoundError):
                life: dict[str, Any] = json.loads((self.judge / "life").read_text(encoding="utf-8"))
                return life if life.get("pid") != after else None
            return None

        found = until(look, what="a judge")
        assert found is not None
        return found

    def wait_answered_by_stem(self) -> dict[str, Any]:
        """The stem's own /status, once it answers."""

        def look() -> dict[str, Any] | None:
            with contextlib.suppress(ConnectionRefusedError, ValueError):
                status: dict[str, Any] = json.loads(self.get("/status")[1])
                return status
            return None

        found = until(look, what="an answer of the stem itself")
        assert found is not None
        return found

    def wait_reported(self) -> None:
        """Wait until the judge that runs has reported."""
        self.life()
        until((self.judge / "reported").exists, what="a report")

    def close(self) -> None:
        """End what runs still."""
        if self.process is None:
            return
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        numbers = children.read_text(encoding="ascii").split() if children.exists() else []
        self.process.kill()
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(number), signal.SIGKILL)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self.process.wait()
