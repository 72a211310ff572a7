"""The order of the house: what the linters cannot say."""

from __future__ import annotations

import ast
import operator as standard_operator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
SOURCES = sorted((REPOSITORY / "operator").glob("vllm_*/**/*.py"))
SCREEN = 45


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_the_folder_named_operator_does_not_shadow_the_standard_library() -> None:
    assert not (REPOSITORY / "operator" / "__init__.py").exists()
    assert standard_operator.add(1, 1) == 2


def test_the_walk_sees_the_sources() -> None:
    assert {"decide.py", "stem.py", "client.py"} <= {path.name for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions(path)}
    assert {name: length for name, length in lengths.items() if length > SCREEN} == {}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_error_is_swallowed_without_a_word(path: Path) -> None:
    """`except: pass` needs a comment beside it; contextlib.suppress(Exception) is not used at all."""
    text = path.read_text(encoding="utf-8")
    assert "suppress(Exception)" not in text
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() == "pass":
            pytest.fail(f"{path.name}:{number}: says nothing")


@pytest.mark.parametrize("package", ["vllm_operator", "vllm_client"])
def test_the_packages_say_that_they_are_typed(package: str) -> None:
    assert (REPOSITORY / "operator" / package / "py.typed").exists()
