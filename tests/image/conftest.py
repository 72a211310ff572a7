"""What the tests of the image share: the image as a real builder makes it, and as the test cluster's."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pip
import pytest

from tests.cluster.images import ImageConfig, base_layer, build_image, folder_layer
from tests.cluster.paths import REPOSITORY
from tests.support import images
from tests.support.buildah import buildah
from tests.support.dockerfile import read_stages

if TYPE_CHECKING:
    from collections.abc import Mapping

BASE = "docker.io/library/python:base"
"""Stands for both bases of the Dockerfile, which no registry gives here: Debian's Python, with pip."""


@dataclass(frozen=True)
class Content:
    """An image: how it starts, and its files by path as mode, link and bytes; and the size of each layer in bytes."""

    config: Mapping[str, Any]
    files: Mapping[str, tuple[int, str, bytes]]
    layer_bytes: tuple[int, ...]


def read_image(archive: Path) -> Content:
    """Read an OCI archive whose layers are not compressed and take nothing away."""
    with tarfile.open(archive) as outer:

        def blob(digest: str) -> bytes:
            handle = outer.extractfile(f"blobs/{digest.replace(':', '/')}")
            assert handle is not None
            return handle.read()

        index = outer.extractfile("index.json")
        assert index is not None
        manifest = json.loads(blob(json.load(index)["manifests"][0]["digest"]))
        files: dict[str, tuple[int, str, bytes]] = {}
        sizes = []
        for layer in manifest["layers"]:
            content = blob(layer["digest"])
            sizes.append(len(content))
            files |= _files(content)
        return Content(json.loads(blob(manifest["config"]["digest"]))["config"], files, tuple(sizes))


def _files(layer: bytes) -> dict[str, tuple[int, str, bytes]]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        for member in archive:
            assert not Path(member.name).name.startswith(".wh."), f"{member.name} takes something away"
            handle = archive.extractfile(member) if member.isreg() else None
            content = handle.read() if handle else b""
            found[member.name.strip("/")] = (member.mode & 0o777, member.linkname, content)
    return found


TRIED = "import os, sys, vllm_operator.controller.app as app; print(os.getuid(), os.environ['HOME'], app.__file__)"
"""Program that loads all that the operator loads, and says as whom and from where."""


@dataclass(frozen=True)
class Built:
    """What a real builder makes."""

    content: Content
    printed: str
    """What TRIED prints in a container of it."""


@pytest.fixture(scope="session")
def built_and_tried(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The image that buildah makes of operator/Dockerfile, from this checkout with all that lies in it."""
    target = tmp_path_factory.mktemp("built") / "operator.tar"
    pip_layer = folder_layer(Path(pip.__file__).parent, f"{images.PACKAGES}/pip")
    base = build_image(BASE, layers=[base_layer(), pip_layer], config=ImageConfig(command=["python3"]))
    with buildah() as builder:
        builder.load(base, BASE)
        bases = {stage.base: BASE for stage in read_stages(images.DOCKERFILE)}
        builder.build(images.DOCKERFILE, REPOSITORY, bases=bases, target=target)
        printed = builder.run_in("python3", "-c", TRIED)
    return Built(read_image(target), printed)


@pytest.fixture(scope="session")
def built(built_and_tried: Built) -> Content:
    """What that image holds."""
    return built_and_tried.content


@pytest.fixture(scope="session")
def tested() -> Content:
    """The image that the test cluster runs."""
    return read_image(images.operator_image())
