"""What a Compose file says of a service is really run: the manager out of its configs, with the stub engine below."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.resources import model
from tests.support.servers import DIE_WITH_US, ENGINE, EngineServer, free_port
from tests.support.waiting import until
from vllm_operator.cli.compose.file import compose_file
from vllm_operator.cli.engine import engine_of
from vllm_operator.render import manager
from vllm_operator.render.environment import HOME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

HUNG_SECONDS = 120.0
"""An idle engine that hangs is out within 12 s; a machine at work takes longer."""


def unescaped(words: list[str]) -> list[str]:
    """The words as Compose hands them on."""
    return [word.replace("$$", "$") for word in words]


class Container:
    """A service's container, as far as processes go: its files, its environment, its command and its health check."""

    def __init__(self, file: dict[str, Any], folder: Path, port: int) -> None:
        (self._service,) = file["services"].values()
        self._folder = folder
        self.port = port
        self.said = folder / "termination-log"
        for mount in self._service["configs"]:
            path = folder / mount["target"].lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file["configs"][mount["source"]]["content"].replace("$$", "$"), encoding="utf-8")
        (folder / manager.STATE_FOLDER.lstrip("/")).mkdir(parents=True)
        program = folder / "vllm"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {ENGINE} "$@"\n', encoding="utf-8")
        program.chmod(0o700)

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """The container's process 1, ended with the block."""
        words = unescaped(self._service["entrypoint"] + self._service["command"])
        words = [word.replace(manager.PROGRAM_FOLDER, self._inside(manager.PROGRAM_FOLDER)) for word in words]
        given = dict(line.split("=", 1) for line in self._service["environment"])
        environment = {
            **{name: text for name, text in given.items() if not text.startswith(HOME)},
            "PATH": f"{self._folder}:{os.environ['PATH']}",
            "GATE_STATE": self._inside(manager.STATE_FOLDER),
            "GATE_TERMINATION_LOG": str(self.said),
        }
        with (self._folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*DIE_WITH_US, sys.executable, *words[1:]], env=environment, stdout=log, stderr=log, cwd=self._folder
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def healthy(self) -> bool:
        """Whether the health check passes."""
        words = unescaped(self._service["healthcheck"]["test"])
        return not subprocess.run([sys.executable, *words[2:]], capture_output=True, check=False).returncode

    def log(self) -> str:
        """What process 1 has printed."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def _inside(self, path: str) -> str:
        return str(self._folder / path.lstrip("/"))


def test_the_managed_engine_gets_healthy_is_ended_when_it_hangs_and_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    port, gate = free_port(), free_port()
    one = model(
        model={"source": "org/tiny"},
        engine={"port": port},
        gates={"port": gate, "stallWindowSeconds": 5, "restartWindowSeconds": 10},
    )
    container = Container(yaml.safe_load(compose_file([engine_of(one)])), tmp_path, port)
    with container.started() as process:
        engine = EngineServer(process, port, tmp_path / "log")
        until(container.healthy, seconds=HUNG_SECONDS, what="a healthy container")
        engine.faults(hang_engine=True)
        until(lambda: not container.healthy(), seconds=HUNG_SECONDS, what="a container that is not healthy")
        assert process.wait(HUNG_SECONDS) != 0, container.log()
    assert container.said.read_text(encoding="utf-8"), "why it was ended"
    with container.started() as process:
        until(container.healthy, seconds=HUNG_SECONDS, what="a healthy container")
        process.send_signal(signal.SIGTERM)
        assert process.wait(HUNG_SECONDS) == 0, container.log()
