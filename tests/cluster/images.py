"""Images for the test cluster, built from Debian packages, folders and files; everything is cached by its content.

image = build_image("docker.io/library/app:test", layers=[base_layer(), folder_layer(Path("src"), "/app")],
                    config=ImageConfig(entrypoint=["python3", "-m", "app"]))
cluster.load_image(image)
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import debian, oci
from tests.cluster.binaries import ensure_binaries
from tests.cluster.configs import PAUSE_IMAGE
from tests.cluster.errors import ClusterError
from tests.cluster.files import atomic_file, locked
from tests.cluster.oci import Entry, ImageConfig, Layer
from tests.cluster.paths import cache_folder
from tools import operator_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "Entry",
    "ImageConfig",
    "Layer",
    "base_image",
    "base_layer",
    "build_image",
    "files_layer",
    "folder_layer",
    "pause_image",
]

BASE_IMAGE = "docker.io/library/python:test"
KEEP_SECONDS = 3600.0
"""Older archives of an image are removed when a new one is written; younger ones may be in use by another run."""

_PROGRAMS = (debian.__file__, oci.__file__, operator_files.__file__)
_RECIPE = hashlib.sha256(b"".join(Path(program).read_bytes() for program in _PROGRAMS)).hexdigest()
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
_GROUP = b"root:x:0:\napp:x:1000:\nnogroup:x:65534:\n"


def base_layer() -> Layer:
    """Debian's Python and what it needs, busybox, libnuma1, libstdc++6 and lscpu; users root, app (1000), nobody.

    A machine's package lists may be older than its mirror, which has then other files than they name: root gets them
    anew, once.

    Raises:
        ClusterError: apt has not got the packages.
    """
    try:
        return _base_layer()
    except ClusterError:
        if not debian.refresh_lists():
            raise
        return _base_layer()


def _base_layer() -> Layer:
    interpreter = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = ["base", interpreter, *_base_packages()]
    return _cached_layer(key, lambda: _base_entries(debian.needed_packages()))


def folder_layer(
    folder: Path, prefix: str, *, exclude: Sequence[str] = ("__pycache__",), byte_code: bool = True
) -> Layer:
    """A host folder at `prefix` (absolute) of the image, without entries of the excluded names.

    Python sources get byte code for this interpreter's version, which is the base layer's where both are the system's.
    """
    if not folder.is_dir():
        raise ClusterError(f"{folder} is not a folder; it should become {prefix} of an image")
    entries = dict(_walk(folder, prefix.strip("/"), frozenset(exclude)))
    if byte_code:
        entries |= dict(oci.compiled(entries, sys.implementation.cache_tag or ""))
    return files_layer(entries)


def files_layer(files: Mapping[str, Entry | bytes]) -> Layer:
    """Single files by their path in the image; bytes become a file of mode 644."""
    entries = {
        name.strip("/"): entry if isinstance(entry, Entry) else Entry(content=entry) for name, entry in files.items()
    }
    key = [
        f"{name} {entry.kind!r} {entry.mode:o} {entry.link} {_content_hash(entry)}"
        for name, entry in sorted(entries.items())
    ]
    return _cached_layer(["files", *key], lambda: entries)


def build_image(name: str, *, layers: Sequence[Layer], config: ImageConfig | None = None) -> Path:
    """The archive of an image with these layers; `name` is full: docker.io/library/NAME:TAG."""
    if name.count("/") < 2 or ":" not in name.rpartition("/")[2]:
        raise ClusterError(f"image name {name!r} must be full, like docker.io/library/app:test")
    config = config or ImageConfig()
    key = _hash([_RECIPE, name, json.dumps(config.document(layers))])
    slug = name.replace("/", "_").replace(":", "_")
    target = cache_folder() / "images" / f"{slug}-{key[:16]}.tar"
    with locked(target.parent / ".lock"):
        if target.exists():
            return target
        oci.write_archive(name, layers, config, target)
        for old in target.parent.glob(f"{slug}-*.tar"):
            if old != target and time.time() - old.stat().st_mtime > KEEP_SECONDS:
                old.unlink()
    return target


def pause_image() -> Path:
    """The image that holds each pod's namespaces."""
    pause = Entry(mode=0o755, content=ensure_binaries() / "pause")
    return build_image(PAUSE_IMAGE, layers=[files_layer({"pause": pause})], config=ImageConfig(entrypoint=["/pause"]))


