"""The stub and the real engine, with what tests do to either."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.servers import EngineServer, real_server, stub_server
from tests.support.vllm_cpu import real_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

LOADING = {"STUB_LOAD_SECONDS": "2.5"}


@dataclass(frozen=True)
class Kind:
    """One of the two engines, and how its processes are stopped."""

    real: bool

    @staticmethod
    def of(name: str) -> Kind:
        """That of a fixture's parameter: stub or real.

        Raises:
            RuntimeError: The real engine is not installed.
        """
        if name == "real":
            real_engine().require()
        return Kind(real=name == "real")

    def start(
        self, *flags: str, folder: Path, api_key: str | None = None, wait: bool = True
    ) -> AbstractContextManager[EngineServer]:
        """A server of this kind."""
        if self.real:
            return real_server(*flags, folder=folder, api_key=api_key, wait=wait)
        return stub_server(*flags, folder=folder, env=LOADING, api_key=api_key, wait=wait)

    @contextlib.contextmanager
    def hung_engine(self, server: EngineServer) -> Iterator[None]:
        """The engine core stands still during the block."""
        with self._hung(server, "hang_engine", server.child("VLLM::EngineCore") if self.real else 0):
            yield

    @contextlib.contextmanager
    def hung_rank(self, server: EngineServer, rank: int) -> Iterator[None]:
        """One rank of data parallelism stands still during the block."""
        with self._hung(server, "hang_engine", server.child(f"VLLM::EngineCore_DP{rank}") if self.real else 0, [rank]):
            yield

    @contextlib.contextmanager
    def hung_server(self, server: EngineServer) -> Iterator[None]:
        """The HTTP server stands still during the block."""
        with self._hung(server, "hang_server", server.process.pid):
            yield

    @contextlib.contextmanager
    def _hung(self, server: EngineServer, fault: str, process: int, whom: object = True) -> Iterator[None]:  # noqa: FBT002 # the stub's faults are JSON
        if not self.real:
            server.faults(**{fault: whom})
        else:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            if self.real:
                os.kill(process, signal.SIGCONT)
            else:
                server.faults(**{fault: False})

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
