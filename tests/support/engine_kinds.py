"""The stub and the real engine, with what tests do to either."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.processes import stop
from tests.support.engine import Faults
from tests.support.servers import EngineServer, eventually, real_server, stub_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

LOADING = {"STUB_LOAD_SECONDS": "2.5"}
"""As long as a test needs to look at an engine that loads."""

GRAMMAR_SECONDS = 1.5
PACE_SECONDS = 0.03


def tell(server: EngineServer, name: str, wanted: dict[str, object]) -> Callable[[], bool]:
    """Tell the plug-in of a real engine what is to be odd (tests/support/odd_engine).

    Returned is what says whether something that is to happen once has begun: the plug-in takes its file away then.
    """
    folder = server.log_path.parent / "odd-engine"
    folder.mkdir(exist_ok=True)
    written = folder / f"{name}.new"
    written.write_text(json.dumps(wanted), encoding="utf-8")
    told = written.rename(folder / name)
    return lambda: not told.exists()


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

    def slow_step(self, server: EngineServer, seconds: float, **how: object) -> Callable[[], bool]:
        """The next step takes so long; `how` says whether it `computes`, and which `compiler` runs meanwhile.

        Returned is what says whether it has begun.
        """
        return self._odd(server, "step", {"seconds": seconds, "once": True, **how}, "slow_step")

    def slow_first_step(self, server: EngineServer, seconds: float, after: float) -> None:
        """The next step that follows so many seconds without one takes so long."""
        self._odd(server, "idle", {"seconds": seconds, "after": after, "once": True}, "first_step")

    def _odd(self, server: EngineServer, name: str, wanted: dict[str, object], fault: str) -> Callable[[], bool]:
        if self.real:
            return tell(server, name, wanted)
        server.faults(**{fault: wanted})
        return lambda: server.request("GET", "/stub/faults").json()[fault] is None

    def block_server(self, server: EngineServer, seconds: float) -> None:
        """From now on the server's event loop stands still for so long and computes; the real one needs a request.

        A server that is slow to take that request must not be looked at before it stands still.
        """
        if not self.real:
            server.faults(block_server=seconds)
            return
        begun = tell(server, "block", {"seconds": seconds, "computes": True, "once": True})
        server.request_later("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1})
        assert eventually(begun)

    @contextlib.contextmanager
    def paced(self, server: EngineServer) -> Iterator[None]:
        """Steps take PACE_SECONDS longer during the block.

        So what is in flight is still there when a test looks, on a fast machine too, and ends soon after the block.
        """
        self._pace(server, PACE_SECONDS)
        try:
            yield
        finally:
            self._pace(server, 0.0)

    def _pace(self, server: EngineServer, seconds: float) -> None:
        if self.real:
            tell(server, "pace", {"seconds": seconds})
        elif server.process.poll() is None:
            server.faults(step_seconds=Faults().step_seconds + seconds)

    def hung_engine(self, server: EngineServer) -> AbstractContextManager[None]:
        """The engine core stands still during the block."""
        return stopped(server.child("VLLM::EngineCore"))

    def hung_rank(self, server: EngineServer, rank: int) -> AbstractContextManager[None]:
        """One rank of data parallelism stands still during the block."""
        return stopped(server.child(f"VLLM::EngineCore_DP{rank}"))

    def hung_server(self, server: EngineServer) -> AbstractContextManager[None]:
        """The HTTP server stands still during the block."""
        return stopped(server.process.pid)

    def api_servers(self, server: EngineServer) -> int:
        """How many of several API server processes take clients."""
        if self.real:
            return server.log().count("Application startup complete.")
        return len(server.titled("VLLM::APIServer_"))

    def hung_api_server(self, server: EngineServer, number: int) -> AbstractContextManager[None]:
        """One of several API server processes stands still during the block."""
        return stopped(server.child(f"VLLM::APIServer_{number}"))

    def loads(self, server: EngineServer) -> bool:
        """Whether its start is well under way."""
        if not self.real:
            return "Resolved architecture" in server.log()
        with contextlib.suppress(ProcessLookupError):
            return server.child("VLLM::EngineCore") > 0
        return False

    def kill_engine(self, server: EngineServer) -> None:
        """End the engine core, not the server."""
        os.kill(server.child("VLLM::EngineCore"), signal.SIGKILL)


@contextlib.contextmanager
def stopped(process: int) -> Iterator[None]:
    """A process is stopped during the block, which may end it."""
    stop(process)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
