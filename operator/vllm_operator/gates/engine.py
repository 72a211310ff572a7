"""The vLLM server in this pod, over HTTP on the loopback: what it serves, what it completes, what it counts."""

from __future__ import annotations

import contextlib
import json
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

if TYPE_CHECKING or __package__:
    from vllm_operator.gates import judge
else:  # in the pod the files lie side by side in one folder
    import judge

METRICS_SECONDS = 3.0
"""Deadline of a look at the metrics. All deadlines of a run add up to less than kubelet's, which is a verdict too."""

HEALTH_SECONDS = 1.0
"""Deadline of /health, which costs the server nothing: asked only where the metrics show no step."""

PAUSED_SECONDS = 0.5
"""Deadline of /is_paused, which the engine core answers itself: a hung one does not."""

ADMISSION_SECONDS = 9.0
"""Deadline of the first completion: kernels are compiled and caches are cold."""

CANARIES: dict[str, tuple[str, dict[str, object]]] = {
    "completions": ("/v1/completions", {"prompt": "a", "max_tokens": 1}),
    "embeddings": ("/v1/embeddings", {"input": "a"}),
    "classify": ("/classify", {"input": "a"}),
    "pooling": ("/pooling", {"input": "a"}),
}
"""The smallest work that each kind of model can do. Every pooling model has /pooling, whatever it pools for."""

RESULTS = {"embeddings": "embedding", "classify": "probs", "pooling": "data"}
"""Where the first entry of a pooling answer has its numbers."""

HTTP_OK, HTTP_CLIENT_ERROR, HTTP_UNAUTHORIZED = 200, 400, 401
HTTP_TOO_MANY, HTTP_SERVER_ERROR, HTTP_UNAVAILABLE = 429, 500, 503
NO_ENDPOINT = b'{"detail":"Not Found"}'
"""Body of the server's 404 for a path that it does not know; one for a model that it does not know has another."""
ERROR_TEXT_LENGTH = 200

RANK_HEADER = "X-data-parallel-rank"
"""vLLM's own, for routers that know the ranks of data parallelism."""

STEP_COUNTER = b"vllm:iteration_tokens_total_count"
TOKEN_COUNTERS = (b"vllm:prompt_tokens_total", b"vllm:generation_tokens_total")
CACHE_GAUGE = b"vllm:kv_cache_usage_perc"
IN_FLIGHT_GAUGES = (b"vllm:num_requests_running", b"vllm:num_requests_waiting")
DEFERRED_GAUGE, DEFERRED_LABEL = b"vllm:num_requests_waiting_by_reason", b'reason="deferred"'
"""Waiting requests that wait for something else than room: a grammar, a KV cache, more input."""
SLEEP_GAUGE, AWAKE_LABEL = b"vllm:engine_sleep_state", b'sleep_state="awake"'
"""0 from the moment at which the engine sleeps, at whatever level, until all of it is awake."""

CONNECTION_TABLES = ("/proc/self/net/tcp", "/proc/self/net/tcp6")
ESTABLISHED = "01"


class ProbeError(Exception):
    """The engine's answer, or its absence: a word for programs and a sentence for people.

    Causes: Loading (nothing listens), Silent (no answer in time), Unauthorized, WrongModel, NoEndpoint, Busy (a full
    queue turns requests away), Refused (another status 4xx), Failing (status 5xx), Empty, NotVLLM, NoMetrics.
    """

    def __init__(self, cause: str, sentence: str) -> None:
        super().__init__(sentence)
        self.cause = cause
        self.rank: str | None = None
        """The rank of data parallelism that was asked, where it was not the server that chose."""


