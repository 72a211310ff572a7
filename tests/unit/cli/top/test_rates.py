"""What two samples of an engine's metrics show."""

from __future__ import annotations

import pytest

from vllm_operator.cli.top.rates import OddMetricsError, Rates, rates, together, values


def text(prompt: float, generated: float, queries: float = 0, hits: float = 0, *, engine: int = 0) -> str:
    """Metrics of one engine core."""
    labels = f'{{engine="{engine}",model_name="org/a \\"b\\""}}'
    return (
        f"vllm:prompt_tokens_total{labels} {prompt}\n"
        f"vllm:generation_tokens_total{labels} {generated}\n"
        f"vllm:num_requests_running{labels} 3.0\n"
        f"vllm:num_requests_waiting{labels} 2.0\n"
        f'vllm:num_requests_waiting_by_reason{{engine="{engine}",reason="deferred"}} 9.0\n'
        f"vllm:kv_cache_usage_perc{labels} 0.{engine + 1}\n"
        f"vllm:prefix_cache_queries_total{labels} {queries}\n"
        f"vllm:prefix_cache_hits_total{labels} {hits}\n"
    )


def test_counters_become_rates_and_gauges_stay_as_they_are() -> None:
    found = rates(values(text(100, 50, 80, 20)), values(text(300, 90, 120, 50)), 2.0)
    assert found == Rates(
        prompt_tokens_per_second=100,
        generated_tokens_per_second=20,
        running=3,
        waiting=2,
        kv_cache_usage=0.1,
        prefix_cache_hits=0.75,
        prefix_cache_hits_since_start=50 / 120,
    )


def test_engine_cores_are_added_up_and_the_fullest_cache_counts() -> None:
    before = values(text(100, 50) + text(10, 5, engine=1))
    after = values(text(200, 60) + text(20, 10, engine=1))
    found = rates(before, after, 1.0)
    assert (found.prompt_tokens_per_second, found.generated_tokens_per_second) == (110, 15)
    assert (found.running, found.kv_cache_usage) == (6, 0.2)


def test_what_is_not_known_is_not_made_up() -> None:
    started_anew = rates(values(text(100, 50)), values(text(3, 1)), 1.0)
    assert (started_anew.prompt_tokens_per_second, started_anew.generated_tokens_per_second) == (None, None)
    assert started_anew.running == 3
    idle = rates(values(text(100, 50, 80, 20)), values(text(100, 50, 80, 20)), 1.0)
    assert (idle.generated_tokens_per_second, idle.prefix_cache_hits) == (0, None)
    assert idle.prefix_cache_hits_since_start == 0.25
    assert rates({}, {}, 1.0) == Rates()


def test_several_engines_together() -> None:
    one, unknown = rates(values(text(0, 0)), values(text(10, 4)), 2.0), Rates()
    assert together([one, one, unknown]) == Rates(10, 4, 6, 4)
    assert together([unknown]) == Rates()


@pytest.mark.parametrize(
    "odd", ["<html>", "vllm:prompt_tokens_total many\n", 'vllm:prompt_tokens_total{engine="0" 1\n']
)
def test_what_is_no_metrics_is_said_to_be_none(odd: str) -> None:
    with pytest.raises(OddMetricsError):
        values(odd)
