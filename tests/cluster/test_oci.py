"""Layers and image archives: the same content gives the same bytes, and containerd finds what the format asks for."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import marshal
import os
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterError, images, oci

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_OPERATOR_CACHE", str(tmp_path / "cache"))


def sample_folder(path: Path) -> Path:
    (path / "package").mkdir(parents=True)
    (path / "package" / "__init__.py").write_text("ANSWER = 42\n", encoding="utf-8")
    (path / "package" / "__pycache__").mkdir()
    (path / "package" / "__pycache__" / "stale.pyc").write_bytes(b"stale")
    (path / "run.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    (path / "run.sh").chmod(0o700)
    (path / "link").symlink_to("run.sh")
    return path


def members(layer: images.Layer) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(layer.path) as archive:
        return {member.name: member for member in archive}


def test_same_content_gives_the_same_digest_whatever_the_times_and_owners(tmp_path: Path) -> None:
    first, second = sample_folder(tmp_path / "one"), sample_folder(tmp_path / "two")
    os.utime(second / "run.sh", (1, 1))
    layers = [images.folder_layer(folder, "/app") for folder in (first, second)]
    assert layers[0].digest == layers[1].digest
    assert {(member.mtime, member.uid, member.gid) for member in members(layers[0]).values()} == {(0, 0, 0)}


def test_changed_content_gives_another_digest(tmp_path: Path) -> None:
    folder = sample_folder(tmp_path / "one")
    before = images.folder_layer(folder, "/app")
    (folder / "run.sh").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    assert images.folder_layer(folder, "/app").digest != before.digest


def test_layer_names_every_parent_sorted_and_keeps_programs_executable_and_links(tmp_path: Path) -> None:
    found = members(images.folder_layer(sample_folder(tmp_path / "one"), "/opt/app"))
    assert list(found) == sorted(found)
    assert found["opt"].isdir()
    assert found["opt/app"].isdir()
    assert found["opt/app/run.sh"].mode == 0o755
    assert found["opt/app/link"].linkname == "run.sh"
    assert "opt/app/package/__pycache__/stale.pyc" not in found


def test_byte_code_in_a_layer_is_what_this_interpreter_loads_without_a_look_at_times(tmp_path: Path) -> None:
    layer = images.folder_layer(sample_folder(tmp_path / "one"), "/app")
    with tarfile.open(layer.path) as archive:
        handle = archive.extractfile(f"app/package/__pycache__/__init__.{sys.implementation.cache_tag}.pyc")
        assert handle is not None
        content = handle.read()
    assert content[:4] == importlib.util.MAGIC_NUMBER
    assert content[4:8] == (1).to_bytes(4, "little"), "hash-based and unchecked (PEP 552)"
    namespace: dict[str, object] = {}
    exec(marshal.loads(content[16:]), namespace)  # noqa: S102, S302 - the test's own byte code
    assert namespace["ANSWER"] == 42


def test_archive_holds_every_blob_under_its_own_hash_and_the_full_name() -> None:
    layers = [images.files_layer({"a": b"1"}), images.files_layer({"b/c": b"2"})]
    config = images.ImageConfig(entrypoint=["/a"], env={"KEY": "value"}, user="1000")
    archive_path = images.build_image("docker.io/library/sample:1", layers=layers, config=config)
    with tarfile.open(archive_path) as archive:
        blobs = {member.name: archive.extractfile(member) for member in archive if member.isreg()}
        content = {name: handle.read() for name, handle in blobs.items() if handle}
    for name, body in content.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(body).hexdigest() == name.rpartition("/")[2]
    described = json.loads(content["index.json"])["manifests"][0]
    assert described["annotations"]["io.containerd.image.name"] == "docker.io/library/sample:1"
    manifest = json.loads(content[_blob(described["digest"])])
    assert [layer["digest"] for layer in manifest["layers"]] == [layer.digest for layer in layers]
    document = json.loads(content[_blob(manifest["config"]["digest"])])
    assert document["rootfs"]["diff_ids"] == [layer.digest for layer in layers]
    assert document["config"]["Entrypoint"] == ["/a"]
    assert "KEY=value" in document["config"]["Env"]
    assert document["config"]["User"] == "1000"


def test_an_image_is_written_once(tmp_path: Path) -> None:
    layer = images.files_layer({"a": b"1"})
    first = images.build_image("docker.io/library/sample:1", layers=[layer])
    stamp = first.stat().st_mtime_ns
    assert images.build_image("docker.io/library/sample:1", layers=[layer]) == first
    assert first.stat().st_mtime_ns == stamp
    assert tmp_path in first.parents


@pytest.mark.parametrize("name", ["sample", "sample:1", "library/sample:1", "docker.io/library/sample"])
def test_a_short_image_name_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="must be full"):
        images.build_image(name, layers=[])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="nowhere is not a folder"):
        images.folder_layer(tmp_path / "nowhere", "/app")


def test_broken_python_files_get_no_byte_code() -> None:
    entries = {"good.py": oci.Entry(content=b"x = 1"), "bad.py": oci.Entry(content=b"{{ template }} x")}
    assert [name for name, _ in oci.compiled(entries, "tag")] == ["/__pycache__/good.tag.pyc"]


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"
