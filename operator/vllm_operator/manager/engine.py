"""The vLLM server in this pod, over HTTP: what it says of itself, what it serves, what it completes.

Samples are taken by one thread, over one connection that is kept. All other questions may come from any thread, and
each has a connection of its own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from dataclasses import dataclass

from . import canaries, evidence, holders, metrics, realtime
from .exchange import Answer, ClosedError, Connection, EngineError, shown
from .listeners import Places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from .evidence import RankLook
    from .settings import Settings
    from .tls import Tls

__all__ = ["Engine", "EngineError", "Sample", "outcome_of"]

METRICS_SHARE = 0.6
"""Of a sample's time for the metrics; the rest is for /health, where they do not come."""

HEALTH_SECONDS, PAUSED_SECONDS = 1.0, 0.5
"""Deadlines of what costs the server nothing, and of what the engine core answers itself: a hung one does not."""

WHOLE_METRICS = "/metrics"
FEW_METRICS = "/metrics/?" + "&".join(f"name%5B%5D={name.decode()}" for name in metrics.NAMES)
"""The same for the metrics that are read: with the slash the library's own page answers, which knows `name[]`.

Measured on vLLM 0.32: 0.26 ms of the server's time and 2 KB, against 2.2 ms and 51 KB. Where several API servers share
their metrics it is empty, and an older or other server may not have it: then all are read.
"""

RANK_HEADER = "X-data-parallel-rank"
"""vLLM's own, for routers that know the ranks of data parallelism: the number of one among those of this server."""

KEY_VARIABLE = "VLLM_API_KEY"
"""Clients' key. Where there are several, the operator gives the first to clients and to us by this name."""

LORA_VARIABLE, DEVELOPMENT_VARIABLE = "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_SERVER_DEV_MODE"
LOOPBACK_VARIABLE = "GATE_LOOPBACK"
"""`allowed`: a server that listens on the loopback alone is right, since a proxy in the pod serves its port."""

SCALING_WORDS = b"model is currently scaling"
"""In the 503 with which vLLM answers everything while elastic expert parallelism adds or removes ranks."""

HTTP_BAD_REQUEST, HTTP_UNAUTHORIZED, HTTP_NOT_FOUND, HTTP_TOO_MANY = 400, 401, 404, 429
HTTP_OK, HTTP_SERVER_ERROR, HTTP_NOT_IMPLEMENTED, HTTP_UNAVAILABLE = 200, 500, 501, 503
ERROR_TEXT_LENGTH, READ_OF_ERROR = 200, 4096
SHOWN_NAMES = 10

OUTCOMES = {
    "Silent": evidence.UNANSWERED,
    "Busy": evidence.BUSY,
    "Scaling": evidence.BUSY,
    "Unasked": evidence.BUSY,
    **dict.fromkeys(
        ("Unauthorized", "WrongModel", "NoEndpoint", "Refused", "LoopbackOnly", "PortTaken"), evidence.REFUSED
    ),
}
"""What a canary's failure means to the judge, by its cause; all others are failures of the engine. A canary that we
could not send says as little as one that a full queue turned away."""

HOLDER_SECONDS = 5.0
"""How long it is known whose server has the port: all descriptors of all processes tell, some milliseconds' work."""

OF_ANOTHER = ("Unauthorized", "WrongModel", "NoEndpoint", "Refused", "LoopbackOnly", "Failing", "Empty")
"""Causes that are none of the engine where another's server has its port."""


def outcome_of(error: EngineError) -> str:
    """What a canary's failure means to the judge."""
    return OUTCOMES.get(error.cause, evidence.FAILED)


@dataclass(frozen=True)
class Sample:
    """What the server said of itself when it was asked."""

    server: str
    """One of ANSWERS, REFUSES, SILENT, SAYS_DEAD, SCALING of `evidence`."""
    ranks: Mapping[str, RankLook] | None = None
    """By their names in the metrics; None where these could not be read, or were not understood."""
    paused: bool = False
    """Whether the engine is paused, by the server's last word: while weights are updated it may not say."""
    connections: int | None = None
    """Open connections of others. Counted where the metrics could not be read; None otherwise, and where the kernel
    does not say."""
    trouble: str = ""
    """What stood in the way of the metrics, for people."""


