"""Does it fit: the memory of one GPU, part by part, and what that leaves for the KV cache."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from vllm_operator.errors import NotEstimable
from vllm_operator.fit.kv_cache import cache_plan, layer_token_bytes
from vllm_operator.fit.overhead import batch_of, overhead
from vllm_operator.fit.settings import GIB
from vllm_operator.fit.weights import adapter_bytes, scale_note, stage_weights, stages_of

if TYPE_CHECKING:
    from vllm_operator.fit.architecture import Model
    from vllm_operator.fit.cards import Card
    from vllm_operator.fit.checkpoint import Checkpoint
    from vllm_operator.fit.kv_cache import CachePlan
    from vllm_operator.fit.overhead import Batch, Overhead
    from vllm_operator.fit.settings import EngineSettings

_DEFAULT_LENGTH: Final = 2048
"""What vLLM takes for a model whose config.json names no length."""


class Verdict(StrEnum):
    """Whether an engine starts."""

    FITS = "Fits"
    TIGHT = "Tight"
    """It may: the uncertainty of activations and CUDA graphs decides."""
    DOES_NOT_FIT = "DoesNotFit"
    """It does not, however little activations take."""
    UNKNOWN = "Unknown"
    """Nobody says how much memory a GPU has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The memory of the fullest GPU of an engine, in bytes."""

    gpus: int
    """GPUs of one engine."""
    card: str
    """Empty where it is not known."""
    memory: int | None
    """All memory of the GPU."""
    budget: int | None
    """What the engine may use: memory x gpuMemoryUtilization, or all of it with spec.engine.kvCacheMemory."""
    weights: int
    adapters: int
    activations: int
    not_pytorch: int
    graphs: int
    kv_cache: int | None
    """What is left for the KV cache, less than 0 if nothing is; None where it is not known."""
    kv_token: int
    """KV cache of one token in all layers of the GPU."""
    kv_sequence: int
    """KV cache of one sequence of the longest length: less than that of its tokens, where layers look back a window."""
    max_model_len: int
    """Longest sequence, in tokens."""
    tokens: int | None
    """Tokens for which each copy of the engine has room, as vLLM prints it: `KV cache size`."""
    sequences: float | None
    """Sequences of the longest length at the same time: `Maximum concurrency`."""
    verdict: Verdict
    sentence: str
    """The verdict in one line for people: what is needed, what is there."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """The GPUs of one pipeline stage."""

    weights: int
    block: int
    """Bytes of one block of the KV cache."""
    token: int
    room: int | None
    """Bytes for the KV cache."""
    most_room: int | None
    """The same if activations take as little as they can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rooms:
    """What there is for weights and KV cache."""

    settings: EngineSettings
    card: Card | None
    needed: Overhead
    adapters: int

    @property
    def budget(self) -> int | None:
        """What an engine may use of a GPU: all of it where the spec sizes the KV cache, and else the share."""
        if self.card is None:
            return None
        share = self.settings.gpu_memory_utilization if self.settings.kv_cache_bytes is None else 1
        return int(self.card.memory_bytes * share)

    def beside(self, weights: int) -> tuple[int | None, int | None]:
        """Bytes for the KV cache, and the same if activations take as little as they can; less than 0 is too much."""
        return self._left(weights + self.needed.total), self._left(weights + self.needed.least)

    def _left(self, used: int) -> int | None:
        wanted = self.settings.kv_cache_bytes
        if self.budget is None:
            return wanted
        left = self.budget - used
        if wanted is None:
            return left
        return wanted if wanted <= left else left - wanted


