"""What of a VLLMModel the memory of its GPUs depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.api.quantity import quantity

if TYPE_CHECKING:
    from vllm_operator.api.spec import VLLMModelSpec

GIB: Final = 2**30
DEFAULT_UTILIZATION: Final = 0.92
"""--gpu-memory-utilization of vLLM 0.32."""
DEFAULT_RANK: Final = 16
"""--max-lora-rank of vLLM."""
BLOCK_TOKENS: Final = 16
CPU_BLOCK_TOKENS: Final = 128
AUTO: Final = "auto"

_WITHOUT_HYBRID_CACHE: Final = "--disable-hybrid-kv-cache-manager"
_CPU_CACHE_VARIABLE: Final = "VLLM_CPU_KVCACHE_SPACE"
_POWERS: Final = {"k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Settings of one engine; None stands for vLLM's own default."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: bool = False
    decode_context: int = 1
    dtype: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str = AUTO
    max_model_len: int | None = None
    auto_max_model_len: bool = False
    """Whether vLLM is to take the longest context that fits."""
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float = DEFAULT_UTILIZATION
    kv_cache_bytes: int | None = None
    """Size of the KV cache on each GPU, where the spec says it."""
    block_tokens: int = BLOCK_TOKENS
    cpu_offload_bytes: int = 0
    """Weights of each GPU that stay in the host's memory."""
    enforce_eager: bool = False
    pooling: bool = False
    """Whether the engine embeds or classifies instead of writing."""
    hybrid_cache: bool = True
    """Whether layers that look back a window only free what is before it."""
    adapters: int = 0
    """LoRA adapters in GPU memory at a time."""
    adapter_rank: int = DEFAULT_RANK
    speculative: bool = False

    @property
    def gpus(self) -> int:
        """GPUs of one engine."""
        return self.tensor * self.pipeline * self.data


def settings_of(spec: VLLMModelSpec) -> EngineSettings:
    """The settings that a spec makes."""
    engine, parallelism, lora = spec.engine, spec.parallelism, spec.lora
    length, on_cpu = engine.max_model_len, spec.accelerator.profile == "cpu"
    return EngineSettings(
        tensor=parallelism.tensor,
        pipeline=parallelism.pipeline,
        data=parallelism.data,
        expert=bool(parallelism.expert),
        decode_context=parallelism.decode_context or 1,
        dtype=None if engine.dtype in {None, AUTO} else engine.dtype,
        quantization=engine.quantization,
        kv_cache_dtype=engine.kv_cache_dtype or AUTO,
        max_model_len=None if length in {None, AUTO} else count_of(length or 0),
        auto_max_model_len=length == AUTO,
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        gpu_memory_utilization=engine.gpu_memory_utilization or DEFAULT_UTILIZATION,
        kv_cache_bytes=count_of(engine.kv_cache_memory) if engine.kv_cache_memory else _cpu_cache(spec),
        block_tokens=engine.block_size or (CPU_BLOCK_TOKENS if on_cpu else BLOCK_TOKENS),
        cpu_offload_bytes=int((engine.cpu_offload_gb or 0) * GIB),
        enforce_eager=bool(engine.enforce_eager) or on_cpu,
        pooling=spec.model.runner == "pooling" or spec.model.convert in {"embed", "classify"},
        hybrid_cache=_WITHOUT_HYBRID_CACHE not in (engine.extra_args or []),
        adapters=(lora.max_loras or 1) if lora else 0,
        adapter_rank=(lora.max_rank or DEFAULT_RANK) if lora else DEFAULT_RANK,
        speculative=engine.speculative_decoding is not None,
    )


def _cpu_cache(spec: VLLMModelSpec) -> int | None:
    """The KV cache of an engine on CPU, whose size a variable gives in GiB."""
    found = [one.value for one in spec.engine.env or [] if one.name == _CPU_CACHE_VARIABLE and one.value]
    return int(found[-1]) * GIB if found and found[-1].isdecimal() else None


def memory_of(spec: VLLMModelSpec) -> int | None:
    """`spec.accelerator.memory` in bytes; None where it is not set."""
    return None if spec.accelerator.memory is None else int(quantity(spec.accelerator.memory))


def count_of(text: int | str) -> int:
    """A count as vLLM reads it: `32k` is 32,000 and `32K` is 32,768 (human_readable_int of its arg_utils.py)."""
    if isinstance(text, int):
        return text
    power = _POWERS.get(text[-1:].lower(), 0)
    number = text[:-1] if power else text
    return int(float(number) * (1024 if text[-1:].isupper() else 1000) ** power)