class Engine:
    """The server in this pod."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        """A server that may not be there yet.

        Args:
            settings: The operator's.
            environment: The container's: it holds the API key and says what the server allows.
        """
        self._settings = settings
        self._environment = environment
        self._key = environment.get(KEY_VARIABLE) or ""
        self._places = Places(settings.engine_port, _tls() if settings.certificate else None)
        self._connection = Connection(self._places)
        self._metrics_path = FEW_METRICS
        self._progress: dict[str, tuple[float, float]] = {}
        """Steps and cache use of each rank in the last sample."""
        self._paused = False
        self._kind: str | None = None
        """What the server serves, once that is found out."""
        self._ranks: tuple[str, ...] = ()
        """Names of the ranks in the server's own order."""
        self._within_reach = False
        self._is_elsewhere, self._asked_holder_at = False, float("-inf")

    # ------------------------------------------------------------------------------------------------------- sampling

    def sample(self, deadline_seconds: float) -> Sample:
        """Ask the server for its metrics; where they show no step, also for its own opinion.

        Args:
            deadline_seconds: For all of it.
        """
        deadline = time.monotonic() + deadline_seconds
        ranks, trouble = self._read_ranks(time.monotonic() + METRICS_SHARE * deadline_seconds)
        if ranks is not None and self._advanced(ranks):
            return Sample(evidence.ANSWERS, ranks, self._paused)
        server = _verdict(trouble) or self._opinion(deadline, trouble)
        if server == evidence.ANSWERS and self._development:
            self._ask_paused(deadline)
        connections = self._places.connections() if ranks is None and server != evidence.REFUSES else None
        return Sample(server, ranks, self._paused, connections, trouble.sentence if trouble else "")

    def close(self) -> None:
        """Close the connection that is kept."""
        self._connection.close()

    def _read_ranks(self, deadline: float) -> tuple[dict[str, RankLook] | None, EngineError | None]:
        """What the metrics say, or what stands in their way."""
        try:
            ranks = self._few_metrics(deadline) if self._metrics_path == FEW_METRICS else None
            if ranks is None:
                ranks = metrics.read_ranks(self._get(self._connection, WHOLE_METRICS, deadline))
        except EngineError as error:
            return None, error
        except metrics.UncountedError:
            hint = "has the engine been started with --disable-log-stats, or is its version not known?"
            return None, EngineError("NoMetrics", f"/metrics counts neither steps nor tokens: {hint}")
        self._ranks = metrics.in_order(ranks)
        return ranks, None

    def _few_metrics(self, deadline: float) -> dict[str, RankLook] | None:
        """Only those that are read; None, from now on, where the server does not know to select them.

        Raises:
            EngineError: no answer, or none that says anything of that.
        """
        answer = self._answer(self._connection, FEW_METRICS, None, deadline)
        if answer.status == HTTP_UNAVAILABLE and SCALING_WORDS in answer.content:
            self._check_status(WHOLE_METRICS, answer)
        if answer.status == HTTP_OK:
            with contextlib.suppress(metrics.UncountedError):
                return metrics.read_ranks(answer.content)
        self._metrics_path = WHOLE_METRICS
        return None

    def _advanced(self, ranks: dict[str, RankLook]) -> bool:
        """Whether a rank has made a step since the last sample: one that makes a token ends a pause, too.

        The cache's use alone tells of steps that read a long prompt, and of a pause that empties the cache.
        """
        progress = {name: (rank.steps, rank.kv_usage) for name, rank in ranks.items()}
        before, self._progress = self._progress, progress
        if any(name in before and steps > before[name][0] for name, (steps, _) in progress.items()):
            self._paused = False
        return bool(before) and progress != before

    def _opinion(self, deadline: float, trouble: EngineError | None) -> str:
        """What /health says: it answers where the metrics do not, and knows of a core that died."""
        deadline = deadline if trouble else min(deadline, time.monotonic() + HEALTH_SECONDS)
        try:
            answer = self._answer(self._connection, "/health", None, deadline)
        except EngineError as error:
            verdict = _verdict(error)
            if verdict is None and error.cause == "Silent" and trouble and trouble.cause == "Silent":
                return evidence.SILENT
            return verdict or evidence.ANSWERS
        if answer.status != HTTP_UNAVAILABLE:
            return evidence.ANSWERS
        return evidence.SCALING if SCALING_WORDS in answer.content else evidence.SAYS_DEAD

    @property
    def _development(self) -> bool:
        """Whether the server is in its development mode, in which it can be paused and says so."""
        return self._environment.get(DEVELOPMENT_VARIABLE, "0") not in ("", "0")

    def _ask_paused(self, deadline: float) -> None:
        """Note whether the engine is paused, where the server says."""
        try:
            deadline = min(deadline, time.monotonic() + PAUSED_SECONDS)
            told = self._document("/is_paused", self._get(self._connection, "/is_paused", deadline)).get("is_paused")
        except EngineError:
            return  # the core is busy, or hung: its last word holds
        if isinstance(told, bool):
            self._paused = told

    # ---------------------------------------------------------------------------------------------------------- names

    def check_names(self, timeout: float, adapters: Iterable[str] | None = None) -> None:
        """Check that clients can reach the server, and that it knows the model under its served name, and its adapters.

        Args:
            timeout: Seconds until the answer.
            adapters: Names of the adapters; those of the settings where nothing else is said.

        Raises:
            EngineError: LoopbackOnly, WrongModel, PortTaken; or it does not say.
        """
        try:
            self._check_served(time.monotonic() + timeout, self._adapters() if adapters is None else adapters)
        except EngineError as error:
            raise self._attributed(error) from None

    def _check_served(self, deadline: float, adapters: Iterable[str]) -> None:
        served = self._served(deadline)
        self._check_reach()
        wanted = [self._settings.model] if self._settings.model else []
        wanted += adapters
        missing = [name for name in wanted if name not in served]
        if missing:
            raise EngineError("WrongModel", f"serves {_listed(served) or 'no model'}, not {_listed(missing)}")

    def missing_adapters(self, timeout: float) -> tuple[str, ...]:
        """Names of the adapters that the server should serve and does not.

        Raises:
            EngineError: it does not say.
        """
        served = self._served(time.monotonic() + timeout) if self._settings.adapters else []
        return tuple(name for name in self._adapters() if name not in served)

    def served_adapters(self, timeout: float) -> dict[str, str]:
        """The adapters that the server has, by name, each with the path that it was loaded from; empty: it is not said.

        Raises:
            EngineError: the server does not say.
        """
        entries = self._models(time.monotonic() + timeout)
        return {str(one.get("id")): str(one.get("root") or "") for one in entries if one.get("parent")}

    def load_adapter(self, name: str, path: str, timeout: float) -> None:
        """Have the server load a LoRA adapter; that it has it already is right as well.

        Raises:
            EngineError: NoEndpoint (the server does not allow it), Refused (no such adapter), or what else goes wrong.
        """
        allowed = self._environment.get(LORA_VARIABLE, "").strip().lower() in ("1", "true")
        if not allowed:
            raise EngineError("NoEndpoint", f"adapters cannot be loaded at run time: {LORA_VARIABLE} is not set")
        if not path:
            raise EngineError("Refused", f"the adapter {name} cannot be loaded: its path is not known")
        route = "/v1/load_lora_adapter"
        answer = self._post(route, {"lora_name": name, "lora_path": path}, timeout)
        if answer.status == HTTP_BAD_REQUEST and b"already been loaded" in answer.content:
            return
        self._check_status(route, answer)

    def unload_adapter(self, name: str, timeout: float) -> None:
        """Have the server forget a LoRA adapter; that it has none of that name is right as well.

        What it was asked by that name goes on to its end (vLLM 0.32, entrypoints/openai/models/serving.py).

        Raises:
            EngineError: NoEndpoint (the server does not allow it), or what else goes wrong.
        """
        route = "/v1/unload_lora_adapter"
        answer = self._post(route, {"lora_name": name}, timeout)
        if b"cannot be found" not in answer.content:
            self._check_status(route, answer)

    def _post(self, route: str, document: Mapping[str, object], timeout: float) -> Answer:
        body = json.dumps(document).encode()
        with Connection(self._places) as connection:
            return self._answer(connection, route, ("application/json", body), time.monotonic() + timeout)

    def _served(self, deadline: float) -> list[str]:
        return [str(entry.get("id")) for entry in self._models(deadline)]

    def _models(self, deadline: float) -> list[dict[str, Any]]:
        """What the server lists: its models under all their names, and its adapters."""
        with Connection(self._places) as connection:
            listing = self._document("/v1/models", self._get(connection, "/v1/models", deadline))
        entries = listing.get("data")
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    def _adapters(self) -> list[str]:
        return [name for name, _ in self._settings.adapters]

    def _check_reach(self) -> None:
        """Raise EngineError where no client can reach the server. What was right once is not looked at again."""
        if self._within_reach or self._behind_proxy:
            return
        told = self._places.out_of_reach()
        if told:
            raise EngineError("LoopbackOnly", told)
        self._within_reach = told is not None

    # -------------------------------------------------------------------------------------------------------- canaries

    def complete(self, timeout: float, rank: str | None = None) -> None:
        """Complete one canary: a token of a model that generates, the numbers of one that pools, and so on.

        Args:
            timeout: Seconds until the answer.
            rank: Of data parallelism, by its name in the metrics. None leaves the choice to the server. So do endpoints
                that do not generate text, and a vLLM that does not know the header.

        Raises:
            EngineError: it fails, is empty or does not come in time; or it is right and no client could have sent it
                (LoopbackOnly); or what answers is not the engine (PortTaken).
        """
        deadline = time.monotonic() + timeout
        try:
            if self._settings.canary == canaries.COMMAND:
                self._run_command(deadline)
            else:
                self._complete_any(deadline, rank)
            self._check_reach()
        except EngineError as error:
            raise self._attributed(error) from None

    def _attributed(self, error: EngineError) -> EngineError:
        """The error, or whose it is in truth: only words follow from that, since nobody is let in by either.

        An engine whose server was once found within reach has its port. Where a proxy may have it, it is right so.
        """
        port = self._places.port
        if self._within_reach or error.cause not in OF_ANOTHER or not self._answers_elsewhere():
            return error
        if self._behind_proxy:
            return EngineError("Loading", f"a proxy answers on port {port}, and the engine does not listen yet")
        told = f"what listens on port {port} is no process of this container: the engine cannot have it"
        return EngineError("PortTaken", told)

    def _answers_elsewhere(self) -> bool:
        if time.monotonic() - self._asked_holder_at >= HOLDER_SECONDS:
            self._is_elsewhere = holders.is_elsewhere(self._places.port)
            self._asked_holder_at = time.monotonic()
        return self._is_elsewhere

    @property
    def _behind_proxy(self) -> bool:
        return self._environment.get(LOOPBACK_VARIABLE) == "allowed"

    @property
    def completes_texts(self) -> bool:
        """Whether it is known that the server completes plain texts: such a one mostly takes chats as well."""
        return self._kind == "completions"

    def chat_refusal(self, timeout: float) -> str:
        """Why the server refuses chats that are well-formed; empty where it takes them, or has no endpoint for them.

        Raises:
            EngineError: it does not say now.
        """
        try:
            self._complete("chat", time.monotonic() + timeout, None)
        except EngineError as error:
            if error.cause == "Refused":
                return error.sentence
            if error.cause != "NoEndpoint":
                raise
        return ""

    def _complete_any(self, deadline: float, rank: str | None) -> None:
        """Complete a canary of the first kind that the server serves, and remember which it is."""
        for kind in self._kinds():
            try:
                self._complete(kind, deadline, rank)
            except EngineError as error:
                if error.cause == "NoEndpoint":
                    continue
                if error.cause in ("WrongModel", "Refused", "Empty", "Failing"):
                    self._kind = kind  # it is there: nothing else is to be tried in its place
                raise
            self._kind = kind
            return
        self._kind = None
        raise EngineError("NoEndpoint", self._nothing_served())

    def _kinds(self) -> Iterable[str]:
        kinds = canaries.kinds_of(self._settings.canary)
        return [self._kind, *(kind for kind in kinds if kind != self._kind)] if self._kind else kinds

    def _nothing_served(self) -> str:
        if self._settings.canary != canaries.AUTO:
            path = canaries.PATHS[canaries.kinds_of(self._settings.canary)[0]]
            return f"{path}: the server has no such endpoint: does spec.model.runner say what this model does?"
        return (
            "the server has no endpoint that a prompt can be completed with (completions, chat, pooling, "
            "transcription, realtime), and /health alone proves nothing: prove it with a command in spec.gates.probe"
        )

    def _run_command(self, deadline: float) -> None:
        try:
            canaries.run_command(self._settings.command, deadline, self._environment)
        except EngineError as error:
            raise EngineError(error.cause, self._redacted(error.sentence)) from None
        except OSError as error:
            raise EngineError("Unasked", f"the command cannot be started: {error.strerror or error}") from None

    def _complete(self, kind: str, deadline: float, rank: str | None) -> None:
        """Complete a canary of that kind.

        Raises:
            EngineError: as `complete`; NoEndpoint: the server does not serve that kind.
        """
        if kind == canaries.REALTIME:
            self._complete_realtime(deadline)
            return
        path, body = canaries.PATHS[kind], canaries.body_of(kind, self._settings.model)
        number = self._number(rank)
        with Connection(self._places) as connection:
            answer = self._answer(connection, path, body, deadline, number)
            if number is not None and answer.status == HTTP_BAD_REQUEST and b"data_parallel_rank" in answer.content:
                answer = self._answer(connection, path, body, deadline)  # the server numbers its ranks otherwise
        self._check_status(path, answer)
        if not canaries.has_result(kind, self._document(path, answer.content)):
            raise EngineError("Empty", f"{path}: a completion came back empty")

    def _complete_realtime(self, deadline: float) -> None:
        path = canaries.PATHS[canaries.REALTIME]
        began = time.monotonic()
        try:
            with Connection(self._places) as connection:
                line = connection.open(deadline)
                reader = realtime.opened(line, path, self._request(path, None, realtime.UPGRADE), deadline)
                realtime.transcribe(line, reader, path, self._settings.model)
        except socket.timeout:  # noqa: UP041 # only since 3.10 the same as TimeoutError
            raise EngineError("Silent", f"{path} does not answer within {shown(deadline - began)}") from None
        except (OSError, ClosedError) as error:
            raise EngineError("Failing", f"{path}: the connection ended without an answer {error}".rstrip()) from None
        except EngineError as error:
            raise EngineError(error.cause, self._redacted(error.sentence)) from None

    def _number(self, rank: str | None) -> int | None:
        """The server's own number of a rank: with hybrid load balancing it counts from 0, whatever their names."""
        ranks = self._ranks
        return ranks.index(rank) if rank in ranks and len(ranks) > 1 else None

    # --------------------------------------------------------------------------------------------------------- requests

    def _get(self, connection: Connection, path: str, deadline: float) -> bytes:
        answer = self._answer(connection, path, None, deadline)
        self._check_status(path, answer)
        return answer.content

    def _answer(
        self,
        connection: Connection,
        path: str,
        body: tuple[str, bytes] | None,
        deadline: float,
        rank: int | None = None,
    ) -> Answer:
        headers = () if rank is None else (f"{RANK_HEADER}: {rank}",)
        return connection.ask(path.partition("?")[0], self._request(path, body, headers), deadline)

    def _request(self, path: str, body: tuple[str, bytes] | None, headers: Iterable[str]) -> bytes:
        """Head and body of a request; one without a body is a GET.

        Raises:
            EngineError: Unauthorized: the key cannot be sent.
        """
        lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: localhost", *headers]
        content = b""
        if body is not None:
            kind, content = body
            lines += [f"Content-Type: {kind}", f"Content-Length: {len(content)}"]
        return "\r\n".join([*lines, ""]).encode() + self._authorization() + b"\r\n" + content

    def _authorization(self) -> bytes:
        if not self._key:
            return b""
        if not self._key.isprintable() or self._key != self._key.strip():
            told = (
                "has a line break, a blank or a control character at its end or within: no client can send such a key"
            )
            raise EngineError("Unauthorized", f"{KEY_VARIABLE} of this container {told}")
        try:
            key = self._key.encode("latin-1")  # as servers read headers
        except UnicodeEncodeError:
            key = self._key.encode()
        return b"Authorization: Bearer " + key + b"\r\n"

    def _check_status(self, path: str, answer: Answer) -> None:
        """Raise EngineError for a status that is no success."""
        status, content = answer.status, answer.content
        if status == HTTP_OK:
            return
        if status == HTTP_UNAUTHORIZED:
            told = f"{path}: 401 Unauthorized: {KEY_VARIABLE} of this container is not a key of the server"
            raise EngineError("Unauthorized", told)
        if status == HTTP_NOT_IMPLEMENTED or (status == HTTP_NOT_FOUND and not _names_a_model(content)):
            raise EngineError("NoEndpoint", f"{path}: the server has no such endpoint")
        raise EngineError(_cause(status, content), f"{path}: HTTP {status}: {self._text(content)}")

    def _document(self, path: str, content: bytes) -> dict[str, Any]:
        """The JSON object of an answer.

        Raises:
            EngineError: Failing: it is none, so the engine did not do what it was asked.
        """
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise EngineError("Failing", f"{path} does not answer as vLLM does: {self._text(content)}")
        return document

    def _text(self, content: bytes) -> str:
        """What an error says of itself, or its beginning, on one line: it becomes part of a sentence."""
        text = self._redacted(_message(content) or content[:READ_OF_ERROR].decode("utf-8", "replace"))
        return " ".join(text.split())[:ERROR_TEXT_LENGTH]

    def _redacted(self, text: str) -> str:
        """The text without the key: an answer may repeat what it was sent."""
        return text.replace(self._key, "***") if self._key else text


