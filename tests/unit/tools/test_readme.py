"""What the README shows is true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.generate import REPOSITORY
from vllm_operator.api.resource import parse_resource
from vllm_operator.api.spec.arguments import removed_arguments
from vllm_operator.render.command import command
from vllm_operator.render.environment import environment

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SET = README.partition("## What can be set")[2].partition("\n## ")[0]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "manifests/samples/README.md",
    "docs/client.md",
    "docs/install.md",
    "docs/migrate.md",
    "examples/README.md",
)


def blocks(language: str, text: str) -> list[str]:
    """Code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def options(words: list[str]) -> dict[str, list[str]]:
    """Values by their flags; what stands before all flags has the name of none."""
    found: dict[str, list[str]] = {"": []}
    flag = ""
    for word in words:
        if word.startswith("--"):
            flag = word
            found[flag] = []
        else:
            found[flag].append(word)
    return found


def resource() -> dict[str, Any]:
    """The resource that stands beside the command line."""
    (text,) = blocks("yaml", SET)
    return dict(yaml.safe_load(text))


def test_the_resource_becomes_the_command_line_beside_it() -> None:
    (text,) = blocks("sh", SET)
    words = [word for word in shlex.split(text.replace("\\\n", "")) if not re.match("[A-Z_]+=", word)]
    rendered = options(command(parse_resource(resource()).spec))
    assert rendered.pop("--shutdown-timeout") == ["30"]
    assert rendered == options(words)


def test_the_resource_sets_the_variables_beside_it() -> None:
    (text,) = blocks("sh", SET)
    variables = set(re.findall(r"\b([A-Z_]+)=", text))
    assert variables
    assert variables <= {one["name"] for one in environment(parse_resource(resource()).spec, "mixtral")}


def test_the_refusal_is_told_in_its_words() -> None:
    assert f"--swap-space {removed_arguments()['--swap-space']}" in " ".join(SET.split())


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (REPOSITORY / page).read_text(encoding="utf-8"))
    missing = [link for link in links if not (REPOSITORY / page).parent.joinpath(Path(link)).exists()]
    assert missing == []