def estimate(
    model: Model, settings: EngineSettings, card: Card | None, checkpoint: Checkpoint | None = None
) -> Estimate:
    """The memory of one GPU of an engine.

    `room = memory x gpuMemoryUtilization - weights - adapters - activations - not PyTorch's - CUDA graphs`, which is
    what vLLM's determine_available_memory measures; with spec.engine.kvCacheMemory the room is that, and has to fit
    beside the rest. Blocks are `room // bytes of a block` on the fullest stage; a sequence takes whole blocks, and one
    block is never given out (get_kv_cache_configs of vLLM's kv_cache_utils.py).

    Args:
        model: What its config.json says.
        settings: What the spec says.
        card: The GPU; None if that is not known.
        checkpoint: Size of the files; None to count parameters instead.

    Raises:
        NotEstimable: the settings and the model do not go together, or are not known here.
    """
    _check(model, settings)
    batch = batch_of(settings, card)
    needed = overhead(model, settings, batch)
    plan = cache_plan(model, settings, batch.in_flight_tokens)
    rooms = _Rooms(settings=settings, card=card, needed=needed, adapters=adapter_bytes(model, settings))
    found = _stages(model, rooms, plan, checkpoint)
    fullest = min(found, key=lambda stage: _blocks(stage.room, stage) if stage.room is not None else -stage.weights)
    length = _length(model, settings, plan, fullest)
    made = _of_stage(rooms, fullest, plan.sequence_blocks(length), length)
    notes = tuple(_notes(model, settings, checkpoint, batch))
    return replace(made, sentence=_sentence(made), notes=notes)


def _of_stage(rooms: _Rooms, stage: _Stage, per_sequence: int, length: int) -> Estimate:
    """The estimate by the fullest stage, of which a sequence takes so many blocks."""
    settings, card, needed = rooms.settings, rooms.card, rooms.needed
    blocks = max(0, _blocks(stage.room, stage)) if stage.room is not None and stage.block else None
    sequences = None if blocks is None or not per_sequence else blocks / per_sequence
    return Estimate(
        gpus=settings.gpus,
        card=card.name if card else "",
        memory=card.memory_bytes if card else None,
        budget=rooms.budget,
        weights=stage.weights,
        adapters=rooms.adapters,
        activations=needed.activations,
        not_pytorch=needed.not_pytorch,
        graphs=needed.graphs,
        kv_cache=stage.room,
        kv_token=stage.token,
        kv_sequence=per_sequence * stage.block,
        max_model_len=length,
        tokens=None if sequences is None else int(sequences * length),
        sequences=sequences,
        verdict=_verdict(stage, per_sequence, known=card is not None),
        sentence="",
        notes=(),
    )


def longest_length(model: Model, settings: EngineSettings, card: Card, checkpoint: Checkpoint | None = None) -> int:
    """Longest sequence in tokens for which an engine has room, at most what the model can; 0 if for none.

    Raises:
        NotEstimable: as `estimate`.
    """
    found = estimate(model, replace(settings, max_model_len=None, auto_max_model_len=True), card, checkpoint)
    return found.max_model_len if found.verdict is Verdict.FITS else 0


def _check(model: Model, settings: EngineSettings) -> None:
    """Refuse what vLLM refuses (ModelConfig.verify_with_parallel_config, QKVParallelLinear)."""
    if model.attention_heads % settings.tensor:
        raise NotEstimable(
            f"spec.parallelism.tensor is {settings.tensor}, and vLLM wants a divisor of the model's "
            f"{model.attention_heads} attention heads"
        )
    fewer, more = sorted((model.kv_heads, settings.tensor))
    if more % fewer:
        raise NotEstimable(
            f"spec.parallelism.tensor is {settings.tensor}, and vLLM cannot spread the model's {model.kv_heads} KV "
            "heads over it: one has to be a multiple of the other"
        )
    if settings.pipeline > len(model.layers):
        raise NotEstimable(
            f"spec.parallelism.pipeline is {settings.pipeline}, and the model has {len(model.layers)} layers"
        )


def _stages(model: Model, rooms: _Rooms, plan: CachePlan, checkpoint: Checkpoint | None) -> list[_Stage]:
    settings = rooms.settings
    found, first = [], 0
    weights = stage_weights(model, settings, checkpoint)
    for held, layers in zip(weights, stages_of(model, settings), strict=True):
        last = first + len(layers)
        token = sum(layer_token_bytes(layer.cache, model, settings) for layer in layers if layer.cache)
        room, most = rooms.beside(held + rooms.adapters)
        found.append(_Stage(weights=held, block=plan.block_bytes(first, last), token=token, room=room, most_room=most))
        first = last
    return found


