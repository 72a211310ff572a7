"""How long to wait before another try."""

from __future__ import annotations

import pytest

from vllm_operator.cluster.backoff import LONGEST_RETRY_AFTER_SECONDS, delay_seconds, retry_after_seconds


@pytest.mark.parametrize(("failures", "most"), [(0, 0.2), (1, 0.4), (3, 1.6), (10, 5.0), (100_000, 5.0)])
def test_it_doubles_up_to_the_longest(failures: int, most: float) -> None:
    found = [delay_seconds(failures, first=0.2, longest=5.0) for _ in range(100)]
    assert most / 2 <= min(found) <= max(found) <= most
    assert len(set(found)) > 1, "not all come back at once"


def test_it_is_never_shorter_than_the_server_asks_and_bounded_all_the_same() -> None:
    assert 7 <= delay_seconds(0, first=0.2, longest=5.0, at_least=7) <= 7 * 1.25
    assert delay_seconds(0, first=0.2, longest=5.0, at_least=1e9) <= LONGEST_RETRY_AFTER_SECONDS * 1.25


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 0), ("", 0), ("12", 12), ("-1", 0), ("Wed, 25 Nov 2026 23:50:00 GMT", 0)]
)
def test_a_header_is_read_as_seconds(header: str | None, seconds: float) -> None:
    assert retry_after_seconds(header) == seconds
