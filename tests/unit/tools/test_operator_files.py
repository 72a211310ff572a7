"""What goes into the operator's image and what does not, and that its byte code is the same each time."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cluster.paths import REPOSITORY
from tools import operator_files
from tools.operator_files import byte_code, copy_source, finish, install_packages

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = b"""\
KNOWN = frozenset({"a", "b", "c"})


def split(text: str) -> list[str]:
    return text.split("[")
"""


def written(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(SOURCE if name.endswith(".py") else b"x")


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_no_container_reads_is_left_out(tmp_path: Path) -> None:
    needless = ["a/_c.c", "a/_c.pyx", "a/_c.pxd", "a/b.pyi", "bin/kopf", "a/tests/test_a.py", ".lock", "a/x.h"]
    notes = [
        "a-1.dist-info/RECORD",
        "a-1.dist-info/INSTALLER",
        "a-1.dist-info/REQUESTED",
        "a/__pycache__/z.cpython-39.pyc",
    ]
    needed = ["a/b.py", "a/_c.so", "a/t.json", "a/py.typed", "a-1.dist-info/METADATA", "a-1.dist-info/licenses/LICENSE"]
    written(tmp_path, *needless, *notes, *needed)
    finish(tmp_path)
    assert names(tmp_path) == {*needed, f"a/__pycache__/b.{sys.implementation.cache_tag}.pyc"}


def test_a_package_of_ours_is_copied_below_its_name_without_what_lay_beside_it(tmp_path: Path) -> None:
    written(tmp_path / "ours", "x.py", "__pycache__/x.cpython-39.pyc", "t.yaml")
    copy_source(tmp_path / "ours", tmp_path / "target")
    assert names(tmp_path / "target") == {
        "ours/x.py",
        "ours/t.yaml",
        f"ours/__pycache__/x.{sys.implementation.cache_tag}.pyc",
    }


def test_byte_code_runs_and_is_not_compared_with_the_times_of_its_source(tmp_path: Path) -> None:
    compiled = byte_code(SOURCE, "words.py")
    assert compiled[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(compiled[4:8], "little") == 1
    (tmp_path / "words.pyc").write_bytes(compiled)
    spec = importlib.util.spec_from_file_location("words", tmp_path / "words.pyc")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.split("a[b") == ["a", "b"]


def test_what_is_no_python_gets_none() -> None:
    assert byte_code(b"{{ cookiecutter }} = (", "template.py") == b""
    assert byte_code(b"x = '\\d'", "escape.py") != b""  # and no warning


def test_the_same_source_gives_the_same_byte_code_in_processes_that_have_loaded_other_things() -> None:
    """Also with another hash seed, and where the text of one character has been interned."""
    program = (
        "import hashlib, pathlib, sys\n"
        "if sys.argv[1] == '2': import asyncio, json; [sys.intern(text) for text in ' .[']\n"
        "from tools.operator_files import byte_code\n"
        "paths = sorted(pathlib.Path('operator/vllm_operator').rglob('*.py'))\n"
        "print(hashlib.sha256(b''.join(byte_code(path.read_bytes(), path.name) for path in paths)).hexdigest())\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program, seed],
            cwd=REPOSITORY,
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_an_installer_that_fails_is_quoted(tmp_path: Path) -> None:
    fails = [sys.executable, "-c", "import sys; sys.exit('no such package')"]
    with pytest.raises(RuntimeError, match=r"of /pins.txt failed: no such package"):
        install_packages(tmp_path.__class__("/pins.txt"), tmp_path, fails)


def test_hashes_are_required_and_nothing_is_built(tmp_path: Path) -> None:
    """What the installer is asked for: written to a file by a stand-in for it."""
    notes = tmp_path / "notes"
    stand_in = [sys.executable, "-c", f"import sys; open({str(notes)!r}, 'w').write(' '.join(sys.argv[1:]))"]
    (tmp_path / "target").mkdir()
    install_packages(tmp_path / "pins.txt", tmp_path / "target", stand_in)
    asked = notes.read_text(encoding="utf-8").split()
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(asked)


def test_the_program_runs_by_itself_with_the_standard_library_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", operator_files.__file__, "--help"], check=True, capture_output=True, text=True
    )
    assert "operator's image" in done.stdout
