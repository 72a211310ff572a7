"""Which changes of a status are announced."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.planner.news import News, news_of


def status(ready: str, reason: str, message: str = "why") -> dict[str, Any]:
    """A status with its Ready condition."""
    return {"conditions": [{"type": "Ready", "status": ready, "reason": reason, "message": message}]}


STARTING, SERVING = status("False", "EnginesStarting"), status("True", "AllEnginesServe")
WITHDRAWN, FAILING = status("False", "EnginesWithdrawn"), status("False", "EnginesFailing")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (STARTING, SERVING, ("Normal", "AllEnginesServe")),
        (SERVING, WITHDRAWN, ("Warning", "EnginesWithdrawn")),
        (WITHDRAWN, SERVING, ("Normal", "AllEnginesServe")),
        (STARTING, FAILING, ("Warning", "EnginesFailing")),
        (FAILING, status("False", "WrongModel"), ("Warning", "WrongModel")),
        (FAILING, status("False", "ProgressDeadlineExceeded"), ("Warning", "ProgressDeadlineExceeded")),
        ({}, status("False", "InvalidSpec"), ("Warning", "InvalidSpec")),
        ({}, STARTING, None),
        (SERVING, status("False", "RollingOut"), None),
        (SERVING, status("False", "ScaledToZero"), None),
        (SERVING, SERVING, None),
        (FAILING, status("False", "EnginesFailing", "another restart"), None),
    ],
)
def test_what_needs_attention_and_its_end_are_news(
    before: dict[str, Any], after: dict[str, Any], told: tuple[str, str] | None
) -> None:
    news = news_of({"status": before} if before else {}, after)
    assert (news and (news.type, news.reason)) == told


def test_a_message_is_no_longer_than_an_event_may_be() -> None:
    assert news_of({}, status("False", "ChildRefused", "x" * 2048)) == News("Warning", "ChildRefused", "x" * 1024)
