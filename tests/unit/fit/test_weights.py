"""Bytes of weights, in all and on each GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.configs import NAMES, known, published_bytes, tiny
from vllm_operator.errors import NotEstimable
from vllm_operator.fit.checkpoint import Checkpoint
from vllm_operator.fit.settings import GIB, EngineSettings
from vllm_operator.fit.weights import adapter_bytes, checkpoint_bytes, scale_note, stage_weights, stages_of

ONE = EngineSettings()


@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_well_known_models_take_their_published_size(name: str) -> None:
    assert checkpoint_bytes(known(name)) == pytest.approx(published_bytes(name), rel=0.01)


def test_tensor_parallelism_cuts_all_but_norms_and_pads_the_vocabulary() -> None:
    model = known("llama-3.1-8b-instruct")
    [whole], [half] = stage_weights(model, ONE, None), stage_weights(model, replace(ONE, tensor=2), None)
    norms = 32 * 2 * 4096 * 2
    assert half == (whole - norms) // 2 + norms
    [padded] = stage_weights(tiny(vocab_size=1000), ONE, None)
    assert padded == stage_weights(tiny(vocab_size=1024), ONE, None)[0]


def test_kv_heads_are_copied_where_there_are_fewer_than_gpus() -> None:
    few, many = tiny(num_key_value_heads=1), tiny(num_key_value_heads=8)
    eight = replace(ONE, tensor=8)
    # 1 head on each of 8 GPUs either way
    assert stage_weights(few, eight, None) == stage_weights(many, eight, None)


def test_stages_share_layers_and_the_last_one_copies_tied_embeddings() -> None:
    two = replace(ONE, pipeline=2)
    own, tied = tiny(tie_word_embeddings=False), tiny(tie_word_embeddings=True)
    embeddings = 1024 * 128 * 2
    [whole] = stage_weights(own, ONE, None)
    assert stage_weights(own, two, None) == (whole // 2, whole // 2)
    assert stage_weights(tied, two, None) == stage_weights(own, two, None)
    assert stage_weights(tied, ONE, None) == (whole - embeddings,)


@pytest.mark.parametrize(
    ("layers", "stages", "sizes"), [(4, 3, [1, 2, 1]), (5, 3, [2, 2, 1]), (7, 4, [2, 2, 2, 1]), (9, 4, [2, 2, 3, 2])]
)
def test_layers_left_over_go_to_stages_from_behind_but_the_last(layers: int, stages: int, sizes: list[int]) -> None:
    found = stages_of(tiny(num_hidden_layers=layers), replace(ONE, pipeline=stages))
    assert [len(stage) for stage in found] == sizes


def test_experts_are_spread_over_tensor_and_data_parallel_gpus_with_and_without_expert_parallelism() -> None:
    model = known("mixtral-8x7b-instruct")
    experts = 32 * 8 * 3 * 4096 * 14336 * 2
    [whole] = stage_weights(model, ONE, None)
    for expert in (False, True):
        [spread] = stage_weights(model, replace(ONE, data=8, expert=expert), None)
        assert spread == whole - experts + experts // 8
    [uneven] = stage_weights(model, replace(ONE, data=3, expert=True), None)
    assert uneven == whole - experts + experts * 3 // 8  # the fullest GPU has 3 of the 8


def test_dense_models_are_copied_by_data_parallelism() -> None:
    model = known("qwen2.5-7b-instruct")
    assert stage_weights(model, replace(ONE, data=4), None) == stage_weights(model, ONE, None)


def test_offloading_takes_from_layers_and_never_more_than_they_are() -> None:
    model = known("llama-2-13b-chat")
    [whole] = stage_weights(model, ONE, None)
    assert stage_weights(model, replace(ONE, cpu_offload_bytes=10 * GIB), None) == (whole - 10 * GIB,)
    assert stage_weights(model, replace(ONE, cpu_offload_bytes=100 * GIB), None) == (2 * 32000 * 5120 * 2,)


def test_latent_attention_keeps_a_matrix_twice_and_copies_what_compresses() -> None:
    model = known("deepseek-v2-lite")
    twice = 27 * 16 * 256 * 512 * 2
    assert stage_weights(model, ONE, None) == (checkpoint_bytes(model) + twice,)
    [half] = stage_weights(model, replace(ONE, tensor=2), None)
    assert half > (checkpoint_bytes(model) + twice) // 2


def test_layers_that_guess_are_in_the_checkpoint_and_not_on_the_gpu() -> None:
    model = known("deepseek-v3")
    files = Checkpoint(total_bytes=published_bytes("deepseek-v3"), source="index")
    [loaded] = stage_weights(model, ONE, files)
    assert checkpoint_bytes(model, drafts=False) < loaded < files.total_bytes
    assert scale_note(model, files) == ""


def test_the_size_of_the_files_is_believed_before_parameters() -> None:
    model = known("llama-3.1-8b-instruct")
    files = Checkpoint(total_bytes=2 * checkpoint_bytes(model), source="the index")
    assert stage_weights(model, ONE, files) == (2 * checkpoint_bytes(model),)
    assert scale_note(model, files).startswith("the index holds 2.00 times what config.json accounts for")


def test_a_tied_output_layer_that_is_in_the_files_all_the_same_is_not_loaded_twice() -> None:
    model = tiny(tie_word_embeddings=True)
    twice = checkpoint_bytes(model) + 1024 * 128 * 2
    files = Checkpoint(total_bytes=twice, source="index", names=frozenset({"lm_head.weight", "model.norm.weight"}))
    assert stage_weights(model, ONE, files) == (checkpoint_bytes(model),)


def test_files_of_32_bits_are_halved_unless_the_spec_wants_them() -> None:
    model = tiny(torch_dtype="bfloat16")
    files = Checkpoint(total_bytes=2 * checkpoint_bytes(model), source="files", float_bytes=4)
    assert stage_weights(model, ONE, files) == (checkpoint_bytes(model),)
    assert stage_weights(model, replace(ONE, dtype="float32"), files) == (2 * checkpoint_bytes(model),)
    assert stage_weights(tiny(torch_dtype="float32"), ONE, None) == (checkpoint_bytes(model),)


def test_quantization_while_loading_halves_linear_layers_and_nothing_else() -> None:
    model = known("qwen3-8b")
    [plain], [quantized] = stage_weights(model, ONE, None), stage_weights(model, replace(ONE, quantization="fp8"), None)
    outside = 2 * 151936 * 4096 * 2
    assert quantized == pytest.approx((plain - outside) / 2 + outside, rel=0.002)


def test_a_quantization_that_has_to_be_in_the_files_is_refused_where_it_is_not() -> None:
    with pytest.raises(NotEstimable, match=r"spec\.engine.quantization is awq, and config.json has no"):
        stage_weights(tiny(), replace(ONE, quantization="awq"), None)


def test_adapters_take_a_pair_of_matrices_for_each_linear_layer() -> None:
    model = tiny(num_hidden_layers=1)
    rank, count, width = 16, 2, 2
    attention = (128 + 128) + 2 * (128 + 32) + (128 + 128)
    mlp = 3 * (128 + 256)
    vocabulary = 2 * (1024 + 128)
    assert adapter_bytes(model, replace(ONE, adapters=2)) == rank * count * width * (attention + mlp + vocabulary)
    assert adapter_bytes(model, ONE) == 0