class Engine:
    """The server in this pod."""

    def __init__(
        self,
        port: int,
        model: str,
        api_key: str | None,
        canary: str,
        adapters: tuple[str, ...] = (),
        *,
        development: bool = False,
    ) -> None:
        self.port = port
        self.model = model
        self.api_key = api_key
        self.canary = canary
        self.adapters = adapters
        """Names of LoRA adapters that are to be served beside the model; they can come and go at run time."""
        self.development = development
        """Whether the server is in its development mode, in which it can be paused and says so."""

    def request(self, path: str, body: dict[str, object] | None, timeout: float) -> bytes:
        """One HTTP/1.0 exchange, so that the answer ends with the connection.

        Raises:
            ProbeError: no connection, no answer within `timeout` seconds in all, or a status other than 200.
        """
        deadline = time.monotonic() + timeout
        with socket.socket() as connection, self._troubles(path, timeout):
            self._ask(connection, path, body, timeout)
            return _content(path, _read_all(connection, deadline))

    def _ask(
        self,
        connection: socket.socket,
        path: str,
        body: dict[str, object] | None,
        timeout: float,
        rank: str | None = None,
    ) -> None:
        connection.settimeout(timeout)
        connection.connect(("127.0.0.1", self.port))  # create_connection loads the tables of IDNA, 2 ms
        connection.sendall(self._head_and_body(path, body, rank))

    @contextlib.contextmanager
    def _troubles(self, path: str, timeout: float) -> Iterator[None]:
        """What goes wrong with a connection, told as ProbeError."""
        try:
            yield
        except ConnectionRefusedError:
            raise ProbeError("Loading", f"nothing listens on port {self.port}") from None
        except socket.timeout:  # noqa: UP041 # only since 3.10 the same as TimeoutError
            raise ProbeError("Silent", f"{path} does not answer within {timeout:.0f} s") from None
        except OSError as error:
            raise ProbeError("Failing", f"{path}: {error}") from None

    def _head_and_body(self, path: str, body: dict[str, object] | None, rank: str | None) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.0", "Host: localhost"]
        if self.api_key:
            lines.append(f"Authorization: Bearer {self.api_key}")
        if rank is not None:
            lines.append(f"{RANK_HEADER}: {rank}")
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        return "\r\n".join([*lines, "", ""]).encode() + content

    def check_names(self, timeout: float) -> None:
        """Check that the server knows the model under its served name, and its adapters.

        Raises:
            ProbeError: it does not, or does not say.
        """
        listing = _document("/v1/models", self.request("/v1/models", None, timeout))
        served = [str(entry.get("id")) for entry in listing.get("data") or []]
        missing = [name for name in (self.model, *self.adapters) if name not in served]
        if missing:
            raise ProbeError("WrongModel", f"serves {', '.join(served) or 'no model'}, not {', '.join(missing)}")

    def complete(self, timeout: float, ranks: Sequence[str | None] = (None,)) -> None:
        """Complete one prompt: a token of a model that generates, the numbers of one that pools.

        Args:
            timeout: Seconds until the answer.
            ranks: Of data parallelism, each of which has to complete one at the same time. None leaves the choice to
                the server. So do endpoints that pool, and a vLLM that does not know the header.

        Raises:
            ProbeError: a completion fails, is empty or does not come in time; it has the rank.
            KeyError: there is no such canary.
        """
        path, prompt = CANARIES[self.canary]
        deadline = time.monotonic() + timeout
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(socket.socket()) for _ in ranks]
            with self._troubles(path, timeout):
                for rank, connection in zip(ranks, connections):  # noqa: B905 # strict= is new in 3.10
                    self._ask(connection, path, {"model": self.model, **prompt}, timeout, rank)
            for rank, connection in zip(ranks, connections):  # noqa: B905 # as above
                try:
                    with self._troubles(path, timeout):
                        self._check_result(path, _content(path, _read_all(connection, deadline)))
                except ProbeError as failure:
                    failure.rank = rank
                    raise

    def _check_result(self, path: str, content: bytes) -> None:
        if not _has_result(self.canary, _document(path, content)):
            raise ProbeError("Empty", f"{path}: a completion came back empty")

    def ranks(self, timeout: float) -> dict[str, judge.Rank]:
        """Steps and requests in flight of each engine core, from /metrics.

        Raises:
            ProbeError: /metrics does not answer, or counts neither steps nor tokens.
        """
        return read_ranks(self.request("/metrics", None, timeout))

    def health(self) -> None:
        """Ask the server for what it believes.

        Raises:
            ProbeError: it says that its engine is dead (Busy, as every status 503), or does not answer.
        """
        self.request("/health", None, HEALTH_SECONDS)

    def paused(self) -> bool | None:
        """Whether the engine was paused; None where the server does not say."""
        if not self.development:
            return None
        try:
            told = _document("/is_paused", self.request("/is_paused", None, PAUSED_SECONDS)).get("is_paused")
        except ProbeError:
            return None
        return told if isinstance(told, bool) else None

    def callers(self) -> int | None:
        """Open connections to the server, whoever holds them: without one there is no request in flight.

        A request of our own that was given up may be among them for a moment, which errs to the safe side. None where
        the kernel does not say.
        """
        try:
            return sum(count_connections(table, self.port) for table in _tables())
        except (OSError, ValueError, IndexError):
            return None


def _tables() -> list[str]:
    texts = []
    for path in CONNECTION_TABLES:
        with open(path, encoding="ascii", errors="replace") as table:
            texts.append(table.read())
    return texts


