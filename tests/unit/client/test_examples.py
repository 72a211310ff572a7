"""The programs of examples/ run as files, as the pages of the client show them, and say so where they cannot."""

from __future__ import annotations

import ast
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from examples.extraction import PRODUCTS
from tests.support.examples import EXAMPLES, PROGRAMS, environment, run
from tests.support.servers import free_port, stub_server
from tests.unit.client.conftest import KEY
from tools.examples import programs_of
from tools.generate import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import EngineServer

pytestmark = pytest.mark.slow

PAGES = ("client.md", "cache-and-batch.md", "client-monitoring.md", "catalog.md")
SHOWN = {
    path: source
    for page in PAGES
    for path, source in programs_of((REPOSITORY / "docs" / page).read_text(encoding="utf-8")).items()
}
FOUND = {"item": "shirt", "color": "red", "material": "cotton", "size": "M"}
ANSWERS: dict[str, Any] = {
    "extraction.py": FOUND,
    "test_vllm_integration.py": {"brand": "Apple", "model": "iPhone 15"},
}
"""What the engine answers to programs that ask for JSON; to others it repeats what it heard."""
PRINTED = {
    "quickstart.py": r"tiny heard: What is an ontology\?\n",
    "extraction.py": "".join(
        rf"{re.escape(json.dumps({'product': product, 'attributes': FOUND}))}\n" for product in PRODUCTS
    ),
    "batch.py": r"(tiny heard: Name .*\n){3}(p-[123]: new: tiny heard: Name .*\n){3}asked: 2\n",
    "several_models.py": r"zh-TW, high -> tiny: tiny heard: .*\nde, low -> small: tiny heard: Was ist .*\n",
    "monitoring.py": (
        r"healthy: True\nmodel: tiny\n(extract took \d+\.\d{3} s\n){2}"
        r"tiny: 2 answers, errors {}, [1-9]\d* tokens written\n"
    ),
    "test_vllm_integration.py": r"(PASS  test_\w+ \(\d+\.\d s\)\n){4}4 of 4 tests passed\n",
    "test_vllm_client.py": r"(?s).*\b1 passed in .*",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    """An engine under the names of both models of the catalogue."""
    flags = ("--served-model-name", "tiny", "small")
    with stub_server(*flags, folder=tmp_path_factory.mktemp("models"), api_key=KEY) as server:
        yield server


def program(name: str, folder: Path) -> Path:
    """The program in a folder of its own, as a reader would copy it out of the page that shows it."""
    path = folder / name
    path.write_text(SHOWN.get(f"examples/{name}") or (EXAMPLES / name).read_text(encoding="utf-8"), encoding="utf-8")
    return path


@pytest.mark.parametrize("page", PAGES)
def test_each_page_of_the_client_shows_a_whole_program(page: str) -> None:
    assert programs_of((REPOSITORY / "docs" / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_with_the_environment_of_a_binding(name: str, models: EngineServer, tmp_path: Path) -> None:
    if name in ANSWERS:
        models.faults(answer=json.dumps(ANSWERS[name]))
    try:
        done = run(program(name, tmp_path), environment(models, tmp_path), tmp_path)
    finally:
        models.request("DELETE", "/stub/faults")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(PRINTED[name], done.stdout), done.stdout
    assert KEY not in done.stdout + done.stderr


def test_a_batch_that_runs_again_asks_nothing_that_its_file_has(models: EngineServer, tmp_path: Path) -> None:
    path, env = program("batch.py", tmp_path), environment(models, tmp_path)
    assert run(path, env, tmp_path).returncode == 0
    again = run(path, env, tmp_path)
    assert re.search(r"(p-[123]: kept: tiny heard: .*\n){3}asked: 0\n$", again.stdout), again.stdout + again.stderr


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("quickstart.py", 1, "NotReachable: cannot reach the engine"),
        ("test_vllm_integration.py", 2, "0 of 4 tests passed"),
        ("test_vllm_client.py", 1, "the health check failed: cannot reach the engine"),
    ],
)
def test_where_nobody_answers_a_program_fails_and_says_so(name: str, code: int, told: str, tmp_path: Path) -> None:
    env = {"VLLM_BASE_URL": f"http://127.0.0.1:{free_port()}", "VLLM_MODEL_NAME": "tiny"}
    done = run(program(name, tmp_path), env, tmp_path)
    assert done.returncode == code
    assert told in done.stdout + done.stderr


def test_without_an_environment_the_test_of_pytest_fails_and_names_what_is_missing(tmp_path: Path) -> None:
    done = run(program("test_vllm_client.py", tmp_path), {}, tmp_path)
    assert (done.returncode, "Set VLLM_MODEL_NAME" in done.stdout) == (1, True), done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_needs_nothing_of_this_repository_but_the_client(name: str) -> None:
    imported = {
        (module or "").partition(".")[0]
        for node in ast.walk(ast.parse((EXAMPLES / name).read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in ([node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert "vllm_client" in imported
    assert imported - sys.stdlib_module_names <= {"pydantic", "pytest", "vllm_client"}


def test_every_program_stands_in_the_list() -> None:
    listed = re.findall(r"^\| \[(\w+\.py)\]\(\1\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == list(PROGRAMS) == sorted(PRINTED)
