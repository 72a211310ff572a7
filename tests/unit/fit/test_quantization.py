"""Bytes of quantized matrices."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.errors import NotEstimable
from vllm_operator.fit.quantization import Quantization, read_quantization

WEIGHTS: dict[str, Any] = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 128}


def read(**fields: Any) -> Quantization:
    """What a quantization_config is read as."""
    found = read_quantization({"quantization_config": fields})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # of 256 x 512 numbers
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 65536 + 256 * 4 * 2 + 256 * 4 // 2),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 65536 + 256 * 2 + 256 // 2 + 512 * 4),
        ({"quant_method": "fp8"}, 131072 + 256 * 4),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 131072 + 2 * 4 * 4),
        ({"quant_method": "mxfp4"}, 65536 + 256 * 16),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 65536 + 256 * 32),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 131072 + 256 * 4),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 65536 + 256 * 8 * 4),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": WEIGHTS}}},
            65536 + 256 * 4 * 2,
        ),
        (
            {
                "quant_method": "compressed_tensors",
                "config_groups": {"a": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            131072 + 256 * 2,
        ),
    ],
)
def test_a_matrix_takes_its_numbers_scales_and_zero_points(fields: dict[str, Any], expected: int) -> None:
    assert read(**fields).matrix_bytes(256, 512) == expected


@pytest.mark.parametrize(
    ("ignored", "name", "covered"),
    [
        ("lm_head", "model.layers.0.mlp.up_proj", True),
        ("self_attn", "model.layers.0.self_attn.q_proj", False),
        ("attn", "model.layers.0.self_attn.q_proj", True),
        ("model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj", False),
        ("model.layers.1", "model.layers.10.mlp.up_proj", True),
        ("re:.*self_attn.*", "model.layers.0.self_attn.q_proj", False),
        ("model.layers.*.self_attn", "model.layers.3.self_attn.q_proj", False),
    ],
)
def test_what_is_named_stays_as_it_is(ignored: str, name: str, *, covered: bool) -> None:
    assert read(quant_method="fp8", modules_to_not_convert=[ignored]).covers(name) is covered


def test_a_checkpoint_may_ask_for_an_8_bit_cache() -> None:
    assert read(quant_method="modelopt", kv_cache_quant_algo="FP8").cache_bytes == 1
    assert read(quant_method="fp8", kv_cache_scheme={"num_bits": 8}).cache_bytes == 1
    assert read(quant_method="fp8", kv_cache_scheme=None).cache_bytes is None


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "quant_method '' is not one"),
        ({"quant_method": "awq", "bits": 0}, "bits is 0 and must be a number of bits"),
        ({"quant_method": "compressed-tensors"}, "config_groups names no weights"),
    ],
)
def test_what_is_not_known_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(NotEstimable, match=told):
        read(nothing=None, **fields)


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(NotEstimable, match="is no regular expression"):
        read(quant_method="fp8", ignored_layers=["re:("]).covers("model.layers.0.mlp.up_proj")