def _tls() -> Tls:
    from .tls import Tls  # noqa: PLC0415 # only managers of servers with TLS need its memory

    return Tls()


def _verdict(error: EngineError | None) -> str | None:
    """What trouble with the metrics says of the server at once; None: nothing, and /health is to be asked."""
    if error is None:
        return None
    words = {"Loading": evidence.REFUSES, "Scaling": evidence.SCALING, "Unasked": evidence.ANSWERS}
    return words.get(error.cause)


def _cause(status: int, content: bytes) -> str:
    if status == HTTP_UNAVAILABLE and SCALING_WORDS in content:
        return "Scaling"
    if status in (HTTP_TOO_MANY, HTTP_UNAVAILABLE):
        return "Busy"
    if status == HTTP_NOT_FOUND and b"does not exist" in content:
        return "WrongModel"
    return "Refused" if HTTP_BAD_REQUEST <= status < HTTP_SERVER_ERROR else "Failing"


def _names_a_model(content: bytes) -> bool:
    """Whether a 404 is about what the request names (a model, an adapter) and not about its path.

    The framework says {"detail":"Not Found"}, or the same within vLLM's own shape of errors.
    """
    return _message(content) not in ("", "Not Found")


def _message(content: bytes) -> str:
    """What vLLM's errors say; empty where it is no error of vLLM."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    error = document.get("error", document) if isinstance(document, dict) else None
    if isinstance(error, dict):
        error = error.get("message", error.get("detail"))
    return error if isinstance(error, str) else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
