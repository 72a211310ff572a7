"""What a machine lacks is found in a moment; root gets it installed, others one command to run."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterError, debian, machine
from tests.cluster.machine import Lack, lack, prepare
from tests.cluster.paths import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Sequence

LACKING = Lack(("python3.11-venv", "runc"))
UPDATE = ["apt-get", "update", "-q"]
INSTALL = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "python3.11-venv", "runc"]


class Apt:
    """Instead of apt: what it was asked to do."""

    def __init__(self, code: int = 0) -> None:
        self.asked: list[list[str]] = []
        self.said: list[str] = []
        self._code = code

    def run(self, command: Sequence[str]) -> int:
        """Note the command."""
        self.asked.append(list(command))
        return self._code

    def prepare(self, found: Lack, *, root: bool) -> None:
        """Let it install what is missing."""
        prepare(found, root=root, say=self.said.append, run=self.run)


def test_a_machine_that_has_everything_is_left_alone_whoever_asks() -> None:
    apt = Apt()
    for root in (True, False):
        apt.prepare(Lack(), root=root)
    assert (apt.asked, apt.said) == ([], [])


def test_root_gets_what_is_missing_in_one_go() -> None:
    apt = Apt()
    apt.prepare(LACKING, root=True)
    assert apt.asked == [UPDATE, INSTALL]
    assert apt.said == ["installing the Debian packages python3.11-venv, runc"]


def test_a_machine_with_all_programs_whose_apt_knows_nothing_gets_the_lists_alone() -> None:
    apt = Apt()
    apt.prepare(Lack(lists=True), root=True)
    assert apt.asked == [UPDATE]


def test_others_than_root_are_told_the_one_command() -> None:
    apt = Apt()
    with pytest.raises(ClusterError, match=r"lacks .*python3\.11-venv, runc.*\n  sudo make system-packages$"):
        apt.prepare(LACKING, root=False)
    assert apt.asked == []


def test_a_failure_of_apt_is_told_with_the_command_that_failed() -> None:
    with pytest.raises(ClusterError, match="`apt-get update` failed"):
        Apt(code=100).prepare(LACKING, root=True)


def test_what_is_missing_is_told_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "lists_state", lambda: "some")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else found(name))
    missing = {"nft", "/usr/bin/python3.11"}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    expected = {"nftables", "python3.11", f"python{version}-venv"}
    assert set(lack(present=lambda use: use not in missing).packages) == expected
    monkeypatch.setattr(debian, "lists_state", lambda: "")
    assert lack(present=lambda _: True).lists


def test_the_check_needs_nothing_but_the_standard_library() -> None:
    program = "from tests.cluster import machine; machine.lack()"
    done = subprocess.run([sys.executable, "-S", "-c", program], cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_of_the_readme_begin_with_it(target: str) -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}: system-packages ", text, re.MULTILINE)
    assert "-m tests.cluster prepare" in text


def test_continuous_integration_runs_the_readmes_command_and_no_other() -> None:
    lines = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith(("make", "apt"))] == ["make test"]


def test_apt_asks_no_questions() -> None:
    assert machine.run_apt(["sh", "-c", 'test "$DEBIAN_FRONTEND" = noninteractive']) == 0
