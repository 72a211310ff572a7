"""Probe of a vLLM engine, run by kubelet in its container.

    probe.py startup|ready|live --port NUMBER --model NAME --state FOLDER [--canary completions|pooling|...]

The exit code is the verdict (0 passes, 1 does not) and the sentence on standard output appears in the pod's Events.
Only what is cheap to import is imported: an http.client, an argparse or a dataclass would cost more time at the start
of the interpreter than everything that is done here.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
if TYPE_CHECKING or __package__:
    from vllm_operator.gates import judge
else:  # in the pod both files lie side by side in one folder
    import judge

LOOK_TIMEOUT_SECONDS = 3.0
"""Deadline of one request. Well below kubelet's own for the whole program, which counts as a verdict too."""

ADMISSION_TIMEOUT_SECONDS = 9.0
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

HTTP_OK = 200
HTTP_UNAUTHORIZED = 401
NO_ENDPOINT = b'{"detail":"Not Found"}'
"""Body of the server's 404 for a path that it does not know; one for a model that it does not know has another."""
ERROR_TEXT_LENGTH = 200
STEP_COUNTER = b"vllm:iteration_tokens_total_count"
CACHE_GAUGE = b"vllm:kv_cache_usage_perc"
IN_FLIGHT_GAUGES = (b"vllm:num_requests_running{", b"vllm:num_requests_waiting{")


class ProbeError(Exception):
    """The engine's answer, or its absence, as a sentence."""


class Engine:
    """The server in this pod."""

    def __init__(self, port: int, model: str, api_key: str | None, canary: str) -> None:
        self.port = port
        self.model = model
        self.api_key = api_key
        self.canary = canary

    def request(self, path: str, body: dict[str, object] | None, timeout: float) -> bytes:
        """One HTTP/1.0 exchange, so that the answer ends with the connection.

        Raises:
            ProbeError: no connection, no answer within `timeout` seconds in all, or a status other than 200.
        """
        deadline = time.monotonic() + timeout
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout) as connection:
                connection.sendall(self._head_and_body(path, body))
                answer = _read_all(connection, deadline)
        except ConnectionRefusedError:
            raise ProbeError(f"nothing listens on port {self.port} yet: the model is still loading") from None
        except TimeoutError:
            raise ProbeError(f"{path} does not answer within {timeout:.0f} s") from None
        except OSError as error:
            raise ProbeError(f"{path}: {error}") from None
        return _content(path, answer)

    def _head_and_body(self, path: str, body: dict[str, object] | None) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.0", "Host: localhost"]
        if self.api_key:
            lines.append(f"Authorization: Bearer {self.api_key}")
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        return "\r\n".join([*lines, "", ""]).encode() + content

    def check_names(self) -> None:
        """Check that the server knows the model under its served name.

        Raises:
            ProbeError: it does not, or does not say.
        """
        listing = _document("/v1/models", self.request("/v1/models", None, LOOK_TIMEOUT_SECONDS))
        served = [str(entry.get("id")) for entry in listing.get("data") or []]
        if self.model not in served:
            raise ProbeError(f"serves {', '.join(served) or 'no model'}, not {self.model}")

    def complete(self, timeout: float) -> None:
        """Complete one prompt: a token of a model that generates, the numbers of one that pools.

        Raises:
            ProbeError: the completion fails, is empty or does not come in time.
            KeyError: there is no such canary.
        """
        path, prompt = CANARIES[self.canary]
        answer = _document(path, self.request(path, {"model": self.model, **prompt}, timeout))
        if not _has_result(self.canary, answer):
            raise ProbeError(f"{path}: a completion came back empty")

    def ranks(self) -> dict[str, judge.Rank]:
        """Steps and requests in flight of each engine core, from /metrics.

        Raises:
            ProbeError: /metrics does not answer, or holds no step counter.
        """
        return read_ranks(self.request("/metrics", None, LOOK_TIMEOUT_SECONDS))


def read_ranks(metrics: bytes) -> dict[str, judge.Rank]:
    """The few lines that are needed out of the metrics, some 50 KB of text.

    Raises:
        ProbeError: there is no step counter: another version of vLLM may call it something else.
    """
    steps: dict[str, float] = {}
    cache: dict[str, float] = {}
    in_flight: dict[str, float] = {}
    sums = ((STEP_COUNTER, steps), (CACHE_GAUGE, cache), (IN_FLIGHT_GAUGES, in_flight))
    for line in metrics.split(b"\n"):
        for start, found in sums:
            if line.startswith(start):
                name, value = _sample(line)
                found[name] = found.get(name, 0.0) + value
    if not steps:
        raise ProbeError("/metrics has no step counter")
    return {name: judge.Rank([count, cache.get(name, 0.0)], in_flight.get(name, 0.0)) for name, count in steps.items()}


def _sample(line: bytes) -> tuple[str, float]:
    """Engine label and value of one line in the Prometheus text format."""
    labels, _, value = line.rpartition(b" ")
    engine = labels.partition(b'engine="')[2].partition(b'"')[0]
    return engine.decode() or "0", float(value)


