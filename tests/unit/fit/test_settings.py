"""What of a spec an estimate depends on."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.api.spec import parse_spec
from vllm_operator.fit.settings import GIB, EngineSettings, count_of, memory_of, settings_of


def settings(**parts: Any) -> EngineSettings:
    """The settings of a spec with these parts."""
    return settings_of(parse_spec({"model": {"source": "org/model"}, **parts}))


def test_what_is_not_set_is_vllms_default() -> None:
    assert settings() == EngineSettings()


def test_every_field_that_memory_depends_on_is_taken() -> None:
    found = settings(
        engine={
            "dtype": "float16",
            "quantization": "awq",
            "maxModelLen": "32k",
            "maxNumSeqs": 8,
            "blockSize": 32,
            "maxNumBatchedTokens": 512,
            "gpuMemoryUtilization": 0.5,
            "kvCacheMemory": "8G",
            "kvCacheDtype": "fp8",
            "cpuOffloadGB": 1.5,
            "enforceEager": True,
            "extraArgs": ["--disable-hybrid-kv-cache-manager"],
            "speculativeDecoding": {"method": "ngram", "numSpeculativeTokens": 4},
        },
        parallelism={"tensor": 4, "pipeline": 2, "data": 2, "expert": True, "decodeContext": 2},
        lora={"maxLoras": 3, "maxRank": 64},
    )
    assert found == EngineSettings(
        tensor=4,
        pipeline=2,
        data=2,
        expert=True,
        decode_context=2,
        dtype="float16",
        quantization="awq",
        kv_cache_dtype="fp8",
        max_model_len=32000,
        max_num_seqs=8,
        max_num_batched_tokens=512,
        gpu_memory_utilization=0.5,
        kv_cache_bytes=8 * GIB,
        block_tokens=32,
        cpu_offload_bytes=3 * GIB // 2,
        enforce_eager=True,
        hybrid_cache=False,
        adapters=3,
        adapter_rank=64,
        speculative=True,
    )
    assert found.gpus == 16


def test_an_automatic_length_and_a_pooling_model_are_told_apart() -> None:
    assert settings(engine={"maxModelLen": "auto"}) == EngineSettings(auto_max_model_len=True)
    assert settings(model={"source": "org/model", "convert": "embed"}).pooling


def test_on_cpu_the_cache_is_that_of_the_variable() -> None:
    env = [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "4"}]
    found = settings(accelerator={"profile": "cpu"}, engine={"env": env})
    assert (found.kv_cache_bytes, found.block_tokens, found.enforce_eager) == (4 * GIB, 128, True)
    assert settings(accelerator={"profile": "cpu"}).kv_cache_bytes is None


def test_memory_is_a_quantity() -> None:
    assert memory_of(parse_spec({"model": {"source": "m"}, "accelerator": {"memory": "80Gi"}})) == 80 * GIB
    assert memory_of(parse_spec({"model": {"source": "m"}})) is None


@pytest.mark.parametrize(
    ("text", "count"), [(5, 5), ("5", 5), ("32k", 32000), ("32K", 32768), ("1.5g", 1_500_000_000), ("8G", 2**33)]
)
def test_counts_are_read_as_vllm_reads_them(text: int | str, count: int) -> None:
    assert count_of(text) == count
