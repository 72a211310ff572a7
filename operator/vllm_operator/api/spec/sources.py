"""Where a model, a tokenizer or an adapter comes from: a source as people write it, taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Origin(Enum):
    """Kinds of sources."""

    HUB = auto()
    CLAIM = auto()
    IMAGE = auto()
    BUCKET = auto()
    WEB = auto()
    PATH = auto()


_SCHEMES = {
    "hf": Origin.HUB,
    "pvc": Origin.CLAIM,
    "oci": Origin.IMAGE,
    "s3": Origin.BUCKET,
    "gs": Origin.BUCKET,
    "http": Origin.WEB,
    "https": Origin.WEB,
}

_WHOLE = frozenset({Origin.BUCKET, Origin.WEB})
"""Origins whose sources are known by the whole text, scheme and all."""


@dataclass(frozen=True, slots=True)
class ParsedSource:
    """A source taken apart."""

    origin: Origin
    text: str
    """What follows the scheme; for a bucket and a web server the whole."""

    @property
    def claim(self) -> str:
        """Name of the PersistentVolumeClaim."""
        return self.text.partition("/")[0]

    @property
    def claim_path(self) -> str:
        """Path in the claim, without slashes around it; empty for the whole claim."""
        return self.text.partition("/")[2].strip("/")


def parse_source(source: str) -> ParsedSource:
    """Take a source apart. An unknown scheme counts as an id on the hub: the API server refuses it before."""
    if source.startswith("/"):
        return ParsedSource(Origin.PATH, source)
    scheme, separator, rest = source.partition("://")
    origin = _SCHEMES.get(scheme, Origin.HUB) if separator else Origin.HUB
    return ParsedSource(origin, source if origin in _WHOLE or not separator else rest)


def served_name(source: str) -> str:
    """Name under which a model is served if the user gives none.

    vLLM's own default is the path or id that it is started with. That is kept for ids on the hub and for paths in the
    image, which the user wrote; a claim, an image or a bucket is known by the last part of its name.
    """
    parsed = parse_source(source)
    if parsed.origin in {Origin.HUB, Origin.PATH}:
        return parsed.text
    last = parsed.text.rstrip("/").rpartition("/")[2]
    return last.partition("@")[0].partition(":")[0] if parsed.origin is Origin.IMAGE else last
