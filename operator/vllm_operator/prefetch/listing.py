"""What there is to bring, as whoever has it says."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SUMS = "SHA256SUMS"
"""A file beside the others with a line `HASH  PATH` for each, as sha256sum writes it."""

_SHA256_DIGITS = 64

OTHER_FORMATS = (
    "pytorch_model*.bin",
    "consolidated*.pth",
    "tf_model*.h5",
    "flax_model*.msgpack",
    "rust_model*.ot",
    "*.gguf",
    "*.onnx",
    "*.onnx_data",
    "*.tflite",
    "original/*",
    "onnx/*",
    "openvino/*",
    "coreml/*",
)
"""Weights that vLLM does not read where there are safetensors."""


@dataclass(frozen=True)
class Digest:
    """What a file's content has to come to."""

    algorithm: str
    """sha256, md5, or git-sha1, which is SHA-1 over `blob SIZE`, a zero byte and the content."""
    text: str
    """In hexadecimal digits."""


@dataclass(frozen=True)
class RemoteFile:
    """One file, where it is, and what it has to be."""

    path: str
    url: str
    size: int | None
    """In bytes; None where only the answer to a request says it."""
    digest: Digest | None = None
    """None where whoever has the file tells none: then its size alone is checked."""
    version: str = ""
    """The ETag with which it was listed: another one means another content; empty where that is not known."""


@dataclass(frozen=True)
class Listing:
    """All files of one source."""

    files: tuple[RemoteFile, ...]
    commit: str = ""
    """The commit of the hub; empty for other sources."""


def wanted(paths: Sequence[str], allow: Sequence[str], ignore: Sequence[str]) -> list[str]:
    """Which of the files are brought; the patterns are those of `fnmatch` over the whole path.

    Where nothing is said, weights in other formats stay away if there are safetensors at the top.
    """
    if not allow and not ignore and any(path.endswith(".safetensors") and "/" not in path for path in paths):
        ignore = OTHER_FORMATS
    kept = [path for path in paths if not allow or _any(path, allow)]
    return [path for path in kept if not _any(path, ignore)]


def sums_of(text: str) -> dict[str, str]:
    """The hashes that a SHA256SUMS file tells, by path; lines that are none are left out."""
    found = {}
    for line in text.splitlines():
        digest, separator, path = line.strip().partition(" ")
        path = path.lstrip(" *").removeprefix("./") if separator else ""
        if len(digest) == _SHA256_DIGITS and path:
            found[path] = digest.lower()
    return found


def is_safe(path: str) -> bool:
    """Whether a path stays in the folder that it is meant for, whoever has written it."""
    parts = path.split("/")
    return bool(path) and not path.startswith("/") and "\\" not in path and not {"", ".", ".."} & set(parts)


def with_sums(files: Iterable[RemoteFile], sums: Mapping[str, str]) -> tuple[RemoteFile, ...]:
    """The files with their hashes, where they are told."""
    return tuple(
        RemoteFile(file.path, file.url, file.size, Digest("sha256", sums[file.path]), file.version)
        if file.path in sums
        else file
        for file in files
    )


def _any(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, f"{one}*" if one.endswith("/") else one) for one in patterns)
