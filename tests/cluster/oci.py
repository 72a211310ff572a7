"""Write OCI layers and image archives with the standard library: no engine, no registry, no root.

The same content always gives the same bytes: entries are sorted, times are zero, owners are root. containerd can
therefore share a layer between images by its digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import posixpath
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.cluster.files import atomic_file
from tools.operator_files import byte_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file, folder or link of a layer. Content is bytes, or the path of a file to read when it is written."""

    kind: bytes = tarfile.REGTYPE
    mode: int = 0o644
    content: bytes | Path = b""
    link: str = ""


@dataclass(frozen=True)
class Layer:
    """An uncompressed layer in the cache."""

    path: Path
    digest: str
    size: int


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How containers of an image start."""

    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = "/"
    architecture: str = ARCHITECTURE

    def document(self, layers: Sequence[Layer]) -> dict[str, object]:
        """The OCI configuration document."""
        env = {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", **self.env}
        return {
            "architecture": self.architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            "history": [{"created_by": "tests.cluster.oci"} for _ in layers],  # builders count it against the layers
            "config": {
                "Entrypoint": list(self.entrypoint),
                "Cmd": list(self.command),
                "Env": [f"{key}={value}" for key, value in env.items()],
                "User": self.user,
                "WorkingDir": self.workdir,
            },
        }


def folder_entry(mode: int = 0o755) -> Entry:
    """A folder."""
    return Entry(kind=tarfile.DIRTYPE, mode=mode)


def link_entry(target: str) -> Entry:
    """A symbolic link."""
    return Entry(kind=tarfile.SYMTYPE, mode=0o777, link=target)


def write_layer(entries: Mapping[str, Entry], target: Path) -> str:
    """Write the layer and return its digest. Folders that no entry names are added with mode 755."""
    complete = dict(entries)
    for name in entries:
        for parent in _parents(name):
            complete.setdefault(parent, folder_entry())
    with atomic_file(target) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT) as archive:
            for name in sorted(complete):
                _add(archive, name, complete[name])
        with temporary.open("rb") as handle:
            return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"


def write_archive(name: str, layers: Sequence[Layer], config: ImageConfig, target: Path) -> None:
    """Write an image archive that `ctr images import` reads; the name must be full (docker.io/library/x:tag)."""
    blobs: dict[str, bytes] = {}
    config_blob = _put(blobs, config.document(layers))
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config_blob},
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.digest, "size": layer.size}
            for layer in layers
        ],
    }
    described = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        **_put(blobs, manifest),
        "platform": {"architecture": config.architecture, "os": "linux"},
        "annotations": {
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rpartition(":")[2],
        },
    }
    files: dict[str, Entry] = {
        "oci-layout": Entry(content=b'{"imageLayoutVersion":"1.0.0"}'),
        "index.json": Entry(content=_json({"schemaVersion": 2, "manifests": [described]})),
    }
    files |= {_blob(digest): Entry(content=content) for digest, content in blobs.items()}
    files |= {_blob(layer.digest): Entry(content=layer.path) for layer in layers}
    write_layer(files, target)


def compiled(entries: Mapping[str, Entry], tag: str) -> Iterator[tuple[str, Entry]]:
    """Byte code for every Python source, so that a pod's interpreter starts fast on a read-only file system."""
    for name, entry in entries.items():
        if entry.kind != tarfile.REGTYPE or not name.endswith(".py"):
            continue
        source = entry.content if isinstance(entry.content, bytes) else entry.content.read_bytes()
        content = byte_code(source, f"/{name}")
        if content:
            folder, base = posixpath.split(name)
            yield f"{folder}/__pycache__/{base[:-3]}.{tag}.pyc", Entry(content=content)


def _parents(name: str) -> Iterator[str]:
    parent = posixpath.dirname(name)
    while parent:
        yield parent
        parent = posixpath.dirname(parent)


def _add(archive: tarfile.TarFile, name: str, entry: Entry) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = entry.kind, entry.mode, entry.link
    if entry.kind != tarfile.REGTYPE:
        archive.addfile(info)
    elif isinstance(entry.content, bytes):
        info.size = len(entry.content)
        archive.addfile(info, io.BytesIO(entry.content))
    else:
        info.size = entry.content.stat().st_size
        with entry.content.open("rb") as handle:
            archive.addfile(info, handle)


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _put(blobs: dict[str, bytes], document: object) -> dict[str, object]:
    content = _json(document)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    blobs[digest] = content
    return {"digest": digest, "size": len(content)}


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"
