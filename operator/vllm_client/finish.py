"""How answers of an engine end, as bytes and as words: which ends are none."""

from __future__ import annotations

import re
from typing import Final

GIVEN_UP: Final = frozenset({"abort", "error"})
"""`finish_reason`s of vLLM that say that the engine has ended an answer before it was one."""

_LONGEST: Final = 32
"""Bytes of what is looked for at most, where it is not padded."""
_WORDS: Final = b"|".join(word.encode() for word in sorted(GIVEN_UP))
_GIVEN_UP: Final = re.compile(rb'"finish_reason"\s*:\s*"(?:%b)"' % _WORDS)
_ERROR: Final = re.compile(rb'^data: ?\{\s*"(?:error"|object"\s*:\s*"error")', re.MULTILINE)
"""The event that says that nothing more comes; the second form is that of vLLM before 0.10."""
_DONE: Final = b"data: [DONE]"


def gives_up(body: bytes) -> bool:
    """Whether an answer says that it is none. Within a text of JSON its quotation marks would be escaped."""
    return _GIVEN_UP.search(body) is not None


class StreamEnd:
    """How a stream of server-sent events ends, by its bytes.

    Args:
        is_completion: Whether it has to end with `[DONE]`, as completions do, and other streams of OpenAI's do not.

    Attributes:
        done: Whether the end has come.
        given_up: Whether the engine has said that it gives up, or has failed.
    """

    def __init__(self, *, is_completion: bool) -> None:
        self.done = not is_completion
        self.given_up = False
        self._rest = b""

    def take(self, chunk: bytes) -> None:
        """Take in what has come; where it is cut makes no difference."""
        seen = self._rest + chunk
        self.given_up = self.given_up or gives_up(seen) or _ERROR.search(seen) is not None
        self.done = self.done or _DONE in seen
        self._rest = seen[-_LONGEST:]
