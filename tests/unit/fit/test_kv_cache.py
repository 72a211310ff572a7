"""The KV cache, as vLLM lays it out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.configs import known, tiny
from vllm_operator.errors import NotEstimable
from vllm_operator.fit.kv_cache import cache_plan, layer_token_bytes
from vllm_operator.fit.settings import EngineSettings

if TYPE_CHECKING:
    from vllm_operator.fit.architecture import Model

ONE = EngineSettings()


def token_bytes(model: Model, settings: EngineSettings = ONE) -> int:
    """KV cache of one token in all layers."""
    return sum(layer_token_bytes(layer.cache, model, settings) for layer in model.layers if layer.cache)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama-2-7b-chat", 32 * 32 * 2 * 128 * 2),
        ("llama-3.1-8b-instruct", 32 * 8 * 2 * 128 * 2),
        ("qwen2.5-7b-instruct-awq", 28 * 4 * 2 * 128 * 2),
        ("chatglm3-6b", 28 * 2 * 2 * 128 * 2),
        ("deepseek-v3", 61 * (512 + 64) * 2),
        ("gemma-3-27b-it", 62 * 16 * 2 * 128 * 2),
        ("bge-m3", 0),
    ],
)
def test_a_token_takes_keys_and_values_of_all_kv_heads(name: str, expected: int) -> None:
    assert token_bytes(known(name)) == expected


def test_tensor_parallelism_cuts_kv_heads_down_to_one_and_latent_vectors_not_at_all() -> None:
    model = known("llama-3.1-8b-instruct")
    whole = token_bytes(model)
    assert [token_bytes(model, replace(ONE, tensor=degree)) for degree in (2, 8, 16)] == [
        whole // 2,
        whole // 8,
        whole // 8,
    ]
    latent = known("deepseek-v3")
    assert token_bytes(latent, replace(ONE, tensor=8)) == token_bytes(latent)


@pytest.mark.parametrize(
    ("kind", "factor"), [("fp8", 0.5), ("fp8_e5m2", 0.5), ("float32", 2), ("fp8_per_token_head", 0.5 + 2 / 16)]
)
def test_the_type_of_the_cache_is_the_specs(kind: str, factor: float) -> None:
    model = tiny()
    assert token_bytes(model, replace(ONE, kv_cache_dtype=kind)) == token_bytes(model) * factor


def test_a_checkpoint_with_an_8_bit_cache_has_one_unless_the_spec_says_else() -> None:
    model = tiny(quantization_config={"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 8}})
    assert token_bytes(model) == token_bytes(tiny()) // 2
    assert token_bytes(model, replace(ONE, kv_cache_dtype="bfloat16")) == token_bytes(tiny())


def test_a_type_that_is_not_known_is_refused_with_its_field() -> None:
    with pytest.raises(NotEstimable, match=r"spec\.engine.kvCacheDtype turboquant_k8v4 is not one"):
        token_bytes(tiny(), replace(ONE, kv_cache_dtype="turboquant_k8v4"))


def test_sparse_attention_keeps_an_index_besides() -> None:
    fields = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
    sparse = tiny(**fields, q_lora_rank=64, index_head_dim=128, index_n_heads=4)
    assert token_bytes(sparse) == 4 * ((512 + 64) * 2 + 128 + 4)
    assert token_bytes(sparse, replace(ONE, kv_cache_dtype="fp8")) == 4 * (656 + 128 + 4)


def test_a_window_keeps_itself_what_is_in_flight_and_a_block_more() -> None:
    model = tiny(model_type="mistral", sliding_window=512)
    plan = cache_plan(model, ONE, 2048)
    assert plan.sequence_blocks(10_000_000) == (512 - 1 + 2048 + 15) // 16 + 1
    assert plan.sequence_blocks(64) == 5


def test_gemma_3_gets_groups_as_large_as_its_rarest_kind_of_layer() -> None:
    plan = cache_plan(known("gemma-3-27b-it"), ONE, 0)
    assert sorted(len(group.layers) for group in plan.groups) == [8, 8, 9, 9, 9, 9, 10]
    assert [group.window for group in plan.groups].count(None) == 1
    assert plan.block_bytes(0, 62) == 10 * 16 * (16 * 2 * 128 * 2)


def test_kinds_that_are_almost_as_frequent_share_the_larger_size() -> None:
    layers = ["sliding_attention"] * 4 + ["full_attention"] * 5
    plan = cache_plan(tiny(num_hidden_layers=9, sliding_window=64, layer_types=layers), ONE, 0)
    assert sorted(len(group.layers) for group in plan.groups) == [4, 5]


def test_layers_of_two_sizes_get_blocks_of_one() -> None:
    layers = ["sliding_attention", "full_attention"] * 2
    model = tiny(sliding_window=64, layer_types=layers, head_dim=16, global_head_dim=32)
    plan = cache_plan(model, ONE, 0)
    assert {(group.window, group.block_tokens) for group in plan.groups} == {(64, 32), (None, 16)}
    assert set(plan.page_bytes) == {16 * 2 * 2 * 32 * 2}


def test_without_the_hybrid_cache_windows_keep_everything() -> None:
    model = known("gemma-2-9b-it")
    hybrid, plain = cache_plan(model, ONE, 0), cache_plan(model, replace(ONE, hybrid_cache=False), 0)
    assert [group.window for group in plain.groups] == [None]
    assert plain.block_bytes(0, 42) * plain.sequence_blocks(8192) > hybrid.block_bytes(0, 42) * hybrid.sequence_blocks(
        8192
    )


def test_ranks_that_share_the_cache_of_a_sequence_hold_a_part_of_it() -> None:
    plan = cache_plan(known("deepseek-v3"), replace(ONE, tensor=8, decode_context=8), 0)
    assert plan.sequence_blocks(8192) == 8192 // 16 // 8
