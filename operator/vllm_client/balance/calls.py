"""What several requests have in common that a client makes for one call."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Call:
    """What one call of the client may cost, where it makes several requests.

    It does so where only the client sees that an answer is none, or a stream breaks off before its first text.

    Attributes:
        deadline: When its answer must have begun; None until the first request says it.
        computed: How often an engine has taken up its prompt in vain.
    """

    deadline: float | None = None
    computed: int = 0


CALL: ContextVar[Call | None] = ContextVar("vllm_client_call", default=None)
"""The call that a request belongs to; a request without one is a call of its own."""


@contextmanager
def part_of(call: Call) -> Iterator[None]:
    """Have the requests that are made meanwhile belong to that call."""
    token = CALL.set(call)
    try:
        yield
    finally:
        CALL.reset(token)
