"""The size of a checkpoint, by its index or the headers of its files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vllm_operator.errors import NotEstimable
from vllm_operator.fit.checkpoint import checkpoint_of, checkpoint_of_index, header_length, read_index


def header(**sizes: int) -> bytes:
    """A header with tensors of so many bytes."""
    found: dict[str, Any] = {"__metadata__": None}
    for name, size in sizes.items():
        found[name] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}
    return json.dumps(found).encode()


@pytest.mark.parametrize(
    ("metadata", "total"),
    [({"total_size": 10}, 10), ({"total_size": 1e10}, 10**10), ({"total_size": 0}, None), ({}, None), (None, None)],
)
def test_an_index_need_not_name_a_size(metadata: Any, total: int | None) -> None:
    index = read_index(json.dumps({"metadata": metadata, "weight_map": {"a": "1.safetensors"}}))
    assert (index.total_bytes, dict(index.files)) == (total, {"a": "1.safetensors"})
    found = checkpoint_of_index(index, "index")
    assert (found and found.total_bytes) == total


def test_tensors_that_the_index_has_elsewhere_do_not_count_twice() -> None:
    index = read_index(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    headers = [("1.safetensors", header(a=8, b=16)), ("2.safetensors", header(b=16))]
    found = checkpoint_of(headers, index, "files")
    assert (found.total_bytes, set(found.names), found.float_bytes) == (24, {"a", "b"}, 2)


def test_without_an_index_all_tensors_count() -> None:
    assert checkpoint_of([("1.safetensors", header(a=8, b=16))], None, "files").total_bytes == 24


@pytest.mark.parametrize(
    ("beginning", "told"),
    [
        (b"version ", "pointer of Git LFS and not the file: run `git lfs pull`"),
        (b"\x08\0\0", "is no safetensors file, or was not loaded whole"),
        (b"\xff" * 8, "is no safetensors file, or was not loaded whole"),
    ],
)
def test_what_is_no_safetensors_file_is_refused(beginning: bytes, told: str) -> None:
    with pytest.raises(NotEstimable, match=told):
        header_length(beginning, "model.safetensors")


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"a": {"data_offsets": [1]}}', b'{"a": 1}', b"\xff\xfe"])
def test_a_header_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(NotEstimable, match=r"model\.safetensors"):
        checkpoint_of([("model.safetensors", text)], None, "files")


def test_an_index_that_is_nested_too_deeply_is_read_all_the_same() -> None:
    assert read_index('{"metadata": ' + "[" * 5000 + "]" * 5000 + "}").total_bytes is None
