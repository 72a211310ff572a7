"""What a GPU needs besides weights and KV cache: activations, CUDA graphs, and what is not PyTorch's.

These are the uncertain parts of an estimate. What vLLM profiles as activations is most of all its sampler, for
max_num_seqs rows of logits. llm-d-benchmark's measurements on H100 (config_explorer/empirical-vllm-memory-results.md:
4.76 GiB for Llama-3.1-8B, 5.56 for Qwen3-0.6B, 5.64 for Qwen3-32B, 4.84 for Llama-3.3-70B with tensor 2, 7.38 for
gpt-oss-20b) are 38.4 bytes for each of 1024 x vocabulary logits within 1 %, whatever the length and the tensor
parallelism; its capacity planner takes them as constants of the architectures. That sampler sorted. vLLM has not
sorted on GPUs since, and takes 256 sequences on cards below 70 GiB, so that the constants would now refuse what runs.
Kaito measured later ones (kaito-project/kaito#2156, the room that the vLLM of June 2026 found); the H100s have 93.1
GiB, by the difference between its last two rows:

| model | GPUs | tokens measured | tokens here |
|---|---|---|---|
| Qwen3-8B | A10 | 20,272 | 20,864 |
| Qwen3-14B | 2 A10, pipeline 2 | 55,952 | 51,296 |
| MiniMax-M2.7 at 0.70 | 4 H100, tensor 2, pipeline 2 | 117,264 | 114,176 |
| MiniMax-M2.7 at 0.75 | 4 H100, tensor 2, pipeline 2 | 195,968 | 192,880 |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.fit.settings import GIB
from vllm_operator.fit.weights import runtime_dtype_bytes

if TYPE_CHECKING:
    from vllm_operator.fit.architecture import Model
    from vllm_operator.fit.cards import Card
    from vllm_operator.fit.settings import EngineSettings

SAMPLER_BYTES: Final = 14
"""Bytes for each logit at the sampler's peak: the model's own in 16 bits, and in 32 bits a copy, probabilities and
random numbers (Sampler.forward, forward_native and random_sample of vLLM 0.32)."""

_LOGIT_BYTES: Final = 6
"""Bytes of a logit that no sampler can do without: the model's own, and the copy in 32 bits."""
_NOT_PYTORCH_GIB: Final = (0.15, 0.6)
"""On one GPU, and on several with NCCL's buffers: llm-d-benchmark measured 0.13 to 0.14, and 0.55."""
_GRAPHS_GIB: Final = 1.5
"""What is left of kaito's measurements; it names 1.5 to 1.9 itself (kaito-project/kaito#2139). vLLM's logs in public
reports say `Estimated CUDA graph memory` of 0.1 to 1.6, which it subtracts by default since 0.21."""
_LARGE_GIB: Final = 160
_MEDIUM_GIB: Final = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The most that one step of the engine computes."""

    sequences: int
    tokens: int
    concurrent: int
    """Steps that are under way at the same time."""

    @property
    def in_flight_tokens(self) -> int:
        """Tokens that are scheduled and not settled (VllmConfig.max_in_flight_tokens)."""
        return self.tokens * self.concurrent


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Bytes on each GPU."""

    activations: int
    least_activations: int
    """What no measurement went below: the difference is the uncertainty of the estimate."""
    not_pytorch: int
    graphs: int

    @property
    def total(self) -> int:
        """All of it, as far as it can be told."""
        return self.activations + self.not_pytorch + self.graphs

    @property
    def least(self) -> int:
        """What is needed in any case."""
        return self.least_activations + self.not_pytorch


def batch_of(settings: EngineSettings, card: Card | None) -> Batch:
    """The batch that vLLM takes on a card where the spec does not say (EngineArgs.get_batch_defaults of vLLM 0.32).

    Steps overlap: two with one pipeline stage, since scheduling is asynchronous by default, and one more than there are
    stages otherwise (VllmConfig.max_concurrent_batches). Pooling models are not scheduled so.
    """
    gib = card.memory_bytes / GIB if card else 0.0
    if gib >= _LARGE_GIB:
        sequences, tokens = 1024, 16384
    elif card and gib >= _MEDIUM_GIB and not card.is_a100:
        sequences, tokens = 1024, 8192
    else:
        sequences, tokens = 256, 2048
    return Batch(
        sequences=settings.max_num_seqs or sequences,
        tokens=settings.max_num_batched_tokens or max(tokens, settings.max_num_seqs or 0),
        concurrent=settings.pipeline + (0 if settings.pooling else 1),
    )


def overhead(model: Model, settings: EngineSettings, batch: Batch) -> Overhead:
    """What is needed for batches of this size.

    Activations are the larger one of two peaks: the sampler's, `SAMPLER_BYTES x sequences x vocabulary`, and that of
    the widest layer, and the hidden states of a batch on top.
    """
    width = runtime_dtype_bytes(model, settings)
    hidden = batch.tokens * model.hidden_size * width
    layer = batch.tokens * _widest_layer(model, settings) * width
    logits = 0 if settings.pooling or not model.generates else min(batch.sequences, batch.tokens) * model.vocab_size
    graphs = 0.0 if settings.enforce_eager or not model.generates else _GRAPHS_GIB
    return Overhead(
        activations=hidden + max(layer, round(logits * SAMPLER_BYTES)),
        least_activations=hidden + max(layer, logits * _LOGIT_BYTES),
        not_pytorch=round(_NOT_PYTORCH_GIB[settings.gpus > 1] * GIB),
        graphs=round(graphs * GIB),
    )


def _widest_layer(model: Model, settings: EngineSettings) -> int:
    """Numbers for each token while the widest layer is computed: gate, up and their product, and a hidden state.

    Experts keep that for each expert that a token takes (the caches of vLLM's fused_moe.py).
    """
    dense = 3 * model.inner_size // settings.tensor + model.hidden_size
    cut = 1 if settings.expert else settings.tensor * settings.data
    experts = model.experts_per_token * (3 * model.expert_size // cut + model.hidden_size)
    return max(dense, experts)
