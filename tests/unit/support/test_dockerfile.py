"""operator/Dockerfile: what it promises, that it is clean, and that its reader refuses what it does not understand."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.paths import REPOSITORY
from tests.support.dockerfile import DockerfileError, read_stages
from tests.support.images import DOCKERFILE
from tools import operator_files
from tools.chart.values import Values

BUILD, LAST = read_stages(DOCKERFILE)
PROGRAMS = Path(sys.executable).parent


def test_a_linter_finds_nothing() -> None:
    done = subprocess.run([PROGRAMS / "hadolint", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_can_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /tmp\nADD x /x\n", encoding="utf-8")
    done = subprocess.run([PROGRAMS / "hadolint", tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "DL3006" in done.stdout


def test_both_bases_are_pinned_and_of_the_same_debian_and_python() -> None:
    assert BUILD.is_pinned
    assert LAST.is_pinned
    assert re.search(r"/python:3\.13-slim-trixie@", BUILD.base)
    assert re.search(r"/python3-debian13:nonroot@", LAST.base), "Debian 13 (trixie) has Python 3.13"


def test_it_runs_as_the_user_that_the_chart_and_the_manifests_name() -> None:
    context = Values().pod_security_context
    assert f"{context.run_as_user}:{context.run_as_group}" == LAST.user == "1000:1000"
    text = (REPOSITORY / "manifests/base/operator.yaml").read_text(encoding="utf-8")
    (deployment,) = [one for one in yaml.safe_load_all(text) if one["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsUser"] == int(LAST.user.partition(":")[0])
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "PYTHONDONTWRITEBYTECODE" in LAST.env


def test_the_first_stage_runs_nothing_but_the_program_that_the_tests_run() -> None:
    name = Path(operator_files.__file__).name
    assert [run[:3] for run in BUILD.runs] == [
        ("python3", f"/build/{name}", "packages"),
        ("python3", f"/build/{name}", "source"),
    ]
    assert [copied.sources for copied in LAST.copies] == [(run[-1],) for run in BUILD.runs]
    assert {copied.target for copied in LAST.copies} == {LAST.env["PYTHONPATH"]}
    assert LAST.runs == ()


def test_the_builder_gets_what_is_copied_and_nothing_else() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    copied = {source for one in BUILD.copies for source in one.sources}
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == copied
    assert all((REPOSITORY / source).exists() for source in copied)
    assert any(fnmatch.fnmatch("operator/vllm_operator/api/__pycache__", rule) for rule in rules[1:])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("COPY a /a\n", "COPY stands before FROM"),
        ("FROM a\nADD a /a\n", "ADD a /a"),
        ("FROM a\nRUN pip install x\n", "RUN pip install x"),
        ("FROM a\nCOPY --chown=1 a /a\n", "knows no option but --from"),
    ],
)
def test_what_the_reader_does_not_know_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "Dockerfile").write_text(text, encoding="utf-8")
    with pytest.raises(DockerfileError, match=re.escape(told)):
        read_stages(tmp_path / "Dockerfile")


def test_a_tag_alone_is_no_pin(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM docker.io/library/python:3.13\n", encoding="utf-8")
    assert not read_stages(tmp_path / "Dockerfile")[0].is_pinned
