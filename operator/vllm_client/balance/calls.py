"""What several requests have in common that a client makes for one call."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Call:
    """What one call of the client may cost, where it makes several requests.

    It does so where a stream breaks off before its first text, and is asked for once more.

    Attributes:
        deadline: When its answer must have begun; None until the first request says it.
        computed: How often an engine has taken up its prompt in vain.
    """

    deadline: float | None = None
    computed: int = 0


CALL: ContextVar[Call | None] = ContextVar("vllm_client_call", default=None)
"""The call that a request belongs to; a request without one is a call of its own."""
