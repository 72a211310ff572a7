"""Bytes of weights: of a whole checkpoint, and of what each GPU holds of it."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from vllm_operator.errors import NotEstimable
from vllm_operator.fit.architecture import dtype_bytes
from vllm_operator.fit.quantization import ONLINE
from vllm_operator.fit.tensors import Split

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm_operator.fit.architecture import Layer, Model
    from vllm_operator.fit.checkpoint import Checkpoint
    from vllm_operator.fit.quantization import Quantization
    from vllm_operator.fit.settings import EngineSettings
    from vllm_operator.fit.tensors import Tensor

_LORA_BYTES: Final = 2
_ABSORBED: Final = "kv_b_proj"
_MOST_DOUBT: Final = 0.05


def runtime_dtype_bytes(model: Model, settings: EngineSettings) -> int:
    """Bytes of one number while the model runs.

    `auto` runs models that are stored in 32 bits with 16 (_resolve_auto_dtype of vLLM's config/model.py).
    """
    return dtype_bytes(settings.dtype) if settings.dtype else min(2, dtype_bytes(model.dtype))


def runtime_quantization(model: Model, settings: EngineSettings) -> Quantization | None:
    """The checkpoint's quantization, or the one that the spec has made of it while it is loaded.

    Raises:
        NotEstimable: the spec names one that has to be in the checkpoint, and is not.
    """
    if model.quantization or not settings.quantization:
        return model.quantization
    try:
        return ONLINE[settings.quantization]
    except KeyError:
        raise NotEstimable(
            f"spec.engine.quantization is {settings.quantization}, and config.json has no quantization_config: "
            "name a checkpoint that is quantized so, or leave it out"
        ) from None


def checkpoint_bytes(model: Model, *, drafts: bool = True, own_head: bool | None = None) -> int:
    """Bytes of the whole checkpoint, by its config.json alone.

    Parameters times the bytes of their type; quantized linear layers as `Quantization.matrix_bytes`.

    Args:
        model: What its config.json says.
        drafts: Whether it holds the layers that guess further tokens.
        own_head: Whether it holds an output layer; None for what the config says. Some hold a tied one as well.
    """
    head = not model.tied if own_head is None else own_head
    outside = (*model.embeddings, *(model.head if head else ()), *model.others)
    layers = (*model.layers, *(model.draft_layers if drafts else ()))
    tensors = (*outside, *(tensor for layer in layers for tensor in layer.tensors))
    return sum(_bytes(tensor, dtype_bytes(model.dtype), model.quantization) for tensor in tensors)


@functools.lru_cache(maxsize=64)
def stage_weights(model: Model, settings: EngineSettings, checkpoint: Checkpoint | None) -> tuple[int, ...]:
    """Bytes of weights on the fullest GPU of each pipeline stage, offloading taken off.

    Each tensor's part is that of `Tensor.share`; the first stage has the embeddings and the last one the output layer,
    a copy of them where they are tied (LlamaModel of vLLM). With a checkpoint the sum is scaled to its size.
    Latent attention keeps kv_b_proj a second time, taken apart and in the type of the activations
    (process_weights_after_loading of vLLM's mla_attention.py). spec.engine.cpuOffloadGB takes from the layers only
    (vLLM's offloader/uva.py).
    """
    width, quantization = runtime_dtype_bytes(model, settings), runtime_quantization(model, settings)
    scale = _scale(model, checkpoint)
    stages = stages_of(model, settings)
    found = []
    for stage, layers in enumerate(stages):
        tensors = tuple(tensor for layer in layers for tensor in layer.tensors)
        inside = _shares(tensors, model, settings, width, quantization) * scale + _absorbed(tensors, settings, width)
        edge = _shares(_edge(model, stage, len(stages)), model, settings, width, None) * scale
        found.append(math.ceil(edge + max(Fraction(0), inside - settings.cpu_offload_bytes)))
    return tuple(found)


def scale_note(model: Model, checkpoint: Checkpoint | None) -> str:
    """What to tell where the files and the config do not agree; empty where they do."""
    scale = _scale(model, checkpoint)
    if checkpoint is None or abs(scale - 1) <= _MOST_DOUBT:
        return ""
    return (
        f"{checkpoint.source} holds {float(scale):.2f} times what config.json accounts for: the files are believed, "
        "and how tensors are spread over several GPUs is uncertain"
    )


def adapter_bytes(model: Model, settings: EngineSettings) -> int:
    """Bytes that a GPU keeps for LoRA adapters, whether they are loaded or not.

    For each linear layer and adapter a matrix A of rank x inputs and a matrix B of outputs x rank; of layers that are
    cut by outputs A is whole, of others B (create_lora_weights of vLLM's lora/layers/base_linear.py). Embeddings and
    output layer have a pair each.
    """
    if not settings.adapters:
        return 0
    numbers = Fraction(0)
    for layer in max(stages_of(model, settings), key=len):
        for tensor in layer.tensors:
            if tensor.linear:
                numbers += _pair(tensor, settings, model.kv_heads)
    for tensor in (*model.embeddings[:1], *model.head):
        numbers += tensor.rows * tensor.share(settings, model.kv_heads) + tensor.columns
    return math.ceil(numbers * settings.adapters * settings.adapter_rank * _LORA_BYTES)


def _pair(tensor: Tensor, settings: EngineSettings, kv_heads: int) -> Fraction:
    """Inputs and outputs of a linear layer that one GPU has adapters for."""
    share = tensor.share(settings, kv_heads)
    if tensor.split is Split.EXPERTS and settings.expert:
        return tensor.copies * share * (tensor.columns + tensor.rows)
    if tensor.name.endswith(("o_proj", "down_proj")):  # cut by inputs
        return tensor.copies * (tensor.columns * share + tensor.rows)
    return tensor.copies * (tensor.columns + tensor.rows * share)


def stages_of(model: Model, settings: EngineSettings) -> list[tuple[Layer, ...]]:
    """The layers of each pipeline stage.

    As even as it goes; what is left over goes to the stages before the last one, from behind (get_pp_indices of vLLM's
    distributed/utils.py).
    """
    count, stages = len(model.layers), settings.pipeline
    sizes = [count // stages] * stages
    for back in range(2, count % stages + 2):
        sizes[-back] += 1
    ends = [sum(sizes[: stage + 1]) for stage in range(stages)]
    return [model.layers[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _edge(model: Model, stage: int, stages: int) -> Iterator[Tensor]:
    """What a stage has besides layers."""
    first, last = stage == 0, stage == stages - 1
    if first:
        yield from model.embeddings
        yield from model.others
    if last and not model.tied:
        yield from model.head
    elif last and not first:
        yield from model.embeddings


def _shares(
    tensors: Iterable[Tensor], model: Model, settings: EngineSettings, width: int, quantization: Quantization | None
) -> Fraction:
    return sum(
        (_bytes(tensor, width, quantization) * tensor.share(settings, model.kv_heads) for tensor in tensors),
        Fraction(0),
    )


def _absorbed(tensors: Iterable[Tensor], settings: EngineSettings, width: int) -> Fraction:
    numbers = sum(tensor.parameters for tensor in tensors if tensor.name.endswith(_ABSORBED))
    return Fraction(numbers * width, settings.tensor)


def _bytes(tensor: Tensor, width: int, quantization: Quantization | None) -> int:
    if quantization and tensor.linear and quantization.covers(tensor.name):
        return tensor.copies * quantization.matrix_bytes(tensor.rows, tensor.columns)
    return tensor.parameters * width


def _scale(model: Model, checkpoint: Checkpoint | None) -> Fraction:
    """What the files hold in proportion to what the config accounts for."""
    if checkpoint is None:
        return Fraction(1)
    names = checkpoint.names
    own_head = not model.tied or any(name.endswith("lm_head.weight") for name in names)
    first_draft = f".layers.{len(model.layers)}."
    drafts = not names or any(first_draft in name or name.startswith("mtp.") for name in names)
    counted = checkpoint_bytes(model, drafts=drafts, own_head=own_head)
    if model.quantization is None and checkpoint.float_bytes:
        counted = counted * checkpoint.float_bytes // dtype_bytes(model.dtype)
    return Fraction(checkpoint.total_bytes, counted)