def _blocks(room: int | None, stage: _Stage) -> int:
    if room is None:
        return 0
    return math.floor(room / stage.block) if stage.block else room


def _length(model: Model, settings: EngineSettings, plan: CachePlan, stage: _Stage) -> int:
    """Longest sequence: the spec's, the model's, or what fits."""
    most = settings.max_model_len or model.max_length or _DEFAULT_LENGTH
    if not settings.auto_max_model_len or stage.room is None or not stage.block:
        return most
    usable = _blocks(stage.room, stage) - 1
    shortest, longest = 1, most
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if plan.sequence_blocks(middle) <= usable:
            shortest = middle
        else:
            longest = middle - 1
    return shortest


def _verdict(stage: _Stage, per_sequence: int, *, known: bool) -> Verdict:
    """Whether an engine starts; `known` is whether the GPU's memory is."""
    if stage.room is None or stage.most_room is None:
        return Verdict.UNKNOWN
    if not stage.block:
        enough = [room >= 0 for room in (stage.room, stage.most_room)]
    else:
        enough = [_blocks(room, stage) > per_sequence for room in (stage.room, stage.most_room)]
    if enough[0]:
        return Verdict.FITS if known else Verdict.UNKNOWN
    return Verdict.TIGHT if enough[1] else Verdict.DOES_NOT_FIT


def _notes(model: Model, settings: EngineSettings, checkpoint: Checkpoint | None, batch: Batch) -> list[str]:
    notes = list(model.notes)
    doubt = scale_note(model, checkpoint)
    if doubt:
        notes.append(doubt)
    if model.quantization and model.quantization.method == "mxfp4":
        notes.append(
            "kernels for MXFP4 pad experts: gpt-oss-20b took 5 % more than its files in llm-d-benchmark's measurement"
        )
    if settings.speculative:
        notes.append("the model that guesses (spec.engine.speculativeDecoding) and its KV cache are not counted")
    if model.max_length and settings.max_model_len and settings.max_model_len > model.max_length:
        notes.append(
            f"spec.engine.maxModelLen is {settings.max_model_len:,}, and the model takes {model.max_length:,}: vLLM "
            "refuses to start unless VLLM_ALLOW_LONG_MAX_MODEL_LEN is set"
        )
    if settings.data > 1:
        notes.append(
            f"each of the {settings.data} data parallel copies has a KV cache of its own: the tokens are those of one"
        )
    if any(layer.cache and layer.cache.window for layer in model.layers):
        notes.append(f"windows keep what is in flight too: {batch.in_flight_tokens:,} tokens")
    return notes


def _sentence(found: Estimate) -> str:
    if found.verdict is Verdict.UNKNOWN or found.kv_cache is None:
        return "name a card, or set spec.accelerator.memory, to learn whether it fits"
    sequence = f"one sequence of {found.max_model_len:,} tokens needs {gib(found.kv_sequence)}"
    if found.budget is None:
        return f"spec.engine.kvCacheMemory is {gib(found.kv_cache)} GiB, and {sequence}"
    rest = found.adapters + found.activations + found.not_pytorch + found.graphs
    parts = f"weights {gib(found.weights)} and {gib(rest)} besides, of {gib(found.budget)} GiB on each GPU"
    if found.kv_cache <= 0:
        return f"{parts}, leave no room for a KV cache: {gib(-found.kv_cache)} GiB too much"
    left = f"{parts}, leave {gib(found.kv_cache)} GiB"
    if found.verdict is not Verdict.FITS:
        return f"{left} for the KV cache, and {sequence}"
    return f"{left} for the KV cache: {found.tokens or 0:,} tokens" if found.kv_token else left


def gib(count: int) -> str:
    """Bytes as GiB with two places."""
    return f"{count / GIB:.2f}"
