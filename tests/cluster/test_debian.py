"""Which Debian packages become the base image."""

from __future__ import annotations

import os
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterError, debian, images

if TYPE_CHECKING:
    from pathlib import Path

LISTING = """\
python3
  PreDepends: python3-minimal
  Depends: libpython3-stdlib
 |Depends: media-types
  Depends: mime-support
  Depends: <virtual>
    provider
python3-minimal
  Depends: dpkg
  Depends: python3.11-minimal
python3.11-minimal
libpython3-stdlib
util-linux
  Depends: libpam0g
"""


def test_the_first_alternative_is_taken_and_nothing_virtual() -> None:
    known = debian.parse_dependencies(LISTING)
    assert known["python3"] == ["python3-minimal", "libpython3-stdlib", "media-types"]
    assert known["libpython3-stdlib"] == []


@pytest.mark.parametrize(("root", "changed"), [(True, True), (True, False), (False, True)])
def test_lists_older_than_the_mirror_are_got_anew_once_by_root(
    *, root: bool, changed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def apt(*command: str, cwd: Path | None = None) -> str:
        asked.append(" ".join(command[:2]))
        if cwd is None:
            return ""
        raise ClusterError("404 Not Found")

    monkeypatch.setenv("VLLM_OPERATOR_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(debian, "_apt", apt)
    monkeypatch.setattr(debian, "lists_state", lambda: "b" if changed and "apt-get update" in asked else "a")
    with pytest.raises(ClusterError, match="404"):
        images.base_layer()
    assert asked.count("apt-get update") == (1 if root else 0)
    assert asked.count("apt-get -q") == (2 if root and changed else 1)


def test_closure_leaves_out_installers_and_the_dependencies_of_partial_packages() -> None:
    found = debian.closure(["python3", "util-linux"], debian.parse_dependencies(LISTING))
    assert found == (
        "libpython3-stdlib",
        "media-types",
        "python3",
        "python3-minimal",
        "python3.11-minimal",
        "util-linux",
    )


@pytest.mark.node
def test_base_layer_has_python_with_byte_code_a_shell_and_what_vllm_needs() -> None:
    with tarfile.open(images.base_layer().path) as archive:
        names = set(archive.getnames())
    own = f"python{sys.version_info.major}.{sys.version_info.minor}"
    byte_code = f"usr/lib/{own}/json/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"
    assert (byte_code in names) == (f"usr/bin/{own}" in names), "byte code for the interpreter of the same version"
    assert {"usr/bin/python3", "usr/bin/sh", "usr/bin/lscpu", "lib", "etc/passwd", "tmp"} <= names
    assert any(name.endswith("/libnuma.so.1") for name in names)
    assert any(name.endswith("/libstdc++.so.6") for name in names)
    assert not any(name.startswith("lib/") for name in names), "usr-merged: /lib is a link"
    assert not any(name.startswith("usr/share/doc/") for name in names)
