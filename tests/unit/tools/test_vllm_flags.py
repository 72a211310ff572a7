"""How arguments are read out of a release: its own code runs, and nothing that it only imports is taken for it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tools.vllm_flags import parser_program
from tools.vllm_flags.table import missing

if TYPE_CHECKING:
    from pathlib import Path

SERVE = """
import argparse
import torch
from torch import nn
from vllm.config import Mode, parse_pairs
from vllm.kernels import BACKENDS, DEFAULT
from vllm.platforms import current_platform

FlexibleArgumentParser = argparse.ArgumentParser

class Layer(nn.Module):
    pass

class ServeSubcommand:
    def subparser_init(self, subparsers):
        parser = subparsers.add_parser("serve")
        parser.add_argument("model_tag", nargs="?")
        add = parser.add_argument
        {arguments}

    def validate(self, args):
        pass
"""

CONFIG = """
import enum

class Mode(enum.Enum):
    FAST = "fast"

def parse_pairs(text):
    return dict(pair.split("=") for pair in text.split(","))
"""


def facts(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What is read out of a vLLM whose parser is made by these lines."""
    package = folder / "vllm"
    (package / "entrypoints" / "cli").mkdir(parents=True)
    lines = "\n        ".join(arguments)
    (package / "entrypoints" / "cli" / "serve.py").write_text(SERVE.replace("{arguments}", lines), encoding="utf-8")
    (package / "config.py").write_text(CONFIG, encoding="utf-8")
    (package / "kernels.py").write_text("raise RuntimeError('it needs a GPU')", encoding="utf-8")
    program = [sys.executable, "-I", parser_program.__file__, str(folder)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Facts of one parser with an argument of each kind."""
    done = facts(
        tmp_path_factory.mktemp("release"),
        'add("--tensor-parallel-size", "-tp", type=int, default=1)',
        'add("--share", type=float, default=0.5)',
        'add("--pairs", type=parse_pairs, default={})',
        'add("--config", type=__import__("json").loads)',
        'add("--mode", choices=[Mode.FAST], default=Mode.FAST)',
        'add("--names", nargs="+")',
        'add("--plugin", action="append", default=[])',
        'add("--eager", action="store_true")',
        'add("--cache", action=argparse.BooleanOptionalAction)',
        'add("--device", choices=["auto", current_platform.device_type])',
    )
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("--tensor-parallel-size", {"type": "integer", "aliases": ["-tp"], "default": 1}),
        ("--share", {"type": "number", "default": 0.5}),
        ("--pairs", {"type": "KEY=VALUE"}),
        ("--config", {"type": "JSON"}),
        ("--mode", {"type": "text", "choices": ["fast"], "default": "fast"}),
        ("--names", {"type": "text", "nargs": "+"}),
        ("--plugin", {"type": "text", "nargs": "repeated"}),
        ("--eager", {"type": "switch", "default": False}),
        ("--cache", {"type": "switch", "off": ["--no-cache"]}),
        ("--device", {"type": "text", "choices": ["auto", "cuda"]}),
    ],
)
def test_each_kind_of_argument_is_told(found: dict[str, Any], name: str, facts: dict[str, Any]) -> None:
    assert found[name] == facts


def test_nothing_else_is_told(found: dict[str, Any]) -> None:
    assert len(found) == 10


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('add("--backend", default=DEFAULT)', "--backend has vllm.kernels.DEFAULT as its default or a choice"),
        ('add("--backend", choices=[DEFAULT])', "--backend has vllm.kernels.DEFAULT as its default or a choice"),
        ('add("--backend", choices=list(BACKENDS))', "the items of vllm.kernels.BACKENDS are not known"),
        ('add("--backend", choices=[])', "--backend has no choices"),
    ],
)
def test_what_only_a_module_that_does_not_run_could_tell_is_an_error(tmp_path: Path, line: str, told: str) -> None:
    done = facts(tmp_path, line)
    assert done.returncode == 1
    assert told in done.stderr.splitlines()[-1]


def test_arguments_that_the_table_lacks_are_told() -> None:
    assert missing({"--a": {}, "--c": {}, "--b": {}}, ["--a", "--gone"]) == ["--b", "--c"]
