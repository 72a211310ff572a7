"""The health check of Compose files against a server."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from vllm_operator.cli.compose import health

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(health.__file__)
BOTH = ("/v1/completions", "/pooling")


class Server(http.server.BaseHTTPRequestHandler):
    """A server with an answer for each path."""

    answers: ClassVar[dict[str, tuple[int, bytes]]] = {}
    asked: ClassVar[list[tuple[str, object, str | None]]] = []

    def do_POST(self) -> None:
        """Answer as told."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, body, self.headers["Authorization"]))
        status, content = self.answers.get(self.path, (404, health.NO_SUCH_PATH))
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """Port of a server that has nothing yet."""
    Server.answers.clear()
    Server.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def run(port: int, *paths: str, **environ: str) -> tuple[int, str]:
    """Run the program as Docker does: exit code and what it says."""
    words = [sys.executable, str(PROGRAM), str(port), "qwen", *paths]
    environ |= {"PATH": os.environ["PATH"], "http_proxy": "http://127.0.0.1:1"}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_an_engine_that_completes_is_healthy(port: int) -> None:
    Server.answers["/v1/completions"] = (200, b"{}")
    assert run(port, *BOTH, VLLM_API_KEY="secret") == (0, "")
    assert Server.asked == [("/v1/completions", {"model": "qwen", "prompt": "a", "max_tokens": 1}, "Bearer secret")]


def test_an_engine_that_pools_is_asked_for_that(port: int) -> None:
    Server.answers["/pooling"] = (200, b"{}")
    assert run(port, *BOTH) == (0, "")
    assert Server.asked[1:] == [("/pooling", {"model": "qwen", "input": "a"}, None)]


def test_an_engine_that_fails_or_does_not_know_the_model_is_not_healthy(port: int) -> None:
    Server.answers |= {"/v1/completions": (404, b"no model qwen"), "/pooling": (200, b"{}")}
    assert run(port, *BOTH) == (1, "/v1/completions: HTTP 404: b'no model qwen'\n")
    Server.answers["/v1/completions"] = (500, b"dead")
    assert run(port, *BOTH)[0] == 1


def test_a_server_that_has_neither_path_or_is_not_there_is_not_healthy(port: int) -> None:
    assert run(port, *BOTH) == (1, "the server has none of /v1/completions, /pooling\n")
    code, said = run(1, *BOTH)
    assert code == 1
    assert "ConnectionRefusedError" in said


def test_an_engine_that_hangs_is_not_healthy(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(Server, "do_POST", lambda _: threading.Event().wait(0.3))
    assert "TimeoutError" in health.check(port, "qwen", [*BOTH])
