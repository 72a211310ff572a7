"""Does it fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.configs import known, tiny
from vllm_operator.errors import NotEstimable
from vllm_operator.fit.advice import on_cards, smallest_tensor, suggestions
from vllm_operator.fit.cards import CARDS, Card, card_named, card_of
from vllm_operator.fit.estimate import Verdict, estimate, longest_length
from vllm_operator.fit.settings import GIB, EngineSettings

ONE = EngineSettings()
L4, A10, H100 = (card for card in CARDS if card.name in {"L4", "A10", "H100"})


def test_the_parts_of_an_engine_that_fits_make_up_its_budget() -> None:
    found = estimate(known("qwen2.5-7b-instruct"), ONE, A10)
    parts = found.weights + found.adapters + found.activations + found.not_pytorch + found.graphs
    assert found.budget == int(A10.memory_bytes * 0.92)
    assert parts + (found.kv_cache or 0) == found.budget
    assert found.verdict is Verdict.FITS
    assert found.tokens == (found.kv_cache or 0) // (found.kv_token * 16) * 16
    assert found.sequences == pytest.approx((found.tokens or 0) / 32768)
    assert found.sentence.endswith(f"GiB for the KV cache: {found.tokens:,} tokens")


def test_weights_that_are_too_large_do_not_fit_and_the_sentence_says_by_how_much() -> None:
    found = estimate(known("llama-3.1-70b-instruct"), ONE, H100)
    assert (found.verdict, found.tokens, found.sequences) == (Verdict.DOES_NOT_FIT, 0, 0)
    assert "leave no room for a KV cache: " in found.sentence
    assert found.sentence.startswith("weights 131.42 and ")


def test_a_sequence_that_is_too_long_does_not_fit_however_little_the_rest_takes() -> None:
    found = estimate(known("llama-3.1-8b-instruct"), ONE, L4)
    assert found.verdict is Verdict.DOES_NOT_FIT
    assert found.sentence.endswith("for the KV cache, and one sequence of 131,072 tokens needs 16.00")


def test_what_the_uncertain_parts_decide_is_told_as_tight() -> None:
    model = known("qwen3-8b")
    room = estimate(model, ONE, A10).tokens or 0
    assert estimate(model, replace(ONE, max_model_len=room + 4096), A10).verdict is Verdict.TIGHT
    assert estimate(model, replace(ONE, max_model_len=room // 2), A10).verdict is Verdict.FITS


def test_one_block_is_never_given_out() -> None:
    model = tiny()
    sequence = 4096 * 512
    exactly, one_more = (replace(ONE, kv_cache_bytes=sequence + blocks * 16 * 512) for blocks in (0, 1))
    assert estimate(model, exactly, H100).verdict is Verdict.DOES_NOT_FIT
    assert estimate(model, one_more, H100).verdict is Verdict.FITS


def test_a_cache_of_the_specs_size_has_to_fit_beside_the_weights() -> None:
    model = known("qwen2.5-7b-instruct")
    fits, too_large = (estimate(model, replace(ONE, kv_cache_bytes=size * GIB), A10) for size in (3, 9))
    assert (fits.verdict, fits.kv_cache) == (Verdict.FITS, 3 * GIB)
    assert too_large.verdict is Verdict.DOES_NOT_FIT


def test_without_a_card_the_verdict_is_unknown_and_the_sizes_are_told() -> None:
    found = estimate(known("qwen2.5-7b-instruct"), ONE, None)
    assert (found.verdict, found.tokens, found.kv_token, found.kv_sequence) == (
        Verdict.UNKNOWN,
        None,
        57344,
        32768 * 57344,
    )
    assert "spec.accelerator.memory" in found.sentence


def test_an_automatic_length_is_the_longest_that_fits() -> None:
    model = known("llama-3.1-8b-instruct")
    found = estimate(model, replace(ONE, auto_max_model_len=True), A10)
    assert found.verdict is Verdict.FITS
    assert found.max_model_len == longest_length(model, ONE, A10)
    longer = replace(ONE, max_model_len=found.max_model_len + 16)
    assert estimate(model, longer, A10).verdict is not Verdict.FITS
    assert longest_length(model, ONE, H100) == 131072
    assert longest_length(known("llama-3.1-70b-instruct"), ONE, H100) == 0


def test_the_fullest_stage_decides() -> None:
    model = known("qwen3-8b")
    two = estimate(model, replace(ONE, pipeline=2), A10)
    one = estimate(model, ONE, A10)
    assert (two.gpus, one.gpus) == (2, 1)
    assert two.kv_token == one.kv_token // 2
    assert (two.tokens or 0) > 3 * (one.tokens or 0)


def test_an_encoder_fits_without_a_cache() -> None:
    found = estimate(known("bge-m3"), replace(ONE, pooling=True), L4)
    assert (found.verdict, found.kv_token, found.tokens) == (Verdict.FITS, 0, None)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (replace(ONE, tensor=5), "tensor is 5, and vLLM wants a divisor of the model's 24 attention heads"),
        (replace(ONE, tensor=4), "tensor is 4, and vLLM cannot spread the model's 6 KV heads over it"),
        (replace(ONE, pipeline=8), "pipeline is 8, and the model has 4 layers"),
    ],
)
def test_what_vllm_refuses_is_refused(settings: EngineSettings, told: str) -> None:
    with pytest.raises(NotEstimable, match=rf"spec\.parallelism\.{told}"):
        estimate(tiny(num_attention_heads=24, num_key_value_heads=6, head_dim=16), settings, H100)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (replace(ONE, max_model_len=8192), "spec.engine.maxModelLen is 8,192, and the model takes 4,096"),
        (replace(ONE, speculative=True), "the model that guesses"),
        (replace(ONE, data=2), "each of the 2 data parallel copies has a KV cache of its own"),
    ],
)
def test_what_the_estimate_leaves_out_is_told(settings: EngineSettings, told: str) -> None:
    assert any(told in note for note in estimate(tiny(), settings, H100).notes)


def test_suggestions_fit_and_change_one_field_each() -> None:
    model = known("llama-3.1-8b-instruct")
    found = {one.field: one for one in suggestions(model, ONE, L4, None)}
    assert set(found) == {"spec.engine.maxModelLen", "spec.parallelism.tensor"}  # nothing else is enough by itself
    assert found["spec.parallelism.tensor"].value == "2"
    assert all(one.estimate.verdict is Verdict.FITS for one in found.values())
    assert int(found["spec.engine.maxModelLen"].value) == found["spec.engine.maxModelLen"].estimate.max_model_len


def test_an_engine_with_too_many_gpus_is_told_so_and_one_that_is_right_nothing() -> None:
    model = known("qwen2.5-7b-instruct")
    assert [(one.field, one.value) for one in suggestions(model, replace(ONE, tensor=4), H100, None)] == [
        ("spec.parallelism.tensor", "1")
    ]
    assert suggestions(model, ONE, H100, None) == []


def test_degrees_that_the_heads_do_not_allow_are_passed_over() -> None:
    small = Card(name="5 GiB", memory_bytes=5 * GIB, sold_gib=0, source="made up")
    short = replace(ONE, max_model_len=2048)
    assert smallest_tensor(known("llama-2-7b-chat"), short, small) == 8
    assert smallest_tensor(known("qwen2.5-7b-instruct"), short, small) is None  # 8 GPUs cannot share its 28 heads
    assert smallest_tensor(known("deepseek-v3"), ONE, H100) is None


def test_every_card_gets_a_line() -> None:
    found = {
        one.card.name: one
        for one in on_cards(known("llama-3.1-70b-instruct"), replace(ONE, max_model_len=8192), "nvidia")
    }
    assert list(found) == [card.name for card in CARDS if card.name != "MI300X"]
    assert (found["B200"].estimate.verdict, found["B200"].smallest_tensor) == (Verdict.FITS, 1)
    assert (found["H100"].estimate.verdict, found["H100"].smallest_tensor) == (Verdict.DOES_NOT_FIT, 2)
    assert (found["L4"].estimate.verdict, found["L4"].smallest_tensor) == (Verdict.DOES_NOT_FIT, 8)


def test_cards_are_found_however_people_write_them() -> None:
    for name in ("A100-80GB", "a100 80gb", "A100_80", "A100-80"):
        assert card_named(name) is card_named("A100 80GB")
    assert card_named("A100") is None  # there are two


def test_the_size_under_which_cards_are_sold_stands_for_the_least_that_they_have() -> None:
    assert card_of(24 * GIB).memory_bytes == card_of(24 * 10**9).memory_bytes == L4.memory_bytes
    assert card_of(80 * GIB).memory_bytes < 80 * GIB
    assert card_of(20 * GIB).memory_bytes == 20 * GIB
    assert card_of(20 * GIB).name == "20 GiB"
