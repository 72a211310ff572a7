"""Activations and what else a GPU needs, against what others have measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.configs import known, tiny
from vllm_operator.fit.cards import card_named
from vllm_operator.fit.estimate import estimate
from vllm_operator.fit.overhead import Batch, batch_of, overhead
from vllm_operator.fit.settings import GIB, EngineSettings

ONE = EngineSettings()
H100 = Batch(sequences=1024, tokens=8192, concurrent=2)


@pytest.mark.parametrize(
    ("name", "tensor", "measured_gib"),
    [("llama-3.1-8b-instruct", 1, 4.76), ("llama-3.1-70b-instruct", 2, 4.84), ("gpt-oss-20b", 1, 7.38)],
)
def test_activations_are_those_that_llm_d_benchmark_measured(name: str, tensor: int, measured_gib: float) -> None:
    found = overhead(known(name), replace(ONE, tensor=tensor), H100)
    assert found.activations / GIB == pytest.approx(measured_gib, rel=0.01)


def test_activations_of_small_qwen_are_those_that_llm_d_benchmark_measured() -> None:
    model = tiny(model_type="qwen3", vocab_size=151936, hidden_size=1024, intermediate_size=3072)
    assert overhead(model, ONE, H100).activations / GIB == pytest.approx(5.56, rel=0.01)


def test_an_a10_has_room_for_about_the_tokens_of_qwen3_8b_that_kaito_measured() -> None:
    found = estimate(known("qwen3-8b"), ONE, card_named("A10"))
    assert found.tokens == pytest.approx(20272, rel=0.05)


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
