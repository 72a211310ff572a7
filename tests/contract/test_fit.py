"""What the estimate computes, against what vLLM itself computes for the same config.json."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.configs import TINY
from tests.support.servers import real_server
from tests.support.vllm_cpu import real_engine
from tests.support.vllm_memory import DEGREES, MEMORY_BYTES, Question, vllm_memory
from vllm_operator.fit.config import read_model
from vllm_operator.fit.estimate import estimate
from vllm_operator.fit.kv_cache import cache_plan, layer_token_bytes
from vllm_operator.fit.settings import CPU_BLOCK_TOKENS, GIB, EngineSettings
from vllm_operator.fit.weights import checkpoint_bytes
from vllm_operator.manager.capacity import Capacity
from vllm_operator.manager.log import Log

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.vllm_memory import Answer
    from vllm_operator.fit.architecture import Model

pytestmark = pytest.mark.real_vllm

SMALL: dict[str, Any] = {
    **TINY,  # its vocabulary is a multiple of 64, to which vLLM pads
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def small(architecture: str, model_type: str, **fields: Any) -> Question:
    """A model of random weights, of a few megabytes."""
    return Question({**SMALL, "architectures": [architecture], "model_type": model_type, **fields})


GEMMA = {
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 32,
    "tie_word_embeddings": True,
}
INT8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False},
            "input_activations": {
                "num_bits": 8,
                "type": "int",
                "symmetric": True,
                "strategy": "token",
                "dynamic": True,
            },
        }
    },
}
LATENT = {
    "num_key_value_heads": 8,
    "kv_lora_rank": 64,
    "q_lora_rank": None,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "greedy",
    "scoring_func": "softmax",
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
}
QUESTIONS = {
    "mixtral": small("MixtralForCausalLM", "mixtral", num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    "llama": small("LlamaForCausalLM", "llama"),
    "llama-one-kv-head": small("LlamaForCausalLM", "llama", num_key_value_heads=1),
    "llama-in-32-bits": small("LlamaForCausalLM", "llama", torch_dtype="float32"),
    "llama-fp8-cache": replace(small("LlamaForCausalLM", "llama"), arguments={"kv_cache_dtype": "fp8"}),
    "llama-awq": small(
        "LlamaForCausalLM",
        "llama",
        quantization_config={"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "gemm"},
    ),
    "llama-int8": small("LlamaForCausalLM", "llama", quantization_config=INT8),
    "qwen2": small("Qwen2ForCausalLM", "qwen2", use_sliding_window=False, sliding_window=1024, max_window_layers=4),
    "qwen3": small("Qwen3ForCausalLM", "qwen3", head_dim=32, tie_word_embeddings=True),
    "qwen3-moe": small(
        "Qwen3MoeForCausalLM",
        "qwen3_moe",
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=64,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        norm_topk_prob=True,
        head_dim=32,
    ),
    "deepseek": small("DeepseekV2ForCausalLM", "deepseek_v2", **LATENT),
    "mistral": small("MistralForCausalLM", "mistral", sliding_window=1024),
    "gemma2": small("Gemma2ForCausalLM", "gemma2", num_hidden_layers=7, sliding_window=512, **GEMMA),
    "gemma3": small(
        "Gemma3ForCausalLM",
        "gemma3_text",
        num_hidden_layers=13,
        sliding_window=512,
        rope_local_base_freq=10000,
        **GEMMA,
    ),
    "gpt-oss": small(
        "GptOssForCausalLM",
        "gpt_oss",
        num_local_experts=4,
        num_experts_per_tok=2,
        head_dim=32,
        sliding_window=128,
        layer_types=["sliding_attention", "full_attention"] * 2,
        attention_bias=True,
        swiglu_limit=7.0,
    ),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """What vLLM makes of all models."""
    return vllm_memory(QUESTIONS, tmp_path_factory.mktemp("models"))


def estimated(name: str, answer: Answer) -> tuple[Model, EngineSettings]:
    """The same model, and the settings that it was asked with."""
    arguments = QUESTIONS[name].arguments
    settings = EngineSettings(block_tokens=answer.block_tokens, kv_cache_dtype=arguments.get("kv_cache_dtype", "auto"))
    return read_model(QUESTIONS[name].config), settings


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_token_takes_as_much_kv_cache_as_vllm_says(answers: dict[str, Answer], name: str) -> None:
    model, settings = estimated(name, answers[name])
    token = sum(layer_token_bytes(layer.cache, model, settings) for layer in model.layers if layer.cache)
    assert token == pytest.approx(answers[name].token_bytes, rel=0.02)


@pytest.mark.parametrize("name", QUESTIONS)
def test_as_many_sequences_have_room_as_vllm_says(answers: dict[str, Answer], name: str) -> None:
    answer = answers[name]
    model, settings = estimated(name, answer)
    plan = cache_plan(model, settings, answer.in_flight_tokens)
    blocks = MEMORY_BYTES // plan.block_bytes(0, len(model.layers))
    assert blocks / plan.sequence_blocks(answer.max_model_len) == pytest.approx(answer.sequences, rel=0.01)
    assert model.max_length == answer.max_model_len


@pytest.mark.parametrize("name", QUESTIONS)
def test_parameters_take_as_many_bytes_as_in_vllm(answers: dict[str, Answer], name: str) -> None:
    model, _ = estimated(name, answers[name])
    stored_wide = 2 if model.dtype == "float32" else 1  # vLLM has halved it already
    assert checkpoint_bytes(model) / stored_wide == pytest.approx(answers[name].parameter_bytes, rel=0.01)


@pytest.mark.parametrize("name", QUESTIONS)
def test_tensor_parallelism_cuts_and_copies_kv_heads_as_vllm_does(answers: dict[str, Answer], name: str) -> None:
    model, settings = estimated(name, answers[name])
    cache = next(layer.cache for layer in model.layers if layer.cache)
    whole = layer_token_bytes(cache, model, settings)
    heads = answers[name].kv_heads
    for degree in DEGREES:
        token = layer_token_bytes(cache, model, replace(settings, tensor=degree))
        assert token / whole == heads[str(degree)] / heads["1"], degree


def test_a_server_prints_the_tokens_that_were_estimated(tmp_path: Path) -> None:
    config = json.loads((real_engine().require().model / "config.json").read_text(encoding="utf-8"))
    settings = EngineSettings(kv_cache_bytes=MEMORY_BYTES, max_model_len=1024, block_tokens=CPU_BLOCK_TOKENS)
    with real_server(folder=tmp_path) as server:  # its REAL_FLAGS say the same
        printed = re.search(r"KV cache size: ([\d,]+) tokens", server.log())
        log = server.log()
    assert printed is not None
    expected = estimate(read_model(config), settings, None)
    assert int(printed[1].replace(",", "")) == expected.tokens
    read = Log({})
    read.feed(log.encode(), 1.0)
    assert read.capacity == Capacity(
        kv_cache_gib=round(MEMORY_BYTES / GIB, 2),
        kv_cache_tokens=expected.tokens,
        max_model_len=1024,
        max_concurrency=round(expected.sequences or 0.0, 2),
    ), "what the manager tells of it judges the estimate"
