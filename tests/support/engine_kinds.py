"""The stub and the real engine, with what tests do to either."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.engine import Faults
from tests.support.servers import EngineServer, real_server, stub_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

LOADING = {"STUB_LOAD_SECONDS": "2.5"}
"""As long as a test needs to look at an engine that loads."""

GRAMMAR_SECONDS = 1.5


@dataclass(frozen=True)
class Kind:
    """One of the two engines, and how its processes are stopped."""

    real: bool

    def start(
        self,
        *flags: str,
        folder: Path,
        env: Mapping[str, str] | None = None,
        api_key: str | None = None,
        wait: bool = True,
        watched: bool = False,
    ) -> AbstractContextManager[EngineServer]:
        """A server of this kind. The real one always takes its time to load, the stub where its start is `watched`."""
        if self.real:
            return real_server(*flags, folder=folder, env=env, api_key=api_key, wait=wait)
        whole = {**(LOADING if watched else {}), **(env or {})}
        return stub_server(*flags, folder=folder, env=whole, api_key=api_key, wait=wait)

    @contextlib.contextmanager
    def slow_grammars(self, server: EngineServer) -> Iterator[None]:
        """A big schema takes a second during the block, as it does on the real engine in any case."""
        if not self.real:
            server.faults(grammar_seconds=GRAMMAR_SECONDS)
        yield
        if not self.real:
            server.faults(grammar_seconds=0.0)

    @contextlib.contextmanager
    def hurried(self, server: EngineServer) -> Iterator[None]:
        """The stub's steps take no time during the block: what is in flight ends soon, token after token.

        The real engine is as fast as it is.
        """
        if self.real:
            yield
            return
        server.faults(step_seconds=0.0)
        try:
            yield
        finally:
            if server.process.poll() is None:
                server.faults(step_seconds=Faults().step_seconds)

    def hung_engine(self, server: EngineServer) -> AbstractContextManager[None]:
        """The engine core stands still during the block."""
        return self._hung(server, "VLLM::EngineCore", hang_engine=True)

    def hung_rank(self, server: EngineServer, rank: int) -> AbstractContextManager[None]:
        """One rank of data parallelism stands still during the block."""
        return self._hung(server, f"VLLM::EngineCore_DP{rank}", hang_engine=[rank])

    def hung_server(self, server: EngineServer) -> AbstractContextManager[None]:
        """The HTTP server stands still during the block."""
        return self._hung(server, None, hang_server=True)

    @contextlib.contextmanager
    def _hung(self, server: EngineServer, title: str | None, **fault: object) -> Iterator[None]:
        """The real engine's process of that title, or its first one, is stopped; the stub gets the fault."""
        if not self.real:
            server.faults(**fault)
            try:
                yield
            finally:
                server.faults(**dict.fromkeys(fault, False))
            return
        process = server.process.pid if title is None else server.child(title)
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)

    def loads(self, server: EngineServer) -> bool:
        """Whether its start is well under way."""
        if not self.real:
            return "Resolved architecture" in server.log()
        with contextlib.suppress(ProcessLookupError):
            return server.child("VLLM::EngineCore") > 0
        return False

    def kill_engine(self, server: EngineServer) -> None:
        """End the engine core, not the server."""
        if self.real:
            os.kill(server.child("VLLM::EngineCore"), signal.SIGKILL)
        else:
            server.faults(kill_engine=True)
