"""Each process of an engine asks for leave to use AMX; where there is no AMX, nothing else happens."""

from __future__ import annotations

import ast
import errno
import os
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.support.startups import machine_has_amx, recorder, starts
from tests.support.vllm_cpu import STARTUP
from vllm_operator.startup import sitecustomize

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = STARTUP / "sitecustomize.py"
TREE = """
import multiprocessing, os, subprocess, sys

def child():
    subprocess.run([sys.executable, "-c", "pass"], check=True)

if __name__ == "__main__":
    for method in ("spawn", "fork", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
"""
"""Every way in which a Python program starts another process."""


def run(program: Path, path: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own that knows only this path."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, str(program)], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_every_process_of_a_tree_asks_however_it_was_started(tmp_path: Path) -> None:
    (tmp_path / "tree.py").write_text(TREE, encoding="utf-8")
    done = run(tmp_path / "tree.py", recorder(tmp_path / "record"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = starts(tmp_path / "record")
    assert len({start.process for start in found}) >= 7, "the program, three children, and one of each of these"
    asked = platform.machine() == "x86_64"
    assert {start.answer != sitecustomize.NOT_ASKED for start in found} == {asked}
    assert {start.allowed for start in found} == {machine_has_amx()}


def test_the_answer_is_leave_where_there_is_amx_and_a_refusal_elsewhere() -> None:
    refusals = {errno.EOPNOTSUPP, errno.EINVAL}
    if platform.machine() != "x86_64":
        assert sitecustomize.ask_for_amx() == sitecustomize.NOT_ASKED
    elif machine_has_amx():
        assert sitecustomize.ask_for_amx() == 0
    else:
        assert sitecustomize.ask_for_amx() in refusals


@pytest.mark.parametrize(
    "machine",
    [
        {"platform": "linux", "machine": "aarch64", "maxsize": 2**63 - 1},
        {"platform": "linux", "machine": "x86_64", "maxsize": 2**31 - 1},
        {"platform": "darwin", "machine": "x86_64", "maxsize": 2**63 - 1},
    ],
    ids=["arm64", "32 bits", "no Linux"],
)
def test_the_number_of_the_call_is_used_only_where_it_is_that_call(
    machine: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ctypes", None)  # importing it would fail, and nothing imports it
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine["machine"]))
    monkeypatch.setattr(sys, "platform", machine["platform"])
    monkeypatch.setattr(sys, "maxsize", machine["maxsize"])
    assert sitecustomize.ask_for_amx() == sitecustomize.NOT_ASKED


def test_a_python_without_ctypes_starts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert sitecustomize.ask_for_amx() == sitecustomize.NOT_ASKED


def test_a_sitecustomize_that_it_hides_runs_all_the_same_also_one_of_the_images_own(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('the other one')", encoding="utf-8")
    (tmp_path / "empty.py").write_text("", encoding="utf-8")
    for path in (f"{STARTUP}:{tmp_path}", f"{STARTUP}/:{tmp_path}"):
        assert run(tmp_path / "empty.py", path).stdout == "the other one\n"


def test_one_that_fails_is_told_as_python_tells_it_without_ours(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise ValueError('broken')", encoding="utf-8")
    (tmp_path / "empty.py").write_text("", encoding="utf-8")
    with_ours, without = (run(tmp_path / "empty.py", path) for path in (f"{STARTUP}:{tmp_path}", str(tmp_path)))
    assert with_ours.returncode == without.returncode == 0
    assert with_ours.stderr == without.stderr
    assert "ValueError: broken" in without.stderr


def test_it_is_written_for_the_oldest_python_of_an_image_and_the_standard_library_alone() -> None:
    tree = ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        name.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    assert imported <= sys.stdlib_module_names


def test_nothing_else_can_be_imported_from_its_folder() -> None:
    assert {path.name for path in STARTUP.glob("*.py")} == {"__init__.py", "sitecustomize.py"}
