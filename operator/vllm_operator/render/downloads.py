"""What the engines of a model would download, and what a claim is to hold before they start."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.api import names
from vllm_operator.api.spec.sources import Origin, parse_source
from vllm_operator.render.environment import CACHE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec import VLLMModelSpec

DEFAULT_REVISION: Final = "main"
KEY_LENGTH: Final = 10
FOLDER: Final = "vllm-prefetch"
"""Folder of the claim for what is not from the hub: `prefetch/store.py`."""


@dataclass(frozen=True, slots=True)
class Download:
    """One source that a claim is to hold."""

    claim: str
    kind: str
    """`hub`, `s3` or `web`: what the program takes."""
    source: str
    """Id on the hub, or the whole URL."""
    revision: str
    """On the hub; empty for other sources."""
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def content_key(self) -> str:
        """What it is told from other downloads in the same claim by."""
        return _digest(self.kind, self.source, self.revision, self.allow, self.ignore)

    @property
    def key(self) -> str:
        """What it is told from all other downloads of the namespace by."""
        return _digest(self.claim, self.content_key)

    @property
    def folder(self) -> str:
        """Where it lies for an engine, if it is not from the hub."""
        return f"{CACHE}/{FOLDER}/{self.content_key}"

    def job_name(self, release: str) -> str:
        """Name of its Job, with so much of the source in it that people know it."""
        start = names.prefixed(release, "prefetch")
        room = names.MAX_LABEL_LENGTH - len(start) - KEY_LENGTH - 2
        readable = re.sub(r"[^a-z0-9]+", "-", self.source.rstrip("/").rpartition("/")[2].lower()).strip("-")
        return "-".join(part for part in (start, readable[: max(room, 0)].strip("-"), self.key) if part)


def downloads(spec: VLLMModelSpec, instance: str) -> tuple[Download, ...]:
    """All that the engines would download, each once; nothing where the spec asks for no prefetch."""
    cache = spec.storage.cache
    if cache is None or cache.prefetch is None:
        return ()
    claim = cache.existing_claim or names.cache_name(instance)
    wanted = cache.prefetch
    found = [
        _download(claim, spec.model.source, spec.model.revision, wanted.allow_patterns, wanted.ignore_patterns),
        *(_download(claim, source, revision) for source, revision in _besides(spec)),
    ]
    return tuple(dict.fromkeys(one for one in found if one))


def folder_of(spec: VLLMModelSpec, source: str) -> str:
    """Where an engine finds a source that is brought from elsewhere than the hub; empty where none is."""
    return next((one.folder for one in downloads(spec, "") if one.kind != "hub" and one.source == source), "")


def mark(model: VLLMModel) -> str:
    """What the pods carry that need these downloads; empty where they need none."""
    found = downloads(model.spec, model.instance)
    return hashlib.sha256(",".join(one.key for one in found).encode()).hexdigest()[:16] if found else ""


def _besides(spec: VLLMModelSpec) -> Iterator[tuple[str, str | None]]:
    """Sources beside the model itself, with their revisions."""
    if spec.model.tokenizer:
        yield spec.model.tokenizer, spec.model.tokenizer_revision
    draft = spec.engine.speculative_decoding
    if draft and draft.model:
        yield draft.model, draft.revision
    for adapter in (spec.lora and spec.lora.adapters) or []:
        yield adapter.source, None


def _download(
    claim: str,
    source: str,
    revision: str | None,
    allow: list[str] | None = None,
    ignore: list[str] | None = None,
) -> Download | None:
    parsed = parse_source(source)
    patterns = tuple(allow or ()), tuple(ignore or ())
    if parsed.origin is Origin.HUB:
        return Download(claim, "hub", parsed.text, revision or DEFAULT_REVISION, *patterns)
    if parsed.origin is Origin.WEB:
        return Download(claim, "web", source, "", *patterns)
    if source.startswith("s3://"):
        return Download(claim, "s3", source, "", *patterns)
    return None


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:KEY_LENGTH]
