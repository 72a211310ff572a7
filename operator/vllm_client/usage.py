"""How many tokens a request took: told by who knows it, past everything in between that passes only texts on.

The client that talks to the engine calls `report_usage`; whoever wants to know calls it within `usage_reports`.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class TokenUsage:
    """What the engine counted.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens of the answer.
    """

    prompt_tokens: int
    completion_tokens: int


_listeners: ContextVar[tuple[list[TokenUsage], ...]] = ContextVar("vllm_client_usage_listeners", default=())


def report_usage(usage: TokenUsage | None) -> None:
    """Tell what a request took to all who listen around it; nothing where nobody knows."""
    if usage is None:
        return
    for reports in _listeners.get():
        reports.append(usage)


@contextmanager
def usage_reports() -> Iterator[list[TokenUsage]]:
    """What is reported within the block, also by tasks that are started in it."""
    reports: list[TokenUsage] = []
    token = _listeners.set((*_listeners.get(), reports))
    try:
        yield reports
    finally:
        _listeners.reset(token)
