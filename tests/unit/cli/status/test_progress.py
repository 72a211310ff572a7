"""How far an engine has come, and how fast."""

from __future__ import annotations

import pytest

from vllm_operator.cli.status.progress import BYTES, Downloaded, Progress, bytes_per_second, progress_of, size


@pytest.mark.parametrize(
    ("detail", "progress"),
    [
        ("3 of 8 shards", Progress(3, 8, "shards")),
        ("0 of 12 files", Progress(0, 12, "files")),
        ("1.5 GB of 4.5 GB", Progress(1.5e9, 4.5e9, BYTES)),
        ("900 MB of 1.8 GB", Progress(9e8, 1.8e9, BYTES)),
        ("1 GiB of 4 GiB", Progress(2.0**30, 2.0**32, BYTES)),
    ],
)
def test_what_a_manager_counts_is_read(detail: str, progress: Progress) -> None:
    assert progress_of(detail) == progress


@pytest.mark.parametrize(
    "detail",
    ["", "5.62 GiB", "from the cache", "9 of 8 shards", "0 of 0 files", "1.2.3 of 4 files", "some of 8 shards"],
)
def test_what_counts_nothing_is_no_progress(detail: str) -> None:
    assert progress_of(detail) is None


@pytest.mark.parametrize(
    ("before", "after", "rate"),
    [
        (Downloaded(100, 10.0), Downloaded(500, 12.0), 200),
        (Downloaded(500, 10.0), Downloaded(500, 12.0), None),
        (Downloaded(500, 10.0), Downloaded(100, 12.0), None),
        (Downloaded(100, 10.0), Downloaded(500, 10.1), None),
        (Downloaded(100, 10.0), Downloaded(500, 4.0), None),
        (None, Downloaded(500, 12.0), None),
        (Downloaded(100, 10.0), None, None),
    ],
    ids=["grows", "stands", "shrinks", "at once", "another node", "one look", "not seen"],
)
def test_a_rate_is_how_much_the_disk_grew_and_is_never_made_up(
    before: Downloaded | None, after: Downloaded | None, rate: float | None
) -> None:
    assert bytes_per_second(before, after) == rate


def test_sizes_are_told_as_people_read_them() -> None:
    assert [size(0), size(1023), size(2048), size(1.5 * 2**30), size(2.0**52)] == [
        *("0 B", "1023 B", "2.0 KiB", "1.5 GiB", "4096.0 TiB")
    ]
