"""What pages show can be done: links lead somewhere, commands are ones, manifests meet the resource's schema."""

from __future__ import annotations

import importlib.util
import io
import re
import shlex
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import typer
import yaml
from typer.exceptions import TyperException

from tests.support import pages
from tests.support.pages import REPOSITORY, Block
from tools.docs_site import links, target
from vllm_operator.api.meta import KIND
from vllm_operator.cli.documents import read
from vllm_operator.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

PAGES = pages.pages()
COMMANDS = pages.commands()
YAML = [block for block in pages.all_blocks("yaml") if block.page != pages.GENERATED]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
KNOWN = {"docker", "grep", "helm", "kubectl", "kustomize", "make", "pip", "python", "vllm", "vllm-check"}
OF_THE_SHELL = {"break", "cd", "eval", "export", "for"}
OF_THE_READER = {"./load-test"}
VLLM = [(where, words[2:]) for where, words in COMMANDS if words[:2] == ["kubectl", "vllm"]]
SOURCES = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "operator/vllm_operator").rglob("*.py"))


def name(value: object) -> str:
    """Of a case."""
    return str(value) if isinstance(value, (str, Block)) else ""


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command of `kubectl vllm` that these words call, and its arguments."""
    found: Any = typer.main.get_command(app)
    left = list(words)
    while getattr(found, "commands", None):
        assert left, "a group of commands does nothing by itself"
        found = found.commands[left.pop(0)]
    return found, left


def fault_of(words: list[str]) -> str:
    """What is wrong with a command in a sentence, which may leave out what it is about."""
    if words == ["rollout"]:
        return ""
    command, arguments = command_of(words)
    try:
        with command.make_context("sentence", arguments):
            return ""
    except TyperException as error:
        return "" if str(error).startswith("Missing parameter") else str(error)


def test_there_is_something_to_check() -> None:
    assert len(PAGES) > 30
    assert len(COMMANDS) > 40
    assert len(YAML) > 25
    assert len(VLLM) > 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    path = str(page.relative_to(REPOSITORY))
    found = list(links(page.read_text(encoding="utf-8")))
    assert [link for link in found if not (REPOSITORY / target(path, link)).exists()] == []


@pytest.mark.parametrize(("where", "words"), COMMANDS, ids=name)
def test_a_command_is_one_that_people_have(where: str, words: list[str]) -> None:
    assert words[0] in KNOWN | OF_THE_SHELL | OF_THE_READER, where


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_code_stands_in_blocks_that_say_what_it_is(page: Path) -> None:
    """What is only indented no test would read: of commands in it nobody would know whether they can be run."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"\n\n( {4}.*)", prose) == []


@pytest.mark.parametrize(
    ("where", "text"),
    [(where, text) for where, words in COMMANDS if words[0] == "grep" for text in words[-1].split("|")],
)
def test_what_is_looked_for_in_a_log_is_written_there(where: str, text: str) -> None:
    assert text in SOURCES, where


@pytest.mark.parametrize(("where", "words"), VLLM, ids=name)
def test_the_command_line_takes_each_of_its_commands(where: str, words: list[str]) -> None:
    command, arguments = command_of(words)
    with command.make_context(where, arguments):
        pass


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_in_sentences_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for words in re.findall(r"`kubectl vllm ([a-z]+(?: [a-z]+)?)", text):
        first, *rest = words.split()
        command = typer.main.get_command(app).commands[first]  # type: ignore[attr-defined] # a group
        group = getattr(command, "commands", None)
        assert not (group and rest) or rest[0] in group, words
    for words in re.findall(r"`kubectl vllm ([^`|\[]+)`", text):
        assert fault_of(shlex.split(words)) == "", words
    for name in re.findall(r"`make ([a-z-]+)", text):
        assert name in TARGETS, name


@pytest.mark.parametrize(("where", "words"), COMMANDS, ids=name)
def test_files_targets_and_modules_of_commands_exist(where: str, words: list[str]) -> None:
    paths = [word for word in words if re.match(r"(charts|crds|docs|examples|manifests|operator|tests)/", word)]
    assert [path for path in paths if not (REPOSITORY / path).exists()] == [], where
    if words[0] == "make":
        assert words[1] in TARGETS
    if words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2])
    if words[:2] == ["pip", "install"]:
        assert all(told_by_pip(word) for word in words[2:]), where


def told_by_pip(requirement: str) -> bool:
    """Whether it can be installed: nothing of ours lies in an index, where its name may be somebody else's one day."""
    place, _, extras = requirement.partition("[")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = set(filter(None, extras.rstrip("]").split(","))) <= {*project["optional-dependencies"]}
    return known and (place == "." or " @ git+https://" in place)


@pytest.mark.parametrize("block", YAML, ids=name)
def test_a_model_of_a_page_is_valid(block: Block) -> None:
    for document in pages.manifests(block):
        if document["kind"] == KIND:
            assert read(["-"], "team", io.StringIO(yaml.safe_dump(document)))


def test_a_block_that_is_a_part_of_something_says_of_what() -> None:
    part = Block("x.md", 1, "yaml", "envFrom: []\n", "")
    with pytest.raises(ValueError, match=r"x\.md:1: say what it is a part of"):
        pages.manifests(part)
    assert pages.manifests(Block("x.md", 1, "yaml", "envFrom: []\n", "<!-- fragment: of a pod -->")) == []
    (whole,) = pages.manifests(Block("x.md", 1, "yaml", "replicas: 2\n", ""))
    assert whole["spec"] == {"model": {"source": "org/tiny"}, "replicas": 2}


def test_commands_are_taken_apart() -> None:
    assert pages.simple_commands("A=1 kubectl get x | grep 'a b' && make test # why") == [
        ["kubectl", "get", "x"],
        ["grep", "a b"],
        ["make", "test"],
    ]
