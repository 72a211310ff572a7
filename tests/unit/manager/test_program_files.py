"""The files of the manager run in images of any age: what they are written in is Python 3.9."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import vllm_operator
from vllm_operator.manager import settings, stem

FILES = sorted((Path(vllm_operator.__file__).parent / "manager").glob("*.py"))
MAY_BE_MISSING = {"TYPE_CHECKING"}


def imports(tree: ast.Module) -> set[str]:
    """Names of the modules that are imported when the file runs, but for those of its own package."""
    found = set()
    skipped = {inner for node in tree.body if only_for_types(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def only_for_types(node: ast.stmt) -> bool:
    """Whether a block is read by type checkers alone."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id in MAY_BE_MISSING


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_is_python_3_9_and_needs_the_standard_library_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), path.name, feature_version=(3, 9))
    beside = {file.stem for file in FILES}  # the stem is run as a file, and finds the others beside it
    assert imports(tree) <= set(sys.stdlib_module_names) | beside


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_annotations_are_never_evaluated_since_they_are_written_for_later_versions(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    annotated = any(isinstance(node, (ast.AnnAssign, ast.arg, ast.FunctionDef)) for node in ast.walk(tree))
    assert not annotated or "from __future__ import annotations" in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_uses_what_came_after_3_9(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            words = {keyword.arg for keyword in node.keywords}
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            newer = {"zip": {"strict"}, "dataclass": {"slots", "kw_only"}, "Popen": {"process_group"}}
            assert not words & newer.get(called, set()), f"{path.name}:{node.lineno}"


def test_the_stem_waits_as_long_before_sigterm_as_the_pods_grace_leaves_room_for() -> None:
    """It imports no settings, since the module of dataclasses takes memory beside every engine."""
    assert stem.LEAVE_SECONDS == settings.LEAVE_SECONDS
