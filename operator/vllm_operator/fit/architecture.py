"""What memory depends on in a model, whatever its config.json calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.errors import NotEstimable

if TYPE_CHECKING:
    from vllm_operator.fit.quantization import Quantization
    from vllm_operator.fit.tensors import Tensor

DTYPE_BYTES: Final = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
"""Bytes of one number, by the names of PyTorch and of vLLM's --dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What one layer keeps of each token in the KV cache."""

    kv_heads: int
    """KV heads of the whole layer; 1 for latent attention."""
    values_per_head: int
    """Numbers of keys and values of one head together; the latent vector for latent attention."""
    latent: bool = False
    """Latent attention (MLA): tensor parallelism does not cut it."""
    window: int | None = None
    """Tokens to which the layer looks back; None for all of them."""
    index_bytes: int = 0
    """Bytes of the index of sparse attention, of whatever type the rest is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer."""

    tensors: tuple[Tensor, ...]
    cache: Cache | None
    """None where the layer keeps nothing: encoders, and layers that use the cache of another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as its config.json describes it."""

    architecture: str
    model_type: str
    dtype: str
    """Type in which its numbers are stored, where they are not quantized."""
    hidden_size: int
    vocab_size: int
    attention_heads: int
    kv_heads: int
    """KV heads of most layers."""
    inner_size: int
    """Width of the widest MLP that each token takes."""
    experts: int
    """0 for a model without."""
    experts_per_token: int
    expert_size: int
    """Width of one expert."""
    layers: tuple[Layer, ...]
    draft_layers: tuple[Layer, ...]
    """Layers in the checkpoint that guess further tokens (MTP): loaded only where speculative decoding uses them."""
    embeddings: tuple[Tensor, ...]
    head: tuple[Tensor, ...]
    """Output layer, also where it is tied to the embeddings."""
    tied: bool
    """Whether the output layer is the embeddings."""
    others: tuple[Tensor, ...]
    """Encoders of images and sounds."""
    max_length: int | None
    """Longest context in tokens that vLLM derives; None where the config says nothing."""
    quantization: Quantization | None
    notes: tuple[str, ...]
    """What the estimate does not know or takes for granted, in sentences."""

    @property
    def generates(self) -> bool:
        """Whether any layer keeps a KV cache."""
        return any(layer.cache for layer in self.layers)


def dtype_bytes(name: str) -> int:
    """Bytes of one number of the type.

    Raises:
        NotEstimable: vLLM runs no model in it.
    """
    try:
        return DTYPE_BYTES[name.removeprefix("torch.")]
    except KeyError:
        raise NotEstimable(f"dtype {name!r} is none of {', '.join(DTYPE_BYTES)}: set spec.engine.dtype") from None
