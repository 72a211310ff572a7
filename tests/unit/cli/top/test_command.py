"""`kubectl vllm top`, with a kubectl that answers what it is told to, and its program against a real server."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from tests.support import told_models as told
from tests.support.fake_kubectl import FakeKubectl, forbidden
from tests.unit.cli.top.test_rates import text
from vllm_operator.cli.main import app
from vllm_operator.cli.top.rates import NAMES
from vllm_operator.render.manager import INTERPRETER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

MODEL, PODS, EXEC = "vllmmodels.vllm.echo-roots.io", "pods", "exec"
SAMPLES = {"seconds": 2.0, "before": text(100, 50), "after": text(300, 90, 40, 30)}


@pytest.fixture
def there(fake: FakeKubectl) -> FakeKubectl:
    """A model with one engine that computes."""
    fake.says(MODEL, to=told.model(told.READY))
    fake.says(PODS, to={"items": [told.serving()]})
    fake.says(EXEC, to=SAMPLES)
    return fake


def run(*words: str) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["top", *words])


def test_an_engine_is_a_row_of_what_it_computes(there: FakeKubectl) -> None:
    done = run("qwen")
    assert done.exit_code == 0, done.output
    heads, row = done.output.splitlines()
    assert heads.split("  ")[0] == "MODEL"
    cells = [cell.strip() for cell in row.split("  ") if cell.strip()]
    assert cells == [*("qwen", "qwen-1", "100.0", "20.0", "3", "2", "10.0%", "75% (75% since its start)", "-")]
    (asked,) = there.asked(EXEC)
    assert asked[: asked.index("--") + 1] == ["--namespace", "team", "exec", "qwen-1", "--container", "vllm", "--"]
    assert asked[-len(NAMES) - 2 :] == ["8000", "2.0", *NAMES]


def test_several_engines_of_a_model_have_a_sum(there: FakeKubectl) -> None:
    there.says(PODS, to={"items": [told.serving("qwen-1"), told.serving("qwen-2")]})
    rows = run("qwen").output.splitlines()
    assert [row.split()[1] for row in rows[1:]] == ["qwen-1", "qwen-2", "(all)"]
    assert rows[3].split()[2:6] == ["200.0", "40.0", "6", "4"]


def test_all_models_of_a_namespace_and_of_all_namespaces(there: FakeKubectl) -> None:
    there.says(MODEL, to={"items": [told.model(told.READY)]})
    assert run().output.splitlines()[1].split()[:2] == ["qwen", "qwen-1"]
    (asked,) = there.asked("get", PODS)
    assert "app.kubernetes.io/component=engine" in asked[asked.index("--selector") + 1]
    assert run("-A").output.splitlines()[1].split()[:3] == ["team", "qwen", "qwen-1"]
    assert len(there.asked("--all-namespaces")) == 2


@pytest.mark.usefixtures("there")
def test_the_same_data_is_there_for_programs() -> None:
    (engine,) = json.loads(run("qwen", "-o", "json").output)
    assert engine == {
        "namespace": "team",
        "model": "qwen",
        "pod": "qwen-1",
        "promptTokensPerSecond": 100,
        "generatedTokensPerSecond": 20,
        "running": 3,
        "waiting": 2,
        "kvCacheUsage": 0.1,
        "prefixCacheHits": 0.75,
        "prefixCacheHitsSinceStart": 0.75,
        "note": None,
    }


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (forbidden("pods/exec", "create"), "pods/exec is forbidden"),
        ("no JSON", "what the pod prints is no sample: no JSON"),
        ({"before": "", "after": ""}, "it names no time"),
        ({"seconds": 1, "before": "vllm:prompt_tokens_total x\n", "after": ""}, "what the engine tells is no metrics"),
        (Exception("the engine does not answer on port 8000: [Errno 111] Connection refused"), "Connection refused"),
    ],
    ids=["no rights", "no JSON", "no time", "no metrics", "loads"],
)
def test_an_engine_that_cannot_be_asked_is_a_row_that_says_why(there: FakeKubectl, answer: object, note: str) -> None:
    there.says(EXEC, to=answer)
    done = run("qwen")
    assert done.exit_code == 0
    row = done.output.splitlines()[1]
    assert row.split()[:6] == ["qwen", "qwen-1", "-", "-", "-", "-"]
    assert note in row


def test_a_container_that_does_not_run_is_not_asked(there: FakeKubectl) -> None:
    there.says(PODS, to={"items": [told.crashed()]})
    assert "the container does not run" in run("qwen").output
    assert not there.asked(EXEC)


def test_no_engine_no_model_and_no_rights_are_told_apart(there: FakeKubectl) -> None:
    there.says(PODS, to={"items": []})
    none = run("qwen")
    assert (none.exit_code, none.stdout, none.stderr) == (0, "", "no engines of qwen found\n")
    there.says(PODS, to=forbidden("pods"))
    assert run("qwen").exit_code == 1
    there.says(MODEL, to="")
    missing = run("qwen")
    assert (missing.exit_code, missing.stderr) == (1, "error: vllmmodel.vllm.echo-roots.io/qwen not found\n")
    assert run("qwen", "--window", "1m").exit_code == 2


class Metrics(http.server.BaseHTTPRequestHandler):
    """An engine's server, whose tokens grow with each request."""

    tokens = 0

    def do_GET(self) -> None:
        """Answer /metrics."""
        type(self).tokens += 100
        body = f"# HELP x y\nother_total 5\n{text(self.tokens, 0)}".encode()
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """Where such a server listens."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def sample(*words: str) -> subprocess.CompletedProcess[str]:
    """The program as it runs in a pod."""
    source = files("vllm_operator.cli.top").joinpath("sample.py").read_text(encoding="utf-8")
    command = [sys.executable, *INTERPRETER[1:], "-c", source, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_program_takes_two_samples_of_what_is_wanted(port: int) -> None:
    done = sample(str(port), "0.1", *NAMES)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 0.1 <= found["seconds"] < 5
    assert "other_total" not in found["before"]
    assert all(name in found["after"] for name in NAMES)
    assert found["before"] != found["after"]


def test_the_program_says_that_nobody_answers() -> None:
    done = sample("1", "0.1", *NAMES)
    assert done.returncode == 1
    assert done.stderr.startswith("the engine does not answer on port 1: ")
