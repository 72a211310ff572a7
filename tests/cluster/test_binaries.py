"""The build: all or nothing, once, with signs of life. A script stands in for the Go compiler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterError, binaries

if TYPE_CHECKING:
    from pathlib import Path

COMPILER = """#!/bin/sh
[ "$1" = env ] && { echo go1.26.0; exit; }
echo "called in $(basename "$PWD") with CGO_ENABLED=$CGO_ENABLED" >> "$0.calls"
echo a/package >&2
sleep "${FAKE_SECONDS:-0}"
echo another/package >&2
while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done
[ "$(basename "$PWD")" = "$FAKE_FAILURE" ] && { echo "undefined: thing" >&2; exit 1; }
case "$out" in */) out=$out$(basename "$PWD") ;; esac
echo program > "$out"
"""


@pytest.fixture(autouse=True)
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "go"
    program.parent.mkdir()
    program.write_text(COMPILER, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("VLLM_OPERATOR_CACHE", str(tmp_path / "cache"))
    return program


def calls(compiler: Path) -> list[str]:
    return compiler.with_name("go.calls").read_text(encoding="utf-8").splitlines()


def test_every_part_is_built_statically_and_once(compiler: Path) -> None:
    said: list[str] = []
    folder = binaries.ensure_binaries(said.append)
    modules = [part.module for part in binaries.PARTS]
    assert calls(compiler) == [f"called in {module} with CGO_ENABLED=0" for module in modules]
    assert {path.name for path in folder.iterdir()} == {*modules, "helm3", *binaries.MULTI_CALL_NAMES}
    assert (folder / "kubelet").readlink().name == "controlplane"
    assert [line for line in said if "done" in line][-1].startswith("[5/5] helm3: done in ")
    assert binaries.ensure_binaries(said.append) == folder
    assert len(calls(compiler)) == len(modules)


def test_a_failed_build_shows_the_compilers_words_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAILURE", "coredns")
    with pytest.raises(ClusterError, match=r"\[3/5\] coredns: go build failed:(?s:.*)undefined: thing"):
        binaries.ensure_binaries()
    assert [path.name for path in (tmp_path / "cache" / "binaries").iterdir()] == [".lock"]


def test_a_long_build_reports_how_many_packages_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setenv("FAKE_SECONDS", "0.3")
    said: list[str] = []
    binaries.ensure_binaries(said.append)
    assert any(line.startswith("[1/5] kubernetes: 1 packages, ") for line in said)
