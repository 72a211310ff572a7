"""Messages that tell the same cause are recognised as such."""

from __future__ import annotations

import pytest

from vllm_operator.diagnosis.sameness import causes_in

SAME = [
    (
        "qwen-5d8c9b7f6-x2x5p ended with exit code 1 (Error, 3 restarts): no such model",
        "qwen-66b4d8f7c9-bv5rt ended with exit code 1 (Error, 12 restarts): no such model",
    ),
    ("loads its model since 2026-11-22T11:00:00Z", "loads its model since 2026-11-23T09:30:01.5Z"),
    (
        "no completion for 8 s: /v1/completions does not answer within 4 s",
        "no completion for 21 s: /v1/completions does not answer within 9 s",
    ),
    ("back-off 10s restarting", "back-off 40s restarting"),
    ("pod 0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f is not there", "pod ffffffff-0a1b-0a1b-0a1b-0a1b2c3d4e5f is not there"),
    (
        "4 nodes that it may use have 8, 2 are free (at most 1 on one node), held by model a/b (6): end some",
        "4 nodes that it may use have 8, 0 are free, held by model a/b (6), pod a/c (2) and 3 more: end some",
    ),
    ("a; b; and 2 more", "b; a; and 11 more"),
]
DIFFERENT = [
    ("ended with exit code 1 (Error)", "ended with exit code 137 (Error)"),
    ("/v1/completions: HTTP 500: x", "/v1/completions: HTTP 404: x"),
    ('image "vllm:none" not found', 'image "vllm:other" not found'),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_pods_times_numbers_and_order_do_not_make_another_cause(one: str, other: str) -> None:
    assert causes_in(one) == causes_in(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_exit_codes_statuses_and_words_do(one: str, other: str) -> None:
    assert causes_in(one) != causes_in(other)