def count_connections(table: str, port: int) -> int:
    """Established connections to a local port in a table of /proc/net."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return sum(row[3] == ESTABLISHED and int(row[1].rpartition(":")[2], 16) == port for row in rows)


def read_ranks(metrics: bytes) -> dict[str, judge.Rank]:
    """The few lines that are needed out of the metrics, some 50 KB of text.

    Raises:
        ProbeError: there is neither a step counter nor one of tokens: another version of vLLM may name them otherwise.
    """
    steps: dict[str, float] = {}
    tokens: dict[str, float] = {}
    cache: dict[str, float] = {}
    in_flight: dict[str, float] = {}
    deferred: dict[str, float] = {}
    awake: dict[str, float] = {}
    wanted = {STEP_COUNTER: (steps, b""), CACHE_GAUGE: (cache, b"")}
    wanted.update(dict.fromkeys(TOKEN_COUNTERS, (tokens, b"")))
    wanted.update(dict.fromkeys(IN_FLIGHT_GAUGES, (in_flight, b"")))
    wanted.update({DEFERRED_GAUGE: (deferred, DEFERRED_LABEL), SLEEP_GAUGE: (awake, AWAKE_LABEL)})
    for line in metrics.split(b"\n"):
        found, label = wanted.get(line.partition(b"{")[0].partition(b" ")[0], (None, b""))
        if found is not None and label in line:
            name, value = _sample(line)
            found[name] = found.get(name, 0.0) + value
    counted = steps or tokens
    if not counted:
        raise ProbeError("NoMetrics", "/metrics counts neither steps nor tokens")
    return {
        name: judge.Rank(
            [count, cache.get(name, 0.0)],
            max(0.0, in_flight.get(name, 0.0) - deferred.get(name, 0.0)),
            asleep=awake.get(name) == 0.0,
        )
        for name, count in counted.items()
    }


def _sample(line: bytes) -> tuple[str, float]:
    """Engine label and value of one line in the Prometheus text format.

    Raises:
        ProbeError: the line has no number.
    """
    labels, _, value = line.rpartition(b" ")
    engine = labels.partition(b'engine="')[2].partition(b'"')[0]
    try:
        return engine.decode("utf-8", "replace") or "0", float(value)
    except ValueError:
        raise ProbeError("NoMetrics", "/metrics is not understood") from None


def _read_all(connection: socket.socket, deadline: float) -> bytes:
    chunks: list[bytes] = []
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise socket.timeout  # noqa: UP041 # see above
        connection.settimeout(remaining)
        chunk = connection.recv(65536)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def _content(path: str, answer: bytes) -> bytes:
    head, _, content = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():  # noqa: PLR2004 # version and status
        raise ProbeError("Failing", f"{path}: the connection ended without an answer")
    status = int(words[1])
    if status == HTTP_UNAUTHORIZED:
        told = f"{path}: 401 Unauthorized: VLLM_API_KEY of this container is not a key of the server"
        raise ProbeError("Unauthorized", told)
    if content == NO_ENDPOINT:
        told = f"{path}: the server has no such endpoint: does spec.model.runner say what this model does?"
        raise ProbeError("NoEndpoint", told)
    if status != HTTP_OK:
        raise ProbeError(_cause(status), f"{path}: HTTP {status}: {_text(content)}")
    return content


def _cause(status: int) -> str:
    if status in (HTTP_TOO_MANY, HTTP_UNAVAILABLE):
        return "Busy"
    return "Refused" if HTTP_CLIENT_ERROR <= status < HTTP_SERVER_ERROR else "Failing"


def _text(content: bytes) -> str:
    """The beginning of an answer on one line: it becomes part of a sentence."""
    return " ".join(content[:ERROR_TEXT_LENGTH].decode("utf-8", "replace").split())


def _document(path: str, content: bytes) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        ProbeError: it is none, so the engine did not do what it was asked.
    """
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ProbeError("NotVLLM", f"{path} does not answer as vLLM does: {_text(content)}")
    return document


def _has_result(canary: str, answer: dict[str, Any]) -> bool:
    """Whether the engine has computed something: an answer of status 200 alone does not say so."""
    if canary == "completions":
        return bool(answer.get("choices")) and bool((answer.get("usage") or {}).get("completion_tokens"))
    entries = answer.get("data")
    first = entries[0] if isinstance(entries, list) and entries else None
    return isinstance(first, dict) and bool(first.get(RESULTS[canary]))
