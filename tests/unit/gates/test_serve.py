"""Several API keys reach the engine, and no command line shows them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.gate_program import write_program
from tests.support.resources import model
from vllm_operator.gates import serve
from vllm_operator.render import gates
from vllm_operator.render.pod import template

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

KEYS = {"VLLM_API_KEY": "first-key", "API_KEY_2": "second-key"}
SHOW = "#!/bin/sh\ntr '\\0' ' ' < /proc/$$/cmdline; echo; echo \"$@\"\n"
"""A `vllm` that prints its own command line."""


def run(tmp_path: Path, command: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as it lies in the pod, with a `vllm` of the test's own on the path."""
    program = tmp_path / "vllm"
    program.write_text(SHOW, encoding="utf-8")
    program.chmod(0o755)
    flat = write_program(tmp_path / "gates")
    (tmp_path / "state").mkdir()
    start = f"import sys; sys.path.insert(0, {str(flat)!r}); import os, serve; "
    start += f"sys.exit(serve.main(sys.argv[1:], os.environ, {str(tmp_path / 'state')!r}))"
    path = f"{tmp_path}:{os.environ['PATH']}"
    words = [sys.executable, "-S", "-E", "-c", start, *command]
    around = {"PATH": path, **environment}
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=30, env=around)


def rendered() -> list[str]:
    """What the program gets in the pod of a model with two keys."""
    auth = {"generate": True, "keys": [{"name": "old", "key": "k"}]}
    command: list[str] = template(model(auth=auth))["spec"]["containers"][0]["command"]
    return command[command.index(f"{gates.PROGRAM_FOLDER}/serve.py") + 1 :]


def test_the_engine_gets_all_keys_by_a_file_of_its_user_and_none_on_its_command_line(tmp_path: Path) -> None:
    done = run(tmp_path, rendered(), **KEYS)
    assert (done.returncode, done.stderr) == (0, "")
    file = tmp_path / "state" / serve.FILE
    assert done.stdout.splitlines()[-1].endswith(f" --config {file}")
    assert done.stdout.splitlines()[-1].startswith("serve Qwen/")
    assert json.loads(file.read_text(encoding="utf-8")) == {"api-key": ["first-key", "second-key"]}
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IRUSR | stat.S_IWUSR
    for key in KEYS.values():
        assert key not in done.stdout


def test_a_key_that_is_empty_is_none(tmp_path: Path) -> None:
    assert run(tmp_path, rendered(), **{**KEYS, "API_KEY_2": ""}).returncode == 0
    written = (tmp_path / "state" / serve.FILE).read_text(encoding="utf-8")
    assert json.loads(written) == {"api-key": ["first-key"]}


def test_an_engine_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(["--keys", "A", "--", "no-such-vllm", "serve"], {"A": "k"}, str(tmp_path)) == serve.NOT_FOUND
    assert capsys.readouterr().err.startswith("no-such-vllm cannot be started: ")


def test_the_file_lies_in_the_folder_in_memory() -> None:
    assert serve.FOLDER == gates.STATE_FOLDER
