"""The tensors of a model, and how vLLM spreads each of them over GPUs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vllm_operator.fit.settings import EngineSettings

VOCABULARY_PADDING: Final = 64
"""Rows to a multiple of which vLLM pads embeddings (DEFAULT_VOCAB_PADDING_SIZE of vocab_parallel_embedding.py)."""


class Split(Enum):
    """How a tensor is spread over the GPUs of one engine."""

    NONE = auto()
    """Each GPU holds all of it (ReplicatedLinear, norms, the router of experts)."""
    TENSOR = auto()
    """Cut by tensor parallelism (ColumnParallelLinear, RowParallelLinear)."""
    KV_HEADS = auto()
    """Cut by KV heads, and copied where there are fewer heads than GPUs (QKVParallelLinear)."""
    VOCABULARY = auto()
    """Cut by rows, which are padded before (VocabParallelEmbedding, ParallelLMHead)."""
    EXPERTS = auto()
    """Experts: cut, or given out whole with expert parallelism (FusedMoE)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One matrix of the model, or as many equal ones as there are experts."""

    name: str
    """Its name in the checkpoint without `.weight`; quantization settings refer to it."""
    rows: int
    """Outputs."""
    columns: int
    """Inputs."""
    split: Split
    copies: int = 1
    """How many there are of it: experts, or matrices that vLLM fuses."""
    linear: bool = True
    """Whether it is a linear layer: quantization and LoRA leave everything else alone."""

    @property
    def parameters(self) -> int:
        """Numbers in all copies together."""
        return self.copies * self.rows * self.columns

    def share(self, settings: EngineSettings, kv_heads: int) -> Fraction:
        """The part of it that one GPU holds, the fullest GPU where they differ.

        vLLM 0.32: linear.py (QKVParallelLinear copies KV heads where there are fewer than GPUs),
        vocab_parallel_embedding.py (padding), fused_moe/config.py (FusedMoEParallelConfig: the experts are spread over
        tensor x data parallel GPUs, whole ones with expert parallelism and a part of each without).
        """
        if self.split is Split.NONE:
            return Fraction(1)
        if self.split is Split.KV_HEADS:
            return Fraction(max(1, kv_heads // settings.tensor), kv_heads)
        if self.split is Split.VOCABULARY:
            padded = math.ceil(self.rows / VOCABULARY_PADDING) * VOCABULARY_PADDING
            return Fraction(math.ceil(padded / settings.tensor), self.rows)
        if self.split is Split.EXPERTS:
            gpus = settings.tensor * settings.data
            return Fraction(math.ceil(self.copies / gpus), self.copies) if settings.expert else Fraction(1, gpus)
        return Fraction(1, settings.tensor)
