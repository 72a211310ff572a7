"""Where connections are at home: an event loop of a process."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from vllm_client.errors import WrongEventLoop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


class Home:
    """The event loop that something belongs to: the first one in which it is used."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop: AbstractEventLoop | None = None

    def enter(self) -> bool:
        """Whether this is the home, or becomes it; False where another one was before, and is gone: now it is this one.

        Without a running loop nothing is used that belongs to one, so any place will do.

        Raises:
            WrongEventLoop: Another loop is the home, and may still be used.
        """
        loop = asyncio.events._get_running_loop()  # noqa: SLF001 - get_running_loop costs an exception where none runs
        if loop is None or (loop is self._loop and self._process == os.getpid()):
            return True
        fresh, gone = self._loop is None, self.is_gone()
        if not (fresh or gone):
            raise WrongEventLoop(
                "the client belongs to another event loop",
                advice="Make a client in each loop, or use SyncVLLMClient, which may be called from everywhere",
            )
        fresh = fresh and self._process == os.getpid()
        self._process, self._loop = os.getpid(), loop
        return fresh

    def is_gone(self) -> bool:
        """Whether what belongs there cannot be used any more: its loop is closed, or in another process."""
        return self._process != os.getpid() or (self._loop is not None and self._loop.is_closed())
