"""Objects of the cache as small as they get: what thousands of models have in common is kept once.

As Python's maps and texts, what belongs to one model takes 60 KB, and the garbage collector walks through all of it
again and again. As JSON, compressed against what objects of the same kind look like, it takes 2 KB, and one map in it
is made anew when somebody reads it: 10 to 40 microseconds.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_LEARNED: Final = 12 * 1024
"""Bytes of samples of one kind: each further one costs every compression some microseconds."""

_LEVEL: Final = 1
_RAW: Final = -15
"""Bits of zlib's window; below zero without header and checksum."""
_WELL_PACKED: Final = 4
"""A text that shrinks to less than its fourth part resembles the samples."""


class Packed:
    """One object. Calling it reads it; each reading is the reader's own."""

    __slots__ = ("__weakref__", "_samples", "_text")

    def __init__(self, text: bytes, samples: bytes) -> None:
        self._text = text
        self._samples = samples

    def __call__(self) -> Mapping[str, Any]:
        """The object."""
        text = zlib.decompressobj(_RAW, self._samples).decompress(self._text)
        found: Mapping[str, Any] = json_text.parsed(text)
        return found

    @property
    def size(self) -> int:
        """Bytes that it takes beside the samples."""
        return len(self._text)


class Packer:
    """Packs objects of one kind. It learns what they look like from those that it packs badly, up to a bound."""

    def __init__(self) -> None:
        self._samples = b""

    def pack(self, body: Mapping[str, Any]) -> Packed | Mapping[str, Any]:
        """An object; one that is nested too deeply for that stays as it is."""
        try:
            text = json_text.dumps(body)
        except RecursionError:
            return body
        packed = self._packed(text)
        if packed.size * _WELL_PACKED > len(text) and len(self._samples) + len(text) <= MOST_LEARNED:
            self._samples += text
        return packed

    def _packed(self, text: bytes) -> Packed:
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, zdict=self._samples)
        return Packed(compressor.compress(text) + compressor.flush(), self._samples)
