"""The gate program as it runs in a pod: two flat files, the image's Python, nothing installed."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.resources import model
from tests.support.servers import EngineServer, stub_server
from vllm_operator import gates as package
from vllm_operator.render import gates

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(package.__file__).parent
FILES = [FOLDER / name for name in gates.PROGRAM_FILES]
OLDEST_PYTHON = (3, 9)


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a file imports when it runs in a pod."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_program_is_written_for_the_oldest_python_of_an_image(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=OLDEST_PYTHON)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_program_imports_the_standard_library_and_itself_alone(path: Path) -> None:
    itself = {"judge", "vllm_operator"}
    assert imported(path) - itself <= sys.stdlib_module_names


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """The files as the ConfigMap puts them into the pod."""
    folder = tmp_path / "gates"
    folder.mkdir()
    for name, text in gates.program("team")["data"].items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EngineServer]:
    """An engine of the model that the tests' resource describes."""
    spec = model().spec
    with stub_server("--served-model-name", *spec.served_names, folder=tmp_path) as running:
        yield running


def run(flat: Path, words: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The program, run as kubelet runs it."""
    python = shutil.which(Path(sys.executable).name) or sys.executable
    command = [python if word == "python3" else word for word in words]
    assert command[0] == python
    return subprocess.run(command, capture_output=True, text=True, env=env or {}, cwd=flat, check=False, timeout=60)


def rendered(mode: str, flat: Path, state: Path, port: int) -> list[str]:
    """The command line of a probe, with the paths and the port of this test."""
    spec = model(engine={"port": port}).spec
    probe = {"startup": "startupProbe", "ready": "readinessProbe", "live": "livenessProbe"}[mode]
    words: list[str] = gates.probes(spec)[probe]["exec"]["command"]
    return [word.replace(gates.PROGRAM_FOLDER, str(flat)).replace(gates.STATE_FOLDER, str(state)) for word in words]


def test_the_flat_files_run_with_the_command_line_that_is_rendered(
    flat: Path, server: EngineServer, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    started = run(flat, rendered("startup", flat, state, server.port))
    assert (started.returncode, started.stdout, started.stderr) == (0, "completed its first prompt\n", "")
    for mode in ("ready", "live"):
        done = run(flat, rendered(mode, flat, state, server.port))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "makes progress, or completed its last prompt\n"


def test_the_flat_files_refuse_with_exit_code_1_and_a_sentence(
    flat: Path, server: EngineServer, tmp_path: Path
) -> None:
    server.faults(fail={"status": 500, "message": "no chat template"})
    done = run(flat, rendered("startup", flat, tmp_path, server.port))
    assert (done.returncode, done.stderr) == (1, "")
    assert "no chat template" in done.stdout


def test_the_programs_own_deadlines_add_up_to_less_than_kubelets() -> None:
    from vllm_operator.gates import probe  # noqa: PLC0415 # only its figures are wanted here

    timeout = gates.probes(model().spec)["startupProbe"]["timeoutSeconds"]
    assert timeout > probe.LOOK_TIMEOUT_SECONDS + probe.ADMISSION_TIMEOUT_SECONDS
    assert timeout > 2 * probe.LOOK_TIMEOUT_SECONDS
