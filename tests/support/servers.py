"""Start engines on loopback, the stub or the real one, talk to them, end them.

with stub_server("--served-model-name", "tiny") as server:
    assert server.request("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1}).status == 200
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.vllm_cpu import engine_environment, real_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ENGINE = Path(__file__).with_name("engine.py")
MODEL = "org/tiny"
STUB_START_SECONDS = 30.0
REAL_START_SECONDS = 420.0
"""On two idle cores it takes 35; a cluster and its tests may be running beside it."""
PATIENCE_SECONDS = 240.0
"""For hundreds of steps of the real engine: each takes two processes that look for each other's messages all the time,
which is 40 ms where cores are scarce."""
REAL_FLAGS = ("--max-model-len", "1024", "--enforce-eager", "--kv-cache-memory-bytes", "67108864")
"""Enough for the tiny model, and little memory."""
LANGUAGE_FLAGS = ("--max-model-len", "2048", "--enforce-eager", "--kv-cache-memory-bytes", "268435456")
"""The same for the language model."""

KEPT_PORTS = 100
"""More than one test uses."""
_KEEPERS: collections.deque[socket.socket] = collections.deque()

DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
"""The engine ends with the tests also where those are killed and no block ends it."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whole; the headers' names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """The documents of a stream of server-sent events; the closing [DONE] as that text."""
        found = [line.removeprefix("data: ") for line in self.text.splitlines() if line.startswith("data: ")]
        return [text if text == "[DONE]" else json.loads(text) for text in found]


@dataclass
class EngineServer:
    """An engine's process, and a client for it."""

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path
    api_key: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 20,
    ) -> Answer:
        """One request on a connection of its own.

        Raises:
            OSError: Nobody listens, or no answer came in time (TimeoutError).
        """
        sent = {"Content-Type": "application/json"} if body is not None else {}
        if self.api_key:
            sent["Authorization"] = f"Bearer {self.api_key}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {**sent, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def request_later(self, method: str, path: str, body: object = None) -> Future[Answer]:
        """The same in a thread; the answer comes with `.result()`."""
        future: Future[Answer] = Future()

        def work() -> None:
            try:
                future.set_result(self.request(method, path, body, timeout=PATIENCE_SECONDS))
            except OSError as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def complete(self, prompt: str = "a", *, timeout: float = 20, **fields: object) -> Answer:
        """POST /v1/completions; one token unless told otherwise."""
        return self.request("POST", "/v1/completions", {"prompt": prompt, "max_tokens": 1, **fields}, timeout=timeout)

    def faults(self, **wanted: object) -> None:
        """Change the stub's faults."""
        answer = self.request("POST", "/stub/faults", wanted)
        if answer.status != 200:
            raise ValueError(answer.text)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name (without prefix) that carry these labels.

        Raises:
            KeyError: There are none.
        """
        values = [
            float(line.rsplit(" ", 1)[1])
            for line in self.request("GET", "/metrics").text.splitlines()
            if re.match(rf"vllm:{name}[ {{]", line) and all(f'{key}="{text}"' in line for key, text in labels.items())
        ]
        if not values:
            raise KeyError(name)
        return sum(values)

    def listening(self) -> bool:
        """Whether the port takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        """All that it printed so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_ready(self, seconds: float) -> None:
        """Until /health answers.

        Raises:
            RuntimeError: The process ended, or the time is over; the message ends with its log.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.request("GET", "/health", timeout=2).status == 200:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"the engine is not ready (exit code {self.process.poll()}):\n{self.log()[-4000:]}")

    def wait_exit(self, seconds: float = 30) -> int:
        """The exit code, once the process has ended.

        Raises:
            subprocess.TimeoutExpired: It has not.
        """
        return self.process.wait(timeout=seconds)

    def terminate(self) -> None:
        """Send SIGTERM to the server's process, as kubelet does."""
        self.process.send_signal(signal.SIGTERM)

    def children(self) -> list[int]:
        """All processes of its group but the first."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if path.name != str(self.process.pid) and os.getpgid(int(path.name)) == self.process.pid:
                    found.append(int(path.name))
        return found

    def titled(self, *titles: str) -> list[int]:
        """The engine's processes whose titles begin so: VLLM::EngineCore, VLLM::APIServer_0, VLLM::Worker."""
        beginnings = tuple(title.encode() for title in titles)
        found = []
        for number in self.children():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{number}/cmdline").read_bytes().startswith(beginnings):
                    found.append(number)
        return found

    def child(self, title: str) -> int:
        """One of those.

        Raises:
            ProcessLookupError: There is none.
        """
        found = self.titled(title)
        if not found:
            raise ProcessLookupError(title)
        return found[0]


def cpu_seconds(*processes: int) -> float:
    """What these processes have computed since their starts."""
    fields = [Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split() for number in processes]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def eventually(condition: Callable[[], bool], seconds: float = 15) -> bool:
    """Whether the condition becomes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def free_port() -> int:
    """A port of the loopback address that nobody uses now, and that nobody else is given for a while.

    Tests run side by side, and the kernel would give the port away again before it is used. So a socket stays bound to
    it that never listens: connections are refused, and a server may still bind the port with SO_REUSEADDR, as all do.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    _KEEPERS.append(keeper)
    if len(_KEEPERS) > KEPT_PORTS:
        _KEEPERS.popleft().close()
    return int(keeper.getsockname()[1])


@contextlib.contextmanager
def stub_server(
    *flags: str,
    folder: Path,
    model: str = MODEL,
    env: Mapping[str, str] | None = None,
    api_key: str | None = None,
    wait: bool = True,
) -> Iterator[EngineServer]:
    """The stub engine, ready unless `wait` is false; `folder` takes its log. Ended with the block."""
    command = [sys.executable, str(ENGINE), "serve", model, *flags]
    environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **(env or {})}
    with started(command, environment, folder, api_key) as server:
        if wait:
            server.wait_ready(STUB_START_SECONDS)
        yield server


@contextlib.contextmanager
def real_server(
    *flags: str,
    folder: Path,
    env: Mapping[str, str] | None = None,
    api_key: str | None = None,
    wait: bool = True,
    language: bool = False,
) -> Iterator[EngineServer]:
    """The real engine with its tiny model, or with the `language` model, whose answers have sense; as `stub_server`.

    Raises:
        RuntimeError: It is not installed.
    """
    engine = real_engine().require()
    model, own_flags = (engine.language_model, LANGUAGE_FLAGS) if language else (engine.model, REAL_FLAGS)
    command = [str(engine.command), "serve", str(model), *own_flags, *flags]
    environment = {"PATH": "/usr/bin:/bin", **engine_environment(folder), **(env or {})}
    with started(command, environment, folder, api_key) as server:
        if wait:
            server.wait_ready(REAL_START_SECONDS)
        yield server


@contextlib.contextmanager
def started(
    command: Sequence[str], env: Mapping[str, str], folder: Path, api_key: str | None
) -> Iterator[EngineServer]:
    """The process with an address of its own, in a process group of its own; the whole group ends with the block."""
    port = free_port()
    log_path = folder / f"engine-{port}.log"
    environment = {**env, "VLLM_API_KEY": api_key} if api_key else dict(env)
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*DIE_WITH_US, *command, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,  # not a session: the kernel's autogroups starve the tests beside a busy engine for seconds
        )
        try:
            yield EngineServer(process=process, port=port, log_path=log_path, api_key=api_key)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
