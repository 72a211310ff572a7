"""The gate program as it runs in a pod: two flat files, the image's Python, nothing installed."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.gate_program import placed, write_program
from tests.support.resources import model
from tests.support.servers import EngineServer, stub_server
from vllm_operator import gates as package
from vllm_operator.gates import engine, judge, looks, memory, probe
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
    itself = {path.stem for path in FILES} | {"vllm_operator"}
    assert imported(path) - itself <= sys.stdlib_module_names


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """The files as the ConfigMap puts them into the pod."""
    return write_program(tmp_path / "gates")


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
    return placed(words, flat, state)


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


def run_once(flat: Path) -> None:
    """Have a startup run look once, instead of again and again for the most part of kubelet's patience."""
    path, constant = flat / "judge.py", f"STARTUP_SECONDS = {judge.STARTUP_SECONDS}\n"
    text = path.read_text(encoding="utf-8")
    assert text.count(constant) == 1
    path.write_text(text.replace(constant, "STARTUP_SECONDS = 0.0\n"), encoding="utf-8")


def test_the_flat_files_refuse_with_exit_code_1_and_a_sentence(
    flat: Path, server: EngineServer, tmp_path: Path
) -> None:
    run_once(flat)
    server.faults(fail={"status": 500, "message": "no chat template"})
    done = run(flat, rendered("startup", flat, tmp_path, server.port))
    assert (done.returncode, done.stderr) == (1, "")
    assert "no chat template" in done.stdout


@pytest.mark.parametrize(("mode", "code"), [("startup", 1), ("ready", 0), ("live", 0)])
def test_a_program_that_cannot_be_loaded_admits_nobody_and_evicts_nobody(flat: Path, mode: str, code: int) -> None:
    (flat / "judge.py").write_text("raise OSError('half written')\n", encoding="utf-8")
    words = [
        sys.executable,
        "-S",
        "-E",
        str(flat / "probe.py"),
        mode,
        "--port",
        "1",
        "--model",
        "m",
        "--state",
        str(flat),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (code, "the gate itself failed: OSError('half written')\n")


def test_the_programs_own_deadlines_add_up_to_less_than_kubelets() -> None:
    probes = gates.probes(model().spec)
    admission = engine.METRICS_SECONDS + engine.ADMISSION_SECONDS
    assert probes["startupProbe"]["timeoutSeconds"] > memory.LOCK_SECONDS + judge.STARTUP_SECONDS + admission
    timeout = probes["readinessProbe"]["timeoutSeconds"]
    assert timeout > admission
    questions = engine.METRICS_SECONDS + engine.HEALTH_SECONDS + judge.CANARY_SECONDS + looks.GLANCE_SECONDS
    assert timeout > memory.LOCK_SECONDS + questions
    assert timeout > looks.RUN_SECONDS


def test_every_file_of_the_program_is_in_the_configmap() -> None:
    assert set(gates.PROGRAM_FILES) == {path.name for path in FOLDER.glob("*.py")} - {"__init__.py"}


def test_the_program_is_compiled_once_and_kept_beside_the_state(
    flat: Path, server: EngineServer, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    run(flat, rendered("startup", flat, state, server.port))
    compiled = {path.name.partition(".")[0] for path in state.rglob("*.pyc")}
    assert compiled >= {Path(name).stem for name in gates.PROGRAM_FILES} - {"probe", "serve", "stop"}
    assert "json" not in compiled  # the standard library is compiled already, and the volume small
    (flat / "judge.py").write_text("raise SystemExit('newer')", encoding="utf-8")
    assert run(flat, rendered("ready", flat, state, server.port)).stderr == "newer\n"


def windows(**fields: object) -> list[str]:
    """The options of a probe after those that are always there."""
    words: list[str] = gates.probes(model(gates=fields).spec)["readinessProbe"]["exec"]["command"]
    return words[words.index("--state") + 2 :]


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, []),
        ({"canaryIntervalSeconds": 2, "stallWindowSeconds": 6, "restartWindowSeconds": 180}, []),
        ({"canaryIntervalSeconds": 5}, ["--canary-interval", "5"]),
        ({"canary": "Never"}, ["--canary-interval", "never"]),
        ({"stallWindowSeconds": 30}, ["--stall-window", "30"]),
        ({"restartWindowSeconds": 600}, ["--restart-window", "600"]),
        ({"restart": "Never"}, ["--restart", "never"]),
    ],
    ids=str,
)
def test_options_are_rendered_only_where_they_differ_from_the_programs_own(
    fields: dict[str, object], options: list[str]
) -> None:
    assert windows(**fields) == options


@pytest.mark.parametrize(
    ("options", "interval", "stall", "restart"),
    [
        ({}, 2.0, 6.0, (180.0, 225.0)),
        ({"of-a-later-day": "x"}, 2.0, 6.0, (180.0, 225.0)),
        ({"canary-interval": "never", "restart": "never"}, None, 6.0, None),
        ({"canary-interval": "5", "stall-window": "30", "restart-window": "600"}, 5.0, 30.0, (600.0, 750.0)),
    ],
    ids=str,
)
def test_options_are_read_as_they_are_rendered_and_others_are_ignored(
    options: dict[str, str], interval: float | None, stall: float, restart: tuple[float, float] | None
) -> None:
    found = probe.settings_of(options, "pod-1")
    assert (found.canary_interval, found.stall_window) == (interval, stall)
    if restart is None:
        assert found.restart_window is None
    else:
        assert found.restart_window is not None
        assert restart[0] <= found.restart_window <= restart[1]


def test_an_own_command_replaces_the_program_in_every_probe() -> None:
    command = ["curl", "--fail", "localhost:8000/health"]
    probes = gates.probes(model(gates={"probe": command}).spec)
    assert [found["exec"]["command"] for found in probes.values()] == [command] * 3
