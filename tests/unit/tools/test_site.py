"""The site is built without a warning, from all pages; links in it lead where they lead in the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tools import docs_site as site
from tools.generate import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


def test_the_site_is_built_and_every_link_and_anchor_leads_somewhere(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (REPOSITORY / "docs").rglob("*.md"):
        name = page.relative_to(REPOSITORY / "docs").with_suffix("").as_posix()
        served = re.sub("(^|/)(index|README)$", r"\1", name)
        assert (folder / served / "index.html").is_file(), name
    assert (folder / "repository/manifests/samples/qwen2.5-0.5b-instruct.yaml").is_file()
    loaded = [
        word for word in ("fonts.googleapis", "unpkg.com", "jsdelivr") if word in (folder / "index.html").read_text()
    ]
    assert loaded == [], "the site loads nothing from elsewhere"


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("docs/a.md", "b.md#c", "b.md#c"),
        ("docs/a.md", "../README.md", "repository/README.md"),
        ("docs/operations/a.md", "../../manifests/samples", "../repository/manifests/samples/README.md"),
        ("README.md", "docs/scope.md", "../scope.md"),
        ("README.md", "https://docs.vllm.ai", "https://docs.vllm.ai"),
    ],
)
def test_a_link_of_the_repository_becomes_one_of_the_site(page: str, link: str, expected: str) -> None:
    assert site.rewritten(f"see [it]({link}) or `[this]({link})`", page) == f"see [it]({expected}) or `[this]({link})`"


def test_pages_that_nobody_listed_are_found_by_their_folder() -> None:
    nav = ["index.md", {"Quickstart": "quickstart.md"}, {"Guide": "guide.md"}, {"Last": ["z.md"]}]
    pages = ["index.md", "quickstart.md", "guide.md", "z.md", "install.md", "runbooks/b.md", "runbooks/a.md"]
    assert site.with_unlisted(nav, pages) == [
        "index.md",
        {"Quickstart": "quickstart.md"},
        "install.md",
        {"Guide": "guide.md"},
        {"Runbooks": ["runbooks/a.md", "runbooks/b.md"]},
        {"Last": ["z.md"]},
    ]
