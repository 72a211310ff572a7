"""Looking at something again and again, whatever happens to single looks.

What is there is read anew at each look: no watch of the API server is held, so none can expire.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from vllm_operator.cli.kubectl import KubectlError
from vllm_operator.cli.rollout.waiting import UNREAD_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAUSE_SECONDS: Final = 2.0
PAUSE_SHARE: Final = 5
"""A look that takes long, at a thousand models or at an API server with much to do, is followed by so much longer a
pause."""

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class Look(Generic[Seen]):
    """One look."""

    seen: Seen
    """What is there, or was there at the last look that brought something."""
    unread: str = ""
    """Why this look has brought nothing; empty where it has."""


def looks(read: Callable[[Seen | None], Seen]) -> Iterator[Look[Seen]]:
    """What is there, until the caller has seen enough. `read` is given what it brought the time before.

    A first look that fails is a wrong name, or no rights. Of later ones some may fail, for a minute.

    Raises:
        KubectlError: nothing could be read for longer.
    """
    began = time.monotonic()
    last = read(None)
    read_at = time.monotonic()
    yield Look(last)
    while True:
        time.sleep(max(PAUSE_SECONDS, PAUSE_SHARE * (time.monotonic() - began)))
        began = time.monotonic()
        try:
            last = read(last)
        except KubectlError as error:
            if time.monotonic() - read_at > UNREAD_SECONDS:
                raise
            yield Look(last, str(error))
        else:
            read_at = time.monotonic()
            yield Look(last)
