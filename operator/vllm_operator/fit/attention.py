"""The attention of each layer: its matrices, and what it keeps of each token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.errors import NotEstimable
from vllm_operator.fit.architecture import Cache
from vllm_operator.fit.tensors import Split, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.fit.fields import Fields

_WITHOUT_CACHE_TYPES: Final = ("linear", "mamba", "recurrent", "conv", "deltanet", "ssm", "gated_delta")
_STATE_FIELDS: Final = (
    *("full_attention_interval", "hybrid_override_pattern", "attn_layer_period"),
    *("linear_num_value_heads", "mamba_d_state", "ssm_cfg", "compress_ratios", "block_configs", "linear_attn_config"),
)
_WITH_BIAS: Final = frozenset({"qwen", "qwen2", "qwen2_moe", "chatglm", "gpt2", "opt", "gpt_neox", "gpt_oss", "phi"})
_ALTERNATING: Final = {"gemma2": 2, "gpt_oss": 2}
_EVERY_NTH: Final = {"gemma3_text": 6, "gemma3": 6, "cohere2": 4}
_INDEX_QUANTIZATION: Final = 128


def refuse_other_caches(fields: Fields) -> None:
    """Refuse models with layers that keep something else than keys and values of their own tokens.

    Raises:
        NotEstimable: they keep a state for each sequence, by which vLLM sizes all pages (MambaSpec and
            HybridAttentionMambaModelConfig), compressed tokens, or what an encoder has read (CrossAttentionSpec).
    """
    if fields.get("is_encoder_decoder"):
        raise NotEstimable(
            "config.json: is_encoder_decoder: the cache of what the encoder has read is not estimated: vLLM prints `KV "
            "cache size` when it starts"
        )
    listed = (*fields.texts("layer_types"), *fields.texts("layers_block_type"))
    kinds = {kind for kind in listed if any(part in kind for part in _WITHOUT_CACHE_TYPES)}
    told = sorted(kinds) or [name for name in _STATE_FIELDS if fields.get(name)]
    if 0 in fields.numbers("attn_type_list"):  # of MiniMax: 1 is plain attention
        told.append("attn_type_list")
    if told:
        raise NotEstimable(
            f"config.json: {told[0]}: layers without a plain KV cache (Mamba, linear or compressed attention) are not "
            "estimated: vLLM prints `KV cache size` when it starts"
        )


def head_size(fields: Fields) -> int:
    """Numbers in one head (get_head_size of vLLM's model_arch_config_convertor.py)."""
    explicit = fields.optional("head_dim", "kv_channels", "hidden_size_per_head")
    return explicit or fields.number("hidden_size", "n_embd", "d_model") // heads(fields)


def heads(fields: Fields) -> int:
    """Heads of queries."""
    return fields.number("num_attention_heads", "n_head", "n_heads")


def kv_heads(fields: Fields) -> int:
    """Heads of keys and values (get_total_num_kv_heads of vLLM's model_arch_config_convertor.py)."""
    if fields.get("multi_query") is True and not fields.get("new_decoder_architecture"):
        return 1
    return fields.optional(
        "n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups"
    ) or heads(fields)


def is_latent(fields: Fields) -> bool:
    """Whether attention is latent (MLA): keys and values are kept as one compressed vector."""
    return bool(fields.optional("kv_lora_rank"))


def windows(fields: Fields, count: int) -> list[int | None]:
    """How far each layer looks back, in tokens; None for all.

    From `layer_types` where it is there, which vLLM's models read, and otherwise from what the models' classes in
    transformers make of their older configs: every second layer of Gemma 2, all but every sixth of Gemma 3, all but
    every fourth of Cohere 2, those of Qwen 2 from `max_window_layers` on. A window without any of this is that of all
    layers, as for Mistral (CacheConfig.sliding_window). Chunks (Llama 4) count as no window: vLLM switches its hybrid
    cache off.
    """
    window = fields.optional("sliding_window")
    kinds = fields.texts("layer_types")
    if kinds and len(kinds) < count:
        raise NotEstimable(f"config.json: layer_types has {len(kinds)} entries, and the model has {count} layers")
    if not window or fields.get("use_sliding_window") is False:
        return [None] * count
    if kinds:
        return [window if "sliding" in kind else None for kind in kinds][:count]
    model_type = str(fields.get("model_type"))
    if model_type in _ALTERNATING:
        return [None if layer % _ALTERNATING[model_type] else window for layer in range(count)]
    if model_type in _EVERY_NTH:
        period = fields.optional("sliding_window_pattern") or _EVERY_NTH[model_type]
        return [window if (layer + 1) % period else None for layer in range(count)]
    first = fields.optional("max_window_layers") if model_type.startswith("qwen") else 0
    return [window if layer >= (first or 0) else None for layer in range(count)]


def cache(fields: Fields, window: int | None) -> Cache:
    """What a layer keeps of each token.

    Grouped attention: keys and values of each KV head (AttentionSpec of vLLM's kv_cache_interface.py). Latent
    attention: the compressed vector and the rotated part of the key, once (MLAAttentionSpec), and for sparse attention
    an index of 8-bit numbers with a 32-bit scale for each 128 (DeepseekV32IndexerCache).
    """
    if is_latent(fields):
        index = fields.optional("index_head_dim") or 0
        return Cache(
            kv_heads=1,
            values_per_head=fields.number("kv_lora_rank") + fields.number("qk_rope_head_dim"),
            latent=True,
            index_bytes=index + index // _INDEX_QUANTIZATION * 4,
        )
    size, count = head_size(fields), kv_heads(fields)
    if window is None and fields.optional("global_head_dim"):
        size = fields.number("global_head_dim")
        count = fields.optional("num_global_key_value_heads") or count
    value_size = fields.optional("v_head_dim") or size
    return Cache(kv_heads=count, values_per_head=size + value_size, window=window)


def tensors(fields: Fields, prefix: str, window: int | None) -> Iterator[Tensor]:
    """The matrices of a layer's attention."""
    if is_latent(fields):
        yield from _latent(fields, prefix)
        return
    hidden, size = fields.number("hidden_size", "n_embd", "d_model"), head_size(fields)
    if window is None:
        size = fields.optional("global_head_dim") or size
    kept = cache(fields, window)
    inner = heads(fields) * size
    value_size = kept.values_per_head - size
    yield Tensor(name=f"{prefix}.q_proj", rows=inner, columns=hidden, split=Split.TENSOR)
    yield Tensor(name=f"{prefix}.k_proj", rows=kept.kv_heads * size, columns=hidden, split=Split.KV_HEADS)
    yield Tensor(name=f"{prefix}.v_proj", rows=kept.kv_heads * value_size, columns=hidden, split=Split.KV_HEADS)
    yield Tensor(name=f"{prefix}.o_proj", rows=hidden, columns=heads(fields) * value_size, split=Split.TENSOR)
    if fields.get("attention_bias") or str(fields.get("model_type")) in _WITH_BIAS:
        biases = inner + kept.kv_heads * kept.values_per_head
        yield Tensor(name=f"{prefix}.bias", rows=1, columns=biases, split=Split.TENSOR, linear=False)


def _latent(fields: Fields, prefix: str) -> Iterator[Tensor]:
    """The matrices of latent attention: those that compress are on each GPU (DeepseekV2MLAAttention of vLLM)."""
    hidden, count = fields.number("hidden_size"), heads(fields)
    compressed, rotated = fields.number("kv_lora_rank"), fields.number("qk_rope_head_dim")
    plain, value = fields.number("qk_nope_head_dim"), fields.number("v_head_dim")
    queries, source = count * (plain + rotated), fields.optional("q_lora_rank")
    if source:
        yield Tensor(name=f"{prefix}.q_a_proj", rows=source, columns=hidden, split=Split.NONE)
        yield Tensor(name=f"{prefix}.q_b_proj", rows=queries, columns=source, split=Split.TENSOR)
    else:
        yield Tensor(name=f"{prefix}.q_proj", rows=queries, columns=hidden, split=Split.TENSOR)
    yield Tensor(name=f"{prefix}.kv_a_proj_with_mqa", rows=compressed + rotated, columns=hidden, split=Split.NONE)
    yield Tensor(name=f"{prefix}.kv_b_proj", rows=count * (plain + value), columns=compressed, split=Split.TENSOR)
    yield Tensor(name=f"{prefix}.o_proj", rows=hidden, columns=count * value, split=Split.TENSOR)
    index = fields.optional("index_head_dim")
    if index and source:
        rows = fields.number("index_n_heads") * index
        yield Tensor(name=f"{prefix}.indexer.wq_b", rows=rows, columns=source, split=Split.NONE)
        yield Tensor(name=f"{prefix}.indexer.wk", rows=index, columns=hidden, split=Split.NONE)
