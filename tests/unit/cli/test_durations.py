"""Durations as kubectl takes them."""

from __future__ import annotations

import pytest
import typer

from vllm_operator.cli.durations import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("90s", 90), ("1h30m", 5400), ("1.5m", 90), (".5s", 0.5), ("250ms", 0.25), ("2m1s", 121)],
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "-5s", "5 s", "1d", "5S", "1h,", "٣s", "1e3s", "infs"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 30s, 5m or 1h30m"):
        seconds_of(text)