def base_image() -> Path:
    """Python and busybox, as BASE_IMAGE."""
    return build_image(BASE_IMAGE, layers=[base_layer()], config=ImageConfig(command=["python3"]))


def _base_packages() -> list[str]:
    """File names and hashes of the base layer's packages; apt takes seconds for them, so they are kept beside it."""
    memo = cache_folder() / "layers" / f"base-{_hash([_RECIPE, debian.lists_state()])[:16]}.packages"
    if not memo.exists():
        hashes = debian.package_hashes(debian.needed_packages())
        with atomic_file(memo) as temporary:
            temporary.write_text("\n".join(hashes), encoding="utf-8")
    return memo.read_text(encoding="utf-8").splitlines()


def _cached_layer(key: Sequence[str], make: Callable[[], Mapping[str, Entry]]) -> Layer:
    folder = cache_folder() / "layers"
    target = folder / f"{_hash([_RECIPE, *key])}.tar"
    digest = target.with_suffix(".digest")
    with locked(folder / ".lock"):
        if not digest.exists() or not target.exists():
            digest.write_text(oci.write_layer(make(), target), encoding="ascii")
    return Layer(path=target, digest=digest.read_text(encoding="ascii"), size=target.stat().st_size)


def _base_entries(packages: Sequence[str]) -> dict[str, Entry]:
    with tempfile.TemporaryDirectory(prefix="vllm-operator-base-") as folder:
        entries = debian.merged_entries(debian.download(packages, Path(folder)))
    python = Path(entries["usr/bin/python3"].link).name
    if python.removeprefix("python") == f"{sys.version_info.major}.{sys.version_info.minor}":
        library = {name: entry for name, entry in entries.items() if name.startswith("usr/lib/python3")}
        entries |= dict(oci.compiled(library, sys.implementation.cache_tag or ""))
    entries |= debian.program_links(entries, _busybox_programs(entries["usr/bin/busybox"]))
    entries["usr/bin/python"] = oci.link_entry("python3")
    entries |= {name: oci.folder_entry() for name in ("proc", "sys", "dev", "run", "home/app")}
    entries |= {"tmp": oci.folder_entry(0o1777), "root": oci.folder_entry(0o700)}
    entries |= {"etc/passwd": Entry(content=_PASSWD), "etc/group": Entry(content=_GROUP)}
    return entries


def _busybox_programs(busybox: Entry) -> list[str]:
    if not isinstance(busybox.content, bytes):
        raise TypeError("package entries carry their content")
    with tempfile.NamedTemporaryFile(prefix="vllm-operator-busybox-", delete=False) as handle:
        handle.write(busybox.content)
    program = Path(handle.name)
    try:
        program.chmod(0o755)
        command = ["busybox", "--list"]  # it acts by the name it is called by
        return subprocess.run(command, executable=program, check=True, capture_output=True, text=True).stdout.split()
    finally:
        program.unlink()


def _walk(folder: Path, prefix: str, exclude: frozenset[str]) -> Iterator[tuple[str, Entry]]:
    for path in folder.iterdir():
        name = f"{prefix}/{path.name}" if prefix else path.name
        if path.name in exclude:
            continue
        if path.is_symlink():
            yield name, oci.link_entry(str(path.readlink()))
        elif path.is_dir():
            yield name, oci.folder_entry()
            yield from _walk(path, name, exclude)
        elif path.is_file():
            yield name, Entry(mode=0o755 if path.stat().st_mode & 0o100 else 0o644, content=path)


def _content_hash(entry: Entry) -> str:
    content = entry.content if isinstance(entry.content, bytes) else entry.content.read_bytes()
    return hashlib.sha256(content).hexdigest()


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
