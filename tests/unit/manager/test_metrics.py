"""What the manager reads out of the metrics' text."""

from __future__ import annotations

import pytest

from vllm_operator.manager.evidence import RankLook
from vllm_operator.manager.metrics import UncountedError, in_order, read_ranks

ONE_RANK = b"""\
# HELP vllm:iteration_tokens_total Histogram of number of tokens per engine_step.
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="tiny"} 7.0
vllm:iteration_tokens_total_count{engine="0",model_name="tiny"} 9.0
vllm:num_requests_running{engine="0",model_name="tiny"} 2.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="deferred"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.5
vllm:engine_sleep_state{engine="0",model_name="tiny",sleep_state="awake"} 1.0
vllm:engine_sleep_state{engine="0",model_name="tiny",sleep_state="weights_offloaded"} 0.0
"""


def test_a_rank_has_its_steps_and_its_requests_by_what_they_wait_for() -> None:
    assert read_ranks(ONE_RANK) == {"0": RankLook(9.0, kv_usage=0.5, running=2.0, waiting=2.0, deferred=1.0)}


def test_ranks_are_told_apart_whatever_their_names_and_are_ordered_as_numbers() -> None:
    lines = [f'vllm:iteration_tokens_total_count{{engine="{name}"}} {name}' for name in ("10", "9", "8")]
    ranks = read_ranks("\n".join(lines).encode())
    assert {name: rank.steps for name, rank in ranks.items()} == {"8": 8.0, "9": 9.0, "10": 10.0}
    assert in_order(ranks) == ("8", "9", "10")


def test_a_sleeping_rank_is_known_by_the_gauge_that_says_awake() -> None:
    assert read_ranks(ONE_RANK.replace(b'"awake"} 1.0', b'"awake"} 0.0'))["0"].asleep
    assert not read_ranks(ONE_RANK)["0"].asleep


def test_tokens_are_counted_where_steps_are_not() -> None:
    text = b'vllm:prompt_tokens_total{engine="0"} 5\nvllm:generation_tokens_total{engine="0"} 7'
    assert read_ranks(text)["0"].steps == 12.0


def test_requests_that_are_put_off_are_taken_from_those_that_wait_and_never_make_a_negative_number() -> None:
    text = ONE_RANK.replace(b'"deferred"} 1.0', b'"deferred"} 5.0')
    assert read_ranks(text)["0"].waiting == 0.0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"# HELP vllm:iteration_tokens_total_count x\n",
        b'other:iteration_tokens_total_count{engine="0"} 1\n',
        b'vllm:iteration_tokens_total_count{engine="0"} many\n',
        b'vllm:iteration_tokens_total_count{engine="0"} NaN\n',
        b'vllm:iteration_tokens_total_count_more{engine="0"} 1\n',
        b"vllm:iteration_tokens_total_count",
        bytes(range(256)),
    ],
)
def test_a_text_that_counts_nothing_is_told_as_that(text: bytes) -> None:
    with pytest.raises(UncountedError):
        read_ranks(text)


def test_samples_without_labels_or_without_an_engine_are_of_rank_0() -> None:
    assert read_ranks(b"vllm:iteration_tokens_total_count 4")["0"].steps == 4.0
    assert read_ranks(b'vllm:iteration_tokens_total_count{my_engine="3"} 4')["0"].steps == 4.0


def test_values_of_a_rank_that_several_processes_tell_are_added_up() -> None:
    text = b'vllm:prompt_tokens_total{engine="0",pid="1"} 5\nvllm:prompt_tokens_total{engine="0",pid="2"} 7'
    assert read_ranks(text)["0"].steps == 12.0
