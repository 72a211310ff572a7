"""Where the engine finds a model, a tokenizer or an adapter, and the volumes that bring it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.spec.sources import Origin, parse_source
from vllm_operator.render.downloads import folder_of
from vllm_operator.render.images import pull_policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.api.spec import VLLMModelSpec
    from vllm_operator.api.spec.sources import ParsedSource

CLAIMS_FOLDER: Final = "/mnt/claims"
IMAGES_FOLDER: Final = "/mnt/images"
CACHE_VOLUME: Final = "cache"


class Sources:
    """The sources of one spec, and the volumes that they need, each numbered in the order of its first use."""

    def __init__(self, spec: VLLMModelSpec) -> None:
        self._spec = spec
        parsed = [parse_source(source) for source in _written(spec)]
        self._claims = list(dict.fromkeys(one.claim for one in parsed if one.origin is Origin.CLAIM))
        self._cache = spec.storage.cache.existing_claim if spec.storage.cache else None
        self._images = list(dict.fromkeys(one.text for one in parsed if one.origin is Origin.IMAGE))

    def locate(self, source: str) -> str:
        """What vLLM is told: a path in the container, or what it finds by itself."""
        parsed = parse_source(source)
        if parsed.origin is Origin.CLAIM:
            return "/".join(part for part in (CLAIMS_FOLDER, parsed.claim, parsed.claim_path) if part)
        if parsed.origin is Origin.IMAGE:
            return self._image_folder(parsed)
        return folder_of(self._spec, source) or parsed.text

    def volumes(self) -> Iterator[dict[str, Any]]:
        """Claims and images, as volumes of the pod.

        A claim is read-only as a whole: then several nodes may have it, and its files keep their group. The one that
        holds the cache too is there already: a pod with two volumes of one claim never starts (kubernetes#127004).
        """
        for number, claim in enumerate(self._claims):
            if claim != self._cache:
                yield {"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        for number, image in enumerate(self._images):
            yield {"name": f"image-{number}", "image": {"reference": image, "pullPolicy": pull_policy(image)}}

    def mounts(self) -> Iterator[dict[str, Any]]:
        """Mounts of what is brought, read-only: the engine has nothing to write there."""
        for number, claim in enumerate(self._claims):
            name = CACHE_VOLUME if claim == self._cache else f"claim-{number}"
            yield {"name": name, "mountPath": f"{CLAIMS_FOLDER}/{claim}", "readOnly": True}
        for number in range(len(self._images)):
            yield {"name": f"image-{number}", "mountPath": f"{IMAGES_FOLDER}/{number}", "readOnly": True}

    def _image_folder(self, parsed: ParsedSource) -> str:
        return f"{IMAGES_FOLDER}/{self._images.index(parsed.text)}"


def _written(spec: VLLMModelSpec) -> Iterator[str]:
    yield spec.model.source
    if spec.model.tokenizer:
        yield spec.model.tokenizer
    draft = spec.engine.speculative_decoding
    if draft and draft.model:
        yield draft.model
    yield from (f"pvc://{claim}" for claim in (spec.lora and spec.lora.claims) or ())
    if not spec.updates_adapters:
        yield from (adapter.source for adapter in spec.adapters)
