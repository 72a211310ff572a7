"""The KV cache: bytes of a token, blocks of a sequence, and how many tokens fit."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.errors import NotEstimable
from vllm_operator.fit.weights import runtime_dtype_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_operator.fit.architecture import Cache, Model
    from vllm_operator.fit.settings import EngineSettings

_WIDTHS: Final = {"bfloat16": 2, "float16": 2, "half": 2, "float32": 4}
_PACKED_SPARSE_BYTES: Final = 656
"""A token of sparse latent attention with an 8-bit cache (fp8_ds_mla of vLLM's mla_attention.py)."""
_ENOUGH_ALIKE: Final = 1.5


def layer_token_bytes(cache: Cache, model: Model, settings: EngineSettings) -> int:
    """Bytes that one layer keeps of one token on each GPU.

    Grouped attention: `max(1, KV heads // tensor) x (keys + values of a head) x bytes of a number`: KV heads are cut
    by tensor parallelism, and copied where there are fewer of them than GPUs (ModelConfig.get_num_kv_heads,
    AttentionSpec of vLLM 0.32). Latent attention: `(kv_lora_rank + qk_rope_head_dim) x bytes`, the same on every GPU
    (MLAAttentionSpec).

    Raises:
        NotEstimable: the type of the cache is not known here.
    """
    width, scale = _widths(model, settings)
    if cache.latent:
        if cache.index_bytes and width == 1:
            return _PACKED_SPARSE_BYTES + cache.index_bytes
        return cache.values_per_head * width + cache.index_bytes
    return max(1, cache.kv_heads // settings.tensor) * (cache.values_per_head * width + 2 * scale)


def _widths(model: Model, settings: EngineSettings) -> tuple[int, int]:
    """Bytes of a number of the cache, and of the scale of each head's keys and of its values."""
    name = settings.kv_cache_dtype
    if name == "auto":
        told = model.quantization.cache_bytes if model.quantization else None
        return told or runtime_dtype_bytes(model, settings), 0
    if name in _WIDTHS:
        return _WIDTHS[name], 0
    if name in {"fp8_per_token_head", "int8_per_token_head"}:
        return 1, 4
    if name.startswith("fp8"):
        return 1, 0
    raise NotEstimable(
        f"spec.engine.kvCacheDtype {name} is not one that the estimate knows (auto, bfloat16, float16, fp8, "
        "fp8_per_token_head, int8_per_token_head)"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheGroup:
    """Layers that share a table of blocks."""

    layers: tuple[int, ...]
    """Their numbers."""
    block_tokens: int
    window: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePlan:
    """How vLLM lays the KV cache of a model out."""

    groups: tuple[CacheGroup, ...]
    page_bytes: tuple[int, ...]
    """Bytes of one block of each layer, by its number; 0 for layers without."""
    in_flight_tokens: int
    """Tokens of batches that are computed at the same time, whose blocks a window cannot free yet."""
    decode_context: int

    def block_bytes(self, first: int, last: int) -> int:
        """Bytes of one block on a GPU that has the layers from `first` up to before `last`.

        All groups take blocks from one pool, so that a block is as large as the largest group needs
        (_get_kv_cache_bytes_per_block of vLLM's kv_cache_utils.py).
        """
        sizes = (
            sum(self.page_bytes[layer] for layer in group.layers if first <= layer < last) for group in self.groups
        )
        return max(sizes, default=0)

    def sequence_blocks(self, tokens: int) -> int:
        """Blocks of one sequence, over all groups.

        Whole ones for layers that look at everything; for a window as many as hold the window and what is in flight,
        and one more since it may begin within a block (SlidingWindowSpec.max_admission_blocks_per_request of vLLM).
        """
        return sum(self._blocks(group, tokens) for group in self.groups)

    def _blocks(self, group: CacheGroup, tokens: int) -> int:
        if group.window is None:
            return math.ceil(tokens / (group.block_tokens * self.decode_context))
        return math.ceil(min(group.window - 1 + self.in_flight_tokens, tokens) / group.block_tokens) + 1


def cache_plan(model: Model, settings: EngineSettings, in_flight_tokens: int) -> CachePlan:
    """The layout for a model.

    Layers that all look back equally far form one group. Otherwise blocks are made equally large first
    (unify_kv_cache_spec_page_size of vLLM), and the layers of each kind are spread over groups of as many layers as the
    rarest kind has, or the most frequent one where that is less than half as much again
    (_get_kv_cache_groups_uniform_page_size). Gemma 3 27B with 10 full and 52 sliding layers gets 1 + 6 groups of 10.
    """
    kept = {number: layer.cache for number, layer in enumerate(model.layers) if layer.cache}
    sizes = {number: layer_token_bytes(cache, model, settings) for number, cache in kept.items()}
    windows = {number: cache.window for number, cache in kept.items()}
    if not settings.hybrid_cache and None in windows.values():
        windows = dict.fromkeys(windows)
    groups: tuple[CacheGroup, ...]
    block = settings.block_tokens
    if len(set(windows.values())) <= 1:
        window = next(iter(windows.values()), None)
        groups = (CacheGroup(layers=tuple(kept), block_tokens=block, window=window),) if kept else ()
        pages = {number: size * block for number, size in sizes.items()}
    else:
        groups = _groups(sizes, windows, block)
        pages = dict.fromkeys(sizes, max(sizes.values()) * block)
    return CachePlan(
        groups=groups,
        page_bytes=tuple(pages.get(number, 0) for number in range(len(model.layers))),
        in_flight_tokens=in_flight_tokens,
        decode_context=settings.decode_context,
    )


def _groups(sizes: dict[int, int], windows: dict[int, int | None], block: int) -> tuple[CacheGroup, ...]:
    largest = max(sizes.values())
    kinds: defaultdict[tuple[int | None, int], list[int]] = defaultdict(list)
    for number, size in sizes.items():
        kinds[windows[number], block * (largest // size if largest % size == 0 else 1)].append(number)
    size = _group_size([len(layers) for layers in kinds.values()])
    return tuple(
        CacheGroup(layers=tuple(layers[part::parts]), block_tokens=tokens, window=window)
        for (window, tokens), layers in kinds.items()
        for parts in (math.ceil(len(layers) / size),)
        for part in range(parts)
    )


def _group_size(counts: Sequence[int]) -> int:
    """Layers of one group."""
    return max(counts) if max(counts) < min(counts) * _ENOUGH_ALIKE else min(counts)
