"""How large a checkpoint is, by the index or the headers of its safetensors files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import json_text
from vllm_operator.errors import NotEstimable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LENGTH_BYTES: Final = 8
"""Length of the header, at the beginning of a safetensors file, little-endian."""
LONGEST_HEADER: Final = 100_000_000
"""The format's own limit (https://github.com/huggingface/safetensors)."""

_WIDTHS: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_POINTER: Final = b"version https://git-lfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The weights of a model, as they are stored."""

    total_bytes: int
    source: str
    """Where the size is from, for people."""
    names: frozenset[str] = frozenset()
    """Names of its tensors; empty where nothing tells them."""
    float_bytes: int | None = None
    """Bytes of most of its numbers that are not quantized; None where nothing tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A `model.safetensors.index.json`."""

    total_bytes: int | None
    """`metadata.total_size`; some tools leave it out, or leave it as it was before they took tensors away."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The file of each tensor."""
    float_bytes: int | None = None
    """`metadata.float_bytes`, as `description.data_of` writes it; None in an index of the hub."""


def json_object(text: str, name: str) -> dict[str, Any]:
    """A JSON object out of its text; `name` says to people what it is.

    Raises:
        NotEstimable: it is none.
    """
    try:
        found = json_text.loads(text)
    except ValueError as error:
        raise NotEstimable(f"{name} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise NotEstimable(f"{name} must be a JSON object")
    return found


def read_index(text: str) -> Index:
    """Read an index.

    Raises:
        NotEstimable: it is no JSON object.
    """
    found = json_object(text, "model.safetensors.index.json")
    metadata, files = found.get("metadata"), found.get("weight_map")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    total = int(total) if isinstance(total, int | float) and total > 0 else None
    width = metadata.get("float_bytes") if isinstance(metadata, dict) else None
    return Index(
        total_bytes=total,
        files=files if isinstance(files, dict) else {},
        float_bytes=width if isinstance(width, int) and width in _WIDTHS.values() else None,
    )


def header_length(beginning: bytes, name: str) -> int:
    """How many bytes the header has, which follows the first 8 bytes of a safetensors file.

    Raises:
        NotEstimable: it is no such file.
    """
    if beginning.startswith(_POINTER[:LENGTH_BYTES]):
        raise NotEstimable(f"{name} is a pointer of Git LFS and not the file: run `git lfs pull` in its folder")
    length = int.from_bytes(beginning, "little")
    if len(beginning) < LENGTH_BYTES or not 0 < length <= LONGEST_HEADER:
        raise NotEstimable(f"{name} is no safetensors file, or was not loaded whole: load it again")
    return length


def checkpoint_of(headers: Iterable[tuple[str, bytes]], index: Index | None, source: str) -> Checkpoint:
    """What the headers of all files say; with an index, of the tensors that it names in the files where it has them.

    vLLM loads those alone (filter_duplicate_safetensors_files): some repositories hold the same weights twice.

    Raises:
        NotEstimable: a header is none.
    """
    names: set[str] = set()
    total = 0
    floats: Counter[int] = Counter()
    for file, text in headers:
        for name, tensor in json_object(text.decode("utf-8", "replace"), file).items():
            if name == "__metadata__" or (index and index.files and index.files.get(name) != file):
                continue
            size = _tensor_bytes(tensor, file)
            names.add(name)
            total += size
            if tensor.get("dtype") in _WIDTHS:
                floats[_WIDTHS[tensor["dtype"]]] += size
    most = floats.most_common(1)
    return Checkpoint(
        total_bytes=total, source=source, names=frozenset(names), float_bytes=most[0][0] if most else None
    )


def checkpoint_of_index(index: Index, source: str) -> Checkpoint | None:
    """What an index alone says; None where it names no size."""
    if index.total_bytes is None:
        return None
    return Checkpoint(
        total_bytes=index.total_bytes, source=source, names=frozenset(index.files), float_bytes=index.float_bytes
    )


def _tensor_bytes(tensor: Any, file: str) -> int:
    offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(one, int) for one in offsets)):  # noqa: PLR2004 # begin, end
        raise NotEstimable(f"{file}: its header is not that of a safetensors file: load it again")
    return int(offsets[1]) - int(offsets[0])