def _read_all(connection: socket.socket, deadline: float) -> bytes:
    chunks: list[bytes] = []
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        connection.settimeout(remaining)
        chunk = connection.recv(65536)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def _content(path: str, answer: bytes) -> bytes:
    head, _, content = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():  # noqa: PLR2004 # version and status
        raise ProbeError(f"{path}: the connection ended without an answer")
    status = int(words[1])
    if status == HTTP_UNAUTHORIZED:
        raise ProbeError(f"{path}: 401 Unauthorized: VLLM_API_KEY of this container is not a key of the server")
    if content == NO_ENDPOINT:
        raise ProbeError(f"{path}: the server has no such endpoint: does spec.model.runner say what this model does?")
    if status != HTTP_OK:
        text = content[:ERROR_TEXT_LENGTH].decode("utf-8", "replace").strip()
        raise ProbeError(f"{path}: HTTP {status}: {text}")
    return content


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
        text = content[:ERROR_TEXT_LENGTH].decode("utf-8", "replace").strip()
        raise ProbeError(f"{path} does not answer as vLLM does: {text}")
    return document


def _has_result(canary: str, answer: dict[str, Any]) -> bool:
    """Whether the engine has computed something: an answer of status 200 alone does not say so."""
    if canary == "completions":
        return bool(answer.get("choices")) and bool((answer.get("usage") or {}).get("completion_tokens"))
    entries = answer.get("data")
    first = entries[0] if isinstance(entries, list) and entries else None
    return isinstance(first, dict) and bool(first.get(RESULTS[canary]))


def container_birth() -> str:
    """When process 1 started: the state's folder outlives a container's restart, the state must not."""
    with open("/proc/1/stat", encoding="ascii", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[19]


def load_state(path: str, birth: str) -> judge.State:
    """State of an earlier run in this life of the container; a new one where there is none that can be read."""
    try:
        with open(path, encoding="utf-8") as file:
            stored = json.load(file)
        if stored.pop("birth") == birth:
            return judge.State(**stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # not there yet, cut off, or of another version: admission is then proven again
    return judge.State()


def save_state(path: str, birth: str, state: judge.State) -> None:
    """Replace the state's file as a whole, so that no run ever reads half of it."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump({"birth": birth, **state.as_dict()}, file)
    os.replace(temporary, path)


def look(engine: Engine, state: judge.State) -> judge.Evidence:
    """Read the metrics, and ask for a completion where they do not settle it."""
    try:
        ranks: dict[str, judge.Rank] | None = engine.ranks()
    except ProbeError:
        ranks = None  # a failed scrape proves nothing: a canary has to
    now = time.monotonic()
    if not judge.needs_canary(state, now, ranks):
        return judge.Evidence(now=now, ranks=ranks)
    error = None
    try:
        engine.complete(LOOK_TIMEOUT_SECONDS)
    except ProbeError as failure:
        error = str(failure)
    return judge.Evidence(now=now, ranks=ranks, canary_ran=True, canary_error=error)


def admit(engine: Engine) -> judge.Verdict:
    """The first proof: the server knows the served name and completes a prompt."""
    try:
        engine.check_names()
        engine.complete(ADMISSION_TIMEOUT_SECONDS)
    except ProbeError as failure:
        return judge.Verdict(passes=False, sentence=str(failure))
    return judge.Verdict(passes=True, sentence="completed its first prompt")


def run(mode: str, engine: Engine, folder: str) -> judge.Verdict:
    """One run of the program. Runs of the same pod wait for each other: they share the state."""
    path = os.path.join(folder, "state.json")
    birth = container_birth()
    with open(f"{path}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = load_state(path, birth)
        if mode == "startup" or (mode == "ready" and not state.admitted):
            verdict = admit(engine)
            if verdict.passes:
                save_state(path, birth, judge.State(admitted=True, proven_at=time.monotonic()))
            return verdict
        evidence = look(engine, state)
        state = judge.observe(state, evidence)
        save_state(path, birth, state)
        return judge.live(state, evidence) if mode == "live" else judge.ready(state, evidence)


def options(words: list[str]) -> dict[str, str]:
    """`--name value` pairs. The operator writes them, so anything else is a mistake in its rendering.

    Raises:
        KeyError: an option is missing, found where it is used; --canary alone may be, in pods of an older operator.
    """
    return dict(zip((word.lstrip("-") for word in words[::2]), words[1::2]))  # noqa: B905 # strict= is new in 3.10


def main(words: list[str]) -> int:
    """Run one probe and return its exit code.

    A mistake in this program must not take engines away that have proved themselves: only the startup probe fails on
    an unexpected error. Kubelet runs the other two only after that one has passed.
    """
    mode = words[0]
    try:
        given = options(words[1:])
        key, canary = os.environ.get("VLLM_API_KEY"), given.get("canary", "completions")
        engine = Engine(int(given["port"]), given["model"], key, canary)
        verdict = run(mode, engine, given["state"])
    except Exception as error:  # noqa: BLE001 # the last line of defence, see above
        verdict = judge.Verdict(passes=mode != "startup", sentence=f"the gate itself failed: {error!r}")
    sys.stdout.write(verdict.sentence + "\n")
    return 0 if verdict.passes else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
