"""What is read out of a config.json, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.configs import TINY, config, known, tiny
from vllm_operator.errors import NotEstimable
from vllm_operator.fit.config import read_model


def windows(**fields: Any) -> list[int | None]:
    """How far each layer of a model looks back."""
    return [layer.cache.window if layer.cache else None for layer in tiny(sliding_window=512, **fields).layers]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"layer_types": ["sliding_attention", "full_attention"] * 2}, [512, None, 512, None]),
        ({"model_type": "mistral"}, [512] * 4),
        ({"model_type": "qwen2", "use_sliding_window": False, "max_window_layers": 2}, [None] * 4),
        ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 3}, [None, None, None, 512]),
        ({"model_type": "gemma2"}, [512, None, 512, None]),
        ({"model_type": "cohere2", "sliding_window_pattern": 2}, [512, None, 512, None]),
        ({"model_type": "gemma3_text", "num_hidden_layers": 7}, [512] * 5 + [None, 512]),
        ({"layer_types": ["chunked_attention", "full_attention"] * 2}, [None] * 4),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, list) else str(value.get("model_type")),
)
def test_windows_are_those_of_the_models_class(fields: dict[str, Any], expected: list[int | None]) -> None:
    assert windows(**fields) == expected


def test_keys_that_a_nested_config_leaves_out_are_those_of_transformers() -> None:
    model = known("gemma-3-27b-it")
    assert (model.vocab_size, model.max_length, model.tied) == (262208, 131072, True)
    assert [layer.cache.window for layer in model.layers if layer.cache].count(None) == 10


def test_layers_that_use_the_cache_of_others_keep_nothing() -> None:
    model = tiny(num_kv_shared_layers=1)
    assert [layer.cache is None for layer in model.layers] == [False, False, False, True]


def test_an_encoder_keeps_nothing() -> None:
    assert not known("bge-m3").generates


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ({}, 4096),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 4096),
        ({"rope_scaling": {"type": "yarn", "factor": 40}}, 4096),
        ({"rope_scaling": {"type": "linear", "factor": None}}, 4096),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, 8192),
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 2048}, 2048),
        ({"model_max_length": 1024}, 1024),
    ],
)
def test_the_longest_context_is_the_one_that_vllm_derives(fields: dict[str, Any], length: int) -> None:
    assert tiny(**fields).max_length == length


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ([], "must be an object"),
        ({}, "no model_type"),
        ({"model_type": "unheard-of"}, "config.json has no hidden_size or n_embd or d_model|has no num_hidden_layers"),
        (TINY | {"num_hidden_layers": "4"}, "num_hidden_layers is '4' and must be a whole number"),
        (TINY | {"num_hidden_layers": -4}, "num_hidden_layers is -4 and must be a whole number"),
        (TINY | {"num_hidden_layers": 10**9}, "1000000000 layers are more than any model has"),
        (TINY | {"vocab_size": 2**50}, "vocab_size"),
        (TINY | {"torch_dtype": "int4"}, "dtype 'int4' is none of"),
        (
            TINY | {"layer_types": ["full_attention", "linear_attention"] * 2},
            "linear_attention: layers without a plain",
        ),
        (TINY | {"layer_types": ["full_attention"]}, "layer_types has 1 entries, and the model has 4 layers"),
        (TINY | {"full_attention_interval": 4}, "full_attention_interval: layers without a plain KV cache"),
        (TINY | {"attn_type_list": [0, 0, 0, 1]}, "attn_type_list: layers without a plain KV cache"),
        (TINY | {"layers_block_type": ["mamba", "attention"] * 2}, "mamba: layers without a plain KV cache"),
        (TINY | {"is_encoder_decoder": True}, "is_encoder_decoder: the cache of what the encoder has read"),
        (TINY | {"compress_ratios": [4]}, "compress_ratios: layers without a plain KV cache"),
        (TINY | {"quantization_config": {"quant_method": "secret"}}, "'secret' is not one that the estimate knows"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_not_known_is_refused_with_the_field(broken: Any, told: str) -> None:
    with pytest.raises(NotEstimable, match=told):
        read_model(broken)


def test_attention_that_is_plain_in_every_layer_is_read_however_it_is_listed() -> None:
    assert tiny(attn_type_list=[1, 1, 1, 1], layers_block_type=["attention"] * 4) == tiny()


def test_reading_changes_nothing_in_the_config() -> None:
    given = config("gemma-3-27b-it")
    read_model(given)
    assert given == config("gemma-3-27b-it")
