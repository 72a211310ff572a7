"""A Compose file runs the manager that a pod runs, and asks it whether the engine serves."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.resources import model
from vllm_operator.cli.compose.file import compose_file
from vllm_operator.cli.engine import engine_of
from vllm_operator.render import manager

if TYPE_CHECKING:
    from collections.abc import Iterator


def composed(**sections: Any) -> dict[str, Any]:
    """The Compose file of a model, as data."""
    loaded: dict[str, Any] = yaml.safe_load(compose_file([engine_of(model(**sections))]))
    return loaded


def service(**sections: Any) -> dict[str, Any]:
    """Its one service."""
    (only,) = composed(**sections)["services"].values()
    return dict(only)


def test_the_managers_files_lie_where_its_command_looks_for_them() -> None:
    file = composed()
    (one,) = file["services"].values()
    found = {mount["target"]: file["configs"][mount["source"]]["content"] for mount in one["configs"]}
    assert found == {
        f"{manager.PROGRAM_FOLDER}/{name}": text.replace("$", "$$") for name, text in manager.program_sources().items()
    }
    assert all(found.values()), "Compose takes no config that is empty"
    assert one["entrypoint"][: len(manager.INTERPRETER) + 1] == [*manager.INTERPRETER, manager.STEM]


def test_its_folder_in_memory_can_be_written_by_every_user() -> None:
    """A tmpfs of Docker's is, as /tmp is; a volume would be root's."""
    assert {"type": "tmpfs", "target": manager.STATE_FOLDER} in service()["volumes"]


def test_the_engines_that_share_a_file_share_one_copy_of_the_manager() -> None:
    models = (model("qwen"), model("llama", service={"port": 8001}))
    file = yaml.safe_load(compose_file([engine_of(one) for one in models]))
    assert len([name for name in file["configs"] if name.startswith("vllm-manager-")]) == len(manager.program_sources())


def test_an_engine_that_its_manager_ends_is_started_again() -> None:
    assert service()["restart"] == "unless-stopped"


def test_nobody_outside_reaches_the_manager_and_it_looks_for_no_service_of_a_cluster() -> None:
    one = service(gates={"port": 9480})
    assert one["ports"] == ["8000:8000"]
    assert one["entrypoint"][5:9] == ["--gate-port", "9480", "--engine-port", "8000"]
    assert "--service" not in one["entrypoint"]
    assert not [line for line in one["environment"] if line.startswith("POD_")]


class Manager(BaseHTTPRequestHandler):
    """Answers as a manager does."""

    status = 200

    def do_GET(self) -> None:
        """Only one path is asked for."""
        assert self.path == "/ready"
        body = b"no step with 8 requests in flight"
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """Port of such a manager."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Manager) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def checked(port: int) -> subprocess.CompletedProcess[str]:
    """The health check, run."""
    kind, python, *words = service(gates={"port": port})["healthcheck"]["test"]
    assert (kind, python) == ("CMD", "python3")
    words = [word.replace("$$", "$") for word in words]
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_an_engine_is_healthy_if_its_manager_says_that_it_serves(
    port: int, monkeypatch: pytest.MonkeyPatch, status: int, code: int
) -> None:
    monkeypatch.setattr(Manager, "status", status)
    done = checked(port)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout == "no step with 8 requests in flight\n", "docker inspect shows it"


def test_an_engine_whose_manager_is_not_there_is_not_healthy() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        done = checked(silent.getsockname()[1])
    assert done.returncode == 1
    assert "ConnectionRefusedError" in done.stderr
