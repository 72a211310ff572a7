"""The MLP of each layer, dense or a mixture of experts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.fit.tensors import Split, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.fit.fields import Fields

_WITHOUT_GATE: Final = frozenset(
    {
        *("gpt2", "gpt_neox", "gptj", "gpt_bigcode", "opt", "bloom", "falcon", "mpt", "phi", "starcoder2", "nemotron"),
        *("bert", "roberta", "xlm-roberta", "distilbert"),
    }
)
_FROM_SPLIT: Final = frozenset({"qwen"})
"""Their intermediate_size is that of gate and up together."""
_FOUR_TIMES: Final = 4


def experts(fields: Fields) -> int:
    """How many experts a layer has; 0 for a dense model (get_num_experts of vLLM's model_arch_config_convertor.py)."""
    return fields.optional("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts") or 0


def experts_per_token(fields: Fields) -> int:
    """How many of them each token takes."""
    names = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k")
    return fields.optional(*names) or (1 if experts(fields) else 0)


def expert_size(fields: Fields) -> int:
    """Inner width of one expert."""
    return fields.optional("moe_intermediate_size", "expert_ffn_hidden_size") or fields.number("intermediate_size")


def dense_size(fields: Fields) -> int:
    """Inner width of a dense MLP."""
    names = ("intermediate_size_mlp", "intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "feed_forward_proj")
    size = fields.optional(*names) or _FOUR_TIMES * fields.number("hidden_size", "n_embd", "d_model")
    return size // 2 if str(fields.get("model_type")) in _FROM_SPLIT else size


def has_experts(fields: Fields, layer: int) -> bool:
    """Whether a layer is a mixture of experts, by the names that DeepSeek, Qwen and Llama 4 have for it."""
    if not experts(fields) or layer in fields.numbers("mlp_only_layers"):
        return False
    if layer < (fields.optional("first_k_dense_replace") or 0):
        return False
    if layer % (fields.optional("moe_layer_freq") or 1):
        return False
    step = fields.optional("decoder_sparse_step", "interleave_moe_layer_step") or 1
    return (layer + 1) % step == 0


def tensors(fields: Fields, prefix: str, layer: int) -> Iterator[Tensor]:
    """The matrices of a layer's MLP."""
    hidden = fields.number("hidden_size", "n_embd", "d_model")
    if not has_experts(fields, layer):
        yield from _matrices(fields, prefix, hidden, dense_size(fields))
        return
    count, size = experts(fields), expert_size(fields)
    yield Tensor(name=f"{prefix}.gate", rows=count, columns=hidden, split=Split.NONE, linear=False)
    yield from _matrices(fields, f"{prefix}.experts", hidden, size, copies=count, split=Split.EXPERTS)
    shared = _shared_size(fields, size)
    if shared:
        yield from _matrices(fields, f"{prefix}.shared_experts", hidden, shared)


def _matrices(
    fields: Fields, prefix: str, hidden: int, inner: int, *, copies: int = 1, split: Split = Split.TENSOR
) -> Iterator[Tensor]:
    into = ("up_proj",) if str(fields.get("model_type")) in _WITHOUT_GATE else ("gate_proj", "up_proj")
    for name in into:
        yield Tensor(name=f"{prefix}.{name}", rows=inner, columns=hidden, split=split, copies=copies)
    yield Tensor(name=f"{prefix}.down_proj", rows=hidden, columns=inner, split=split, copies=copies)


def _shared_size(fields: Fields, size: int) -> int:
    """Inner width of the experts that every token takes."""
    together = fields.optional("shared_expert_intermediate_size", "shared_intermediate_size")
    if together is not None:
        return together
    if str(fields.get("model_type")).startswith("llama4"):
        return size
    return (fields.optional("n_shared_experts", "num_shared_experts") or 0) * size
