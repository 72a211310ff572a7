"""Activations and what else a GPU needs, against what others have measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.configs import config, known, tiny
from vllm_operator.fit.cards import Card, card_named
from vllm_operator.fit.config import read_model
from vllm_operator.fit.estimate import estimate
from vllm_operator.fit.overhead import Batch, batch_of, overhead
from vllm_operator.fit.settings import GIB, EngineSettings

if TYPE_CHECKING:
    from vllm_operator.fit.architecture import Model

ONE = EngineSettings()
H100 = Batch(sequences=1024, tokens=8192, concurrent=2)
H100_NVL = Card(name="H100 NVL", memory_bytes=int(93.1 * GIB), sold_gib=94, source="nvidia-smi")

QWEN3_14B = {"hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 40, "num_attention_heads": 40}
MINIMAX_M2 = {
    "model_type": "minimax_m2",
    "hidden_size": 3072,
    "intermediate_size": 1536,
    "num_hidden_layers": 62,
    "num_attention_heads": 48,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 200064,
    "max_position_embeddings": 204800,
    "num_local_experts": 256,
    "num_experts_per_tok": 8,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}


@pytest.mark.parametrize(
    ("model", "settings", "card", "measured"),
    [
        (known("qwen3-8b"), ONE, card_named("A10"), 20272),
        (read_model({**config("qwen3-8b"), **QWEN3_14B}), replace(ONE, pipeline=2), card_named("A10"), 55952),
        (tiny(**MINIMAX_M2), replace(ONE, tensor=2, pipeline=2, gpu_memory_utilization=0.7), H100_NVL, 117264),
        (tiny(**MINIMAX_M2), replace(ONE, tensor=2, pipeline=2, gpu_memory_utilization=0.75), H100_NVL, 195968),
    ],
    ids=["qwen3-8b", "qwen3-14b", "minimax-0.70", "minimax-0.75"],
)
def test_there_is_room_for_about_as_many_tokens_as_kaito_measured(
    model: Model, settings: EngineSettings, card: Card, measured: int
) -> None:
    assert estimate(model, settings, card).tokens == pytest.approx(measured, rel=0.1)


def test_batches_are_those_that_vllm_takes_on_each_card() -> None:
    found = {name: batch_of(ONE, card_named(name)) for name in ("L4", "A100 80GB", "H100", "B200")}
    assert {name: (batch.sequences, batch.tokens) for name, batch in found.items()} == {
        "L4": (256, 2048),
        "A100 80GB": (256, 2048),
        "H100": (1024, 8192),
        "B200": (1024, 16384),
    }


def test_the_spec_is_taken_before_vllms_defaults() -> None:
    batch = batch_of(replace(ONE, max_num_seqs=8, max_num_batched_tokens=512, pipeline=2), card_named("H100"))
    assert (batch.sequences, batch.tokens, batch.in_flight_tokens) == (8, 512, 3 * 512)


def test_small_batches_leave_the_widest_layer_and_no_graphs_where_eager() -> None:
    model = known("llama-3.1-8b-instruct")
    found = overhead(model, replace(ONE, enforce_eager=True), Batch(sequences=1, tokens=8192, concurrent=2))
    assert found.activations == 8192 * 2 * (4096 + 3 * 14336 + 4096)
    assert (found.graphs, found.least_activations) == (0, found.activations)


def test_pooling_models_have_no_sampler() -> None:
    model = known("bge-m3")
    found = overhead(model, replace(ONE, pooling=True), H100)
    assert found.activations < GIB
    assert found.graphs == 0


def test_several_gpus_need_room_for_nccl() -> None:
    model = tiny()
    one, two = (overhead(model, replace(ONE, tensor=tensor), H100).not_pytorch for tensor in (1, 2))
    assert (one, two) == (round(0.15 * GIB), round(0.6 * GIB))
