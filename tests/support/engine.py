#!/usr/bin/env python3
"""A stub of the vLLM server: the same command line, HTTP, metrics, logs and exit codes, and faults on demand.

One file, standard library only, Python 3.9 or newer, so that it can be dropped into an image as `vllm`:

    python engine.py serve MODEL [the flags of `vllm serve`]

It is measured against vLLM 0.32.0; tests/contract runs the same tests against both. A token is a byte of the prompt and
a word of the answer. The answer is deterministic: the served name, then the prompt.

Its processes are those of vLLM, under the same titles: the server; a `VLLM::EngineCore` for each rank (with `_DP0`,
`_DP1`, ... where there are several), in which steps are computed, so that SIGSTOP hangs it, SIGKILL ends it, and its
CPU time tells whether it computes; and with --api-server-count a `VLLM::APIServer_0`, ... for each of them.

Environment (all optional):
    STUB_LOAD_SECONDS      how long it loads: connections are refused and SIGTERM is ignored meanwhile (0)
    STUB_START_FAILURE     text of an error: the start fails in the engine core with it, as vLLM does: the cause, then
                           60 lines of traceback that only say "Engine core initialization failed"
    STUB_EXIT_CODE         exit code of that failure (1)
    STUB_MAX_MODEL_LEN     the longest context that the model can do (131072)
    STUB_KV_TOKENS         size of the KV cache in tokens, for vllm:kv_cache_usage_perc (65536)
    STUB_TASK              what the model does where it is no pooling model: `generate` (the default), `chat` (no
                           /v1/completions), or `transcription` (/v1/audio/transcriptions alone, as Whisper)
    STUB_IPV6_ONLY         1: an IPv6 address given as --host takes no IPv4
    STUB_FAULTS            JSON of faults that hold from the start

Faults: GET /stub/faults shows them, POST /stub/faults changes those named in the JSON body, DELETE ends all. The path
answers even while the server hangs. Fields of `Faults` below are the names; further, POST takes these actions:
    "kill_engine": true    the engine core dies: 500 to requests in flight, /health 503, then the process exits with 0
    "exit": N              the process ends at once with that code
    "log": "text"          the text goes to the log
    "reset_metrics": true  all counters begin again from 0
    "block_server": N      the server's event loop is blocked for N seconds, and computes; cores make steps meanwhile
    "profile": N           each core writes a profile for N seconds: it computes, writes, and makes no step
    "flood": N             N megabytes of lines go to the log as fast as they are taken, and then `the flood is over`
    "allocate": N          each core takes N megabytes of memory, and keeps them
    "lose_adapter": NAME   the adapter is gone; "find_adapter": {"name": NAME, "path": PATH} has it back
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import hmac
import http.server
import json
import os
import queue
import re
import select
import signal
import socket
import socketserver
import ssl
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

VERSION = "0.32.0"
GUARDED = ("/v1", "/v2", "/inference", "/cohere")
DEAD_SECONDS = 4.0
"""How long /health answers 503 after the engine's death, before the process exits with 0."""
BACKLOG = 2048
BURST_SECONDS, COMPUTING_SHARE = 0.02, 0.5
"""What computes does so in bursts, for that share of the time: enough for whoever asks the kernel whether it computes,
and other tests go on."""
WRITTEN_BYTES = 1 << 18
"""So much is written before each burst of computing: 6 MB a second."""
ACTIONS = (
    "log",
    "kill_engine",
    "exit",
    "reset_metrics",
    "block_server",
    "profile",
    "flood",
    "allocate",
    "lose_adapter",
    "find_adapter",
)
FLOOD_LINE = b"INFO the flood goes on and on".ljust(127, b".") + b"\n"
FOREVER_SECONDS = 1e6
FLOOD_END = "the flood is over"
FINISHED_REASONS = ("stop", "length", "abort", "error", "repetition")
DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
BUSY = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
SCALES = "The model is currently scaling. Please try again later."
COMPILES = (
    "Triton kernel JIT compilation during inference: fused_moe_kernel. This causes a latency spike; consider extending "
    "warmup to cover this shape/config."
)
SECONDS_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0)
TOKEN_BUCKETS = tuple(float(2**power) for power in (0, *range(3, 15)))

# ---------------------------------------------------------------------------------------------------------------- flags


def human_int(text: str) -> int:
    """An integer as vLLM reads it: 32k is 32000, 32K is 32768, auto is -1."""
    if text == "auto":
        return -1
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?)([kKmMgG]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"invalid int value: {text!r}")
    powers = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
    return int(float(found[1]) * powers[found[2]])


def words(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


TEXT_FLAGS = words(
    "revision tokenizer tokenizer-revision code-revision quantization kv-cache-dtype data-parallel-address "
    "data-parallel-backend master-addr distributed-executor-backend chat-template chat-template-content-format "
    "tool-call-parser reasoning-parser ssl-keyfile ssl-certfile ssl-ca-certs root-path host load-format download-dir "
    "otlp-traces-endpoint disable-access-log-for-endpoints uvicorn-log-level tokenizer-mode seed hf-token "
    "logits-processors scheduling-policy attention-backend"
)
NUMBER_FLAGS = {
    "max-model-len": None,
    "max-num-seqs": None,
    "max-num-batched-tokens": None,
    "kv-cache-memory-bytes": None,
    "block-size": None,
    "tensor-parallel-size": 1,
    "pipeline-parallel-size": 1,
    "data-parallel-size": 1,
    "decode-context-parallel-size": 1,
    "data-parallel-size-local": None,
    "data-parallel-rpc-port": None,
    "data-parallel-start-rank": None,
    "data-parallel-rank": None,
    "api-server-count": None,
    "nnodes": 1,
    "node-rank": 0,
    "master-port": 29501,
    "max-loras": 1,
    "max-cpu-loras": None,
    "port": 8000,
    "shutdown-timeout": 0,
    "max-num-queued-reqs": None,
    "max-num-queued-tokens": None,
    "max-log-len": None,
}
FLOAT_FLAGS = {"gpu-memory-utilization": 0.92, "cpu-offload-gb": 0.0, "kv-offloading-size": None}
SWITCHES = words(
    "trust-remote-code enforce-eager enable-prefix-caching enable-chunked-prefill enable-expert-parallel enable-lora "
    "enable-auto-tool-choice enable-log-requests enable-sleep-mode data-parallel-hybrid-lb data-parallel-external-lb "
    "async-scheduling enable-log-outputs enable-prompt-tokens-details enable-force-include-usage enable-ssl-refresh"
)
BARE_SWITCHES = ("headless", "disable-log-stats", "disable-uvicorn-access-log", "enable-request-id-headers")
JSON_FLAGS = words(
    "speculative-config kv-transfer-config compilation-config override-generation-config hf-overrides "
    "default-chat-template-kwargs structured-outputs-config model-loader-extra-config"
)
CHOICES = {
    "dtype": ("auto", "bfloat16", "float", "float16", "float32", "half"),
    "runner": ("auto", "draft", "generate", "pooling"),
    "convert": ("auto", "none", "embed", "classify"),
    "kv-offloading-backend": ("native", "lmcache"),
}
CONVERTED = ("embed", "classify")
"""Conversions that make a pooling model; they resolve --runner auto to pooling."""
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def build_parser() -> argparse.ArgumentParser:
    """The command line of `vllm serve`, as far as the operator and its users can write it."""
    parser = argparse.ArgumentParser(prog="vllm")
    parser.add_argument("-v", "--version", action="version", version=VERSION)
    add_flags(parser.add_subparsers(dest="command", required=True).add_parser("serve"))
    return parser


def with_config(words: list[str]) -> list[str]:
    """The words, those of the file behind --config in their place: after the model. JSON alone is read here."""
    if "--config" not in words:
        return words
    at = words.index("--config")
    given = json.loads(Path(words[at + 1]).read_text(encoding="utf-8"))
    read = [word for key, value in given.items() for word in (f"--{key}", *map(str, value))]
    return [*words[:2], *read, *words[2:at], *words[at + 2 :]]


def add_flags(serve: argparse.ArgumentParser) -> None:
    """The flags of `serve`."""
    serve.add_argument("model", nargs="?", metavar="model_tag")
    serve.add_argument("--served-model-name", nargs="+", default=[])
    serve.add_argument("--api-key", nargs="+", default=[])
    serve.add_argument("--lora-modules", nargs="+", default=[])
    serve.add_argument("--allowed-origins", type=json.loads, default=["*"])
    serve.add_argument("--max-lora-rank", type=int, choices=LORA_RANKS, default=16)
    for name in TEXT_FLAGS:
        serve.add_argument(f"--{name}")
    for name, default in NUMBER_FLAGS.items():
        serve.add_argument(f"--{name}", type=human_int, default=default)
    for name, number in FLOAT_FLAGS.items():
        serve.add_argument(f"--{name}", type=float, default=number)
    for name in SWITCHES:
        serve.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=False)
    for name in BARE_SWITCHES:
        serve.add_argument(f"--{name}", action="store_true")
    for name in JSON_FLAGS:
        serve.add_argument(f"--{name}", type=json.loads)
    for name, choices in CHOICES.items():
        serve.add_argument(
            f"--{name}", choices=choices, default=choices[0] if name != "kv-offloading-backend" else None
        )


def flags() -> list[str]:
    """Every flag that `vllm serve` takes here."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return [flag for action in parser._actions for flag in action.option_strings]  # noqa: SLF001 - no other way


class StartError(Exception):
    """The server cannot start; `in_core` means that the engine core found out, and the server only wraps it."""

    def __init__(self, text: str, *, in_core: bool = False) -> None:
        super().__init__(text)
        self.in_core = in_core


def served_names(args: argparse.Namespace) -> list[str]:
    """The names that requests may use; metrics carry the first."""
    return list(args.served_model_name) or [str(args.model)]


def api_keys(args: argparse.Namespace) -> list[str]:
    """The accepted keys, or none where the server is open. The command line wins over the environment."""
    keys = args.api_key or [os.environ.get("VLLM_API_KEY", "")]
    return [key for key in keys if key]


class Group:
    """The pods of an engine over several, as its leader has them: each worker tells that it computes, twice a second.

    A step needs all of them, as in vLLM, whose workers take part in each collective operation: while one is silent, the
    engine stands still. The leader starts once all have joined.
    """

    PATIENCE_SECONDS = 2.0
    """So long after its last word a worker is taken for one that takes part in no operation."""

    def __init__(self, workers: int, port: int) -> None:
        self._workers, self._heard = workers, dict[int, float]()
        self._listener = socket.create_server(("", port), reuse_port=True)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._listen, args=(connection,), daemon=True).start()

    def _listen(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while word := connection.recv(1):
                self._heard[word[0]] = time.monotonic()

    @property
    def whole(self) -> bool:
        """Whether all workers take part."""
        now = time.monotonic()
        return sum(now - heard < self.PATIENCE_SECONDS for heard in list(self._heard.values())) >= self._workers


def take_part(args: argparse.Namespace) -> None:
    """Join the leader of the group, and tell it twice a second that this worker computes, from whenever it is there.

    A worker joins once: after its leader is gone it takes part in nothing, as with vLLM, whose process groups are made
    at the start.
    """
    while True:
        try:
            connection = socket.create_connection((args.master_addr, args.master_port), timeout=2)
        except OSError:
            time.sleep(0.2)
            continue
        with connection, contextlib.suppress(OSError):
            while True:
                connection.sendall(bytes([args.node_rank]))
                time.sleep(0.5)
        return


def check(args: argparse.Namespace) -> None:
    """Refuse what vLLM's own validation refuses after parsing (exit code 1)."""
    longest = int(os.environ.get("STUB_MAX_MODEL_LEN", "131072"))
    if args.model is None:
        raise StartError("With `vllm serve`, you should provide the model as a positional argument.")
    if args.enable_auto_tool_choice and not args.tool_call_parser:
        raise StartError("Error: --enable-auto-tool-choice requires --tool-call-parser")
    if args.max_model_len is not None and args.max_model_len > longest:
        raise StartError(
            f"User-specified max_model_len ({args.max_model_len}) is greater than the derived max_model_len "
            f"(max_position_embeddings={longest} or model_max_length=None in model's config.json)."
        )
    if args.runner == "pooling" and args.convert == "none":
        raise StartError(
            "This model does not support `--runner pooling`. You can pass `--convert <embed|classify> to adapt it into "
            "a pooling model."
        )
    if args.max_num_batched_tokens is not None and args.max_num_batched_tokens < (args.max_num_seqs or 1):
        raise StartError(
            f"max_num_batched_tokens ({args.max_num_batched_tokens}) must be greater than or equal to max_num_seqs "
            f"({args.max_num_seqs})."
        )
    template = args.chat_template
    if template and re.fullmatch(r"[/\\.~]?[\w./~-]+", template) and not Path(template).exists():
        raise StartError(f"The supplied chat template ({template}) appears path-like, but doesn't exist!")


def check_core(args: argparse.Namespace) -> None:
    """Refuse what only the engine core finds out, late."""
    port = os.environ.get("VLLM_PORT", "")
    if "://" in port:
        raise StartError(
            f"VLLM_PORT '{port}' appears to be a URI. This may be caused by a Kubernetes service discovery issue,"
            "check the warning in: https://docs.vllm.ai/en/stable/usage/env_vars.html",
            in_core=True,
        )
    if os.environ.get("STUB_START_FAILURE"):
        raise StartError(os.environ["STUB_START_FAILURE"], in_core=True)
    if args.runner == "generate" and args.convert in CONVERTED:
        raise StartError("AttributeError: a converted model cannot generate", in_core=True)
    for name, path in adapters_of(args).items():
        if not adapter_exists(path):
            raise StartError(f"Loading lora {name} failed: No adapter found for {path}")


def adapters_of(args: argparse.Namespace) -> dict[str, str]:
    """LoRA modules by name, written as name=path or as JSON."""
    found = {}
    for text in args.lora_modules:
        if text.startswith("{"):
            module = json.loads(text)
            found[module["name"]] = module["path"]
        else:
            name, _, path = text.partition("=")
            found[name] = path
    return found


def adapter_exists(path: str) -> bool:
    """Folders have to be there; repository names (org/name) are taken for good."""
    return Path(path).is_dir() if path.startswith("/") else bool(path)


def adapter_rank(path: str) -> int:
    """The rank of an adapter as its folder says; 1 where it does not, or it is a repository's name."""
    config = Path(path) / "adapter_config.json"
    return int(json.loads(config.read_text(encoding="utf-8")).get("r", 1)) if config.is_file() else 1


# ------------------------------------------------------------------------------------------------------ logs and faults

OUTPUT_LOCK = threading.Lock()


def write_log(text: str) -> None:
    """One line, whole, at once."""
    with OUTPUT_LOCK:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def log(text: str, *, source: str = "api_server.py:1", process: str = "APIServer", level: str = "INFO") -> None:
    """A line as vLLM's logger writes it."""
    write_log(f"({process} pid={os.getpid()}) {level} {time.strftime('%m-%d %H:%M:%S')} [{source}] {text}")


def flood(megabytes: int) -> None:
    """Write lines as fast as they are taken, as another process of the engine does: nobody waits for it meanwhile."""
    chunk = FLOOD_LINE * (select.PIPE_BUF // len(FLOOD_LINE))  # written whole, so that the lines of others stay whole
    for _ in range(megabytes * 1_000_000 // len(chunk)):
        os.write(1, chunk)
    write_log(FLOOD_END)


@dataclasses.dataclass
class Faults:
    """What is wrong with this engine; every field can be set at run time."""

    hang_engine: Any = False
    """True: the engine core stops as if by SIGSTOP; a list of numbers: only these data-parallel ranks."""
    hang_server: bool = False
    """Connections are accepted and never answered; SIGTERM is not honoured either."""
    fail: Any = None
    """{"status": 500, "message": TEXT or "body": JSON, "path": "/v1/completions" or all}: inference answers so."""
    answer: Any = None
    """The text of every answer; "" makes empty completions."""
    grammar_seconds: float = 0.0
    """A request with a `response_format` waits so long for its grammar: the scheduler puts it off meanwhile."""
    remote_kv_seconds: float = 0.0
    """A request with `kv_transfer_params` waits so long for its KV cache from elsewhere: it is put off meanwhile."""
    step_seconds: float = 0.005
    """Duration of an engine step, which makes one token for each running request."""
    slow_step: Any = None
    """{"seconds": 8, "computes": true, "compiler": "ptxas", "word": TEXT, "once": true}: steps take so long. They sleep
    unless told that they compute; a compiler runs as a child of that name, and the log tells of a compilation; with a
    word only those steps that begin a prompt with it; `once`: only the next one."""
    first_step: Any = None
    """{"after": 3, "seconds": 6, "computes": true, "once": true}: so long takes the first step after so many seconds
    without one; `once`: only the next such step."""
    hang_computes: bool = False
    """A core that hangs by `hang_engine` uses a whole processor meanwhile."""
    adapter_seconds: float = 0.0
    """An adapter that is loaded at run time takes so long, as one that has to be downloaded: no core makes a step."""
    scaling: bool = False
    """Elastic expert parallelism adds or removes ranks: every path answers 503 with its words."""
    served_names: Any = None
    """Serve under these names instead."""
    metrics_seconds: float = 0.0
    """/metrics answers that much later."""
    metrics_status: int = 200
    """Status of /metrics; other than 200 its body is an error text."""
    metrics_prefix: str = "vllm:"
    """Prefix of the metrics' names: a newer vLLM may rename them."""
    health_status: int = 200
    """Status of /health."""

    def change(self, wanted: dict[str, Any]) -> None:
        """Set the named fields.

        Raises:
            KeyError: There is no fault of that name.
        """
        names = {field.name for field in dataclasses.fields(self)}
        for name in wanted:
            if name not in names:
                raise KeyError(f"no fault named {name}; there are {sorted(names)}")
        for name, value in wanted.items():
            setattr(self, name, value)

    def reset(self) -> None:
        """End all faults."""
        self.change(dataclasses.asdict(Faults()))

    def stuck(self, rank: int) -> bool:
        """Whether that engine core makes no step."""
        return rank in self.hang_engine if isinstance(self.hang_engine, list) else bool(self.hang_engine)


# ------------------------------------------------------------------------------------------------------------ processes


@dataclasses.dataclass
class Work:
    """What a core does for a while."""

    seconds: float
    computes: bool = False
    """Whether it uses a processor; it sleeps otherwise."""
    compiler: str = ""
    """The name of a compiler that runs as its child meanwhile, and uses a processor."""
    writes: bool = False
    """Whether it writes to a file."""
    megabytes: int = 0
    """Memory that it takes meanwhile."""
    hoard: list[bytes] = dataclasses.field(default_factory=list)


class CoreDiedError(Exception):
    """The core's process has ended."""


class Core:
    """The process of an engine core: does what it is told, one thing after the other, and says when it is done."""

    def __init__(self, title: str) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._orders)
            os.close(self._answers)
            run_as(title, lambda: obey(orders, answers))
        os.close(orders)
        os.close(answers)

    def do(self, work: Work, ended: threading.Event) -> None:
        """Have it done, and wait for that, or until the engine is ended.

        Raises:
            CoreDiedError: The process is no more.
        """
        try:
            os.write(self._orders, json.dumps(dataclasses.asdict(work)).encode())
        except BrokenPipeError:
            raise CoreDiedError from None
        while not ended.is_set():
            if select.select([self._answers], [], [], 0.1)[0]:
                if not os.read(self._answers, 1):
                    raise CoreDiedError
                return

    def stopped(self) -> bool:
        """Whether the process is stopped by a signal."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        except OSError:  # it has ended
            return False
        return state == b"T"

    def alive(self) -> bool:
        """Whether the process is there. Only one thread may ask."""
        if self.pid and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.pid = 0
        return bool(self.pid)


def run_as(title: str, program: Callable[[], None]) -> None:
    """Be another program from here on, in a forked process, until it ends."""
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        set_title(title)
        program()
        code = 0
    finally:
        os._exit(code)


def set_title(title: str) -> None:
    """Be shown under that title, in place of the command line, as setproctitle does for vLLM."""
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    memory = os.open("/proc/self/mem", os.O_WRONLY)
    os.pwrite(memory, title.encode()[: end - begin].ljust(end - begin, b"\0"), begin)
    os.close(memory)
    Path("/proc/self/comm").write_text(title[:15], encoding="ascii")


def obey(orders: int, answers: int) -> None:
    """The life of a core's process: it ends with the server, whose end of the pipe closes then."""
    server = os.getppid()
    while os.getppid() == server:
        if not select.select([orders], [], [], 1.0)[0]:
            continue
        order = os.read(orders, 4096)  # whole: there is one at a time, and it is short enough to be written at once
        if not order:
            return
        work = Work(**json.loads(order))
        child = compiler(work) if work.compiler else 0
        perform(work, server)
        if child:
            os.waitpid(child, 0)
        os.write(answers, b".")


def compiler(work: Work) -> int:
    """Start a compiler; it ends with the work."""
    core = os.getpid()
    pid = os.fork()
    if pid == 0:
        run_as(work.compiler, lambda: perform(Work(work.seconds, computes=True), core))
    return pid


def perform(work: Work, parent: int) -> None:
    """Compute, write or sleep for the time of the work, or until the parent is gone."""
    until = time.monotonic() + work.seconds
    work.hoard.extend(b"x" * (1 << 20) for _ in range(work.megabytes))
    if not (work.computes or work.writes):
        while (left := until - time.monotonic()) > 0 and os.getppid() == parent:
            time.sleep(min(left, 0.5))
        return
    with tempfile.TemporaryFile() as file:
        for _ in bursts(lambda: time.monotonic() < until and os.getppid() == parent):
            if work.writes:
                file.seek(0)
                file.write(bytes(WRITTEN_BYTES))
                file.flush()


def bursts(goes_on: Callable[[], bool]) -> Iterator[None]:
    """Use half of a core; where others leave less for a while, more of it later. A turn begins with each burst."""
    began, used = time.monotonic(), time.thread_time()
    while goes_on():
        yield
        enough = time.thread_time() + BURST_SECONDS
        while time.thread_time() < enough:
            sum(range(1_000))
        if (ahead := (time.thread_time() - used) / COMPUTING_SHARE - (time.monotonic() - began)) > 0:
            time.sleep(ahead)


class Front:
    """One of several API server processes: takes clients from the socket that all share, and serves them.

    It hands bytes on to the one server that knows the engine. What its clients notice of it is what matters here: while
    it is stopped, nothing that they send is read.
    """

    def __init__(self, number: int, public: socket.socket, inner: tuple[str, int]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            run_as(f"VLLM::APIServer_{number}", lambda: take_clients(public, inner))

    def end(self) -> None:
        """End it, also where it is stopped."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def take_clients(public: socket.socket, inner: tuple[str, int]) -> None:
    """Accept for as long as the server lives."""
    server = os.getppid()
    public.settimeout(0)
    while os.getppid() == server:
        if not select.select([public], [], [], 0.5)[0]:
            continue
        try:
            client, _ = public.accept()
        except BlockingIOError:  # another one was quicker
            continue
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=hand_on, args=(client, inner), daemon=True).start()


def hand_on(client: socket.socket, inner: tuple[str, int]) -> None:
    """Bytes in both directions until either side ends."""
    with client, socket.create_connection(inner) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        towards = {client: server, server: client}
        while True:
            for one in select.select(list(towards), [], [])[0]:
                try:
                    data = one.recv(1 << 16)
                    towards[one].sendall(data)
                except OSError:
                    return
                if not data:
                    return


# -------------------------------------------------------------------------------------------------------------- metrics


class Histogram:
    """A Prometheus histogram without labels of its own."""

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.total += value
        for at, bound in enumerate(self.buckets):
            if value <= bound:
                self.counts[at] += 1
                return
        self.counts[-1] += 1

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Suffix, extra labels and value of each line."""
        running = 0
        for at, count in enumerate(self.counts):
            running += count
            bound = str(self.buckets[at]) if at < len(self.buckets) else "+Inf"
            yield "_bucket", {"le": bound}, running
        yield "_count", {}, running
        yield "_sum", {}, self.total


class Statistics:
    """What one engine core has told the server. A gauge is as of its last message: a stopped core's stays as it was."""

    def __init__(self) -> None:
        self.running = 0
        self.waiting = 0
        self.deferred = 0
        self.sleep_level: int | None = None
        self.kv_usage = 0.0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished = dict.fromkeys(FINISHED_REASONS, 0)
        self.iteration_tokens = Histogram(TOKEN_BUCKETS)
        self.first_token = Histogram(SECONDS_BUCKETS)
        self.between_tokens = Histogram(SECONDS_BUCKETS)
        self.latency = Histogram(SECONDS_BUCKETS)
        self.queued = Histogram(SECONDS_BUCKETS)

    def gauges(self) -> Iterator[tuple[str, str, dict[str, str], float]]:
        """Name, type, extra labels, value."""
        yield "num_requests_running", "gauge", {}, self.running
        yield "num_requests_waiting", "gauge", {}, self.waiting
        yield "num_requests_waiting_by_reason", "gauge", {"reason": "capacity"}, self.waiting - self.deferred
        yield "num_requests_waiting_by_reason", "gauge", {"reason": "deferred"}, self.deferred
        for state, level in (("awake", None), ("weights_offloaded", 1), ("discard_all", 2)):
            yield "engine_sleep_state", "gauge", {"sleep_state": state}, self.sleep_level == level
        yield "kv_cache_usage_perc", "gauge", {}, self.kv_usage

    def counters(self) -> Iterator[tuple[str, str, dict[str, str], float]]:
        """Name, type, extra labels, value."""
        yield "prefix_cache_queries_total", "counter", {}, self.prompt_tokens
        yield "prefix_cache_hits_total", "counter", {}, 0
        yield "num_preemptions_total", "counter", {}, 0
        yield "prompt_tokens_total", "counter", {}, self.prompt_tokens
        yield "generation_tokens_total", "counter", {}, self.generation_tokens
        for reason, count in self.finished.items():
            yield "request_success_total", "counter", {"finished_reason": reason}, count

    def histograms(self) -> Iterator[tuple[str, str, dict[str, str], float]]:
        """Name, type, extra labels, value."""
        named = {
            "iteration_tokens_total": self.iteration_tokens,
            "time_to_first_token_seconds": self.first_token,
            "inter_token_latency_seconds": self.between_tokens,
            "e2e_request_latency_seconds": self.latency,
            "request_queue_time_seconds": self.queued,
        }
        for name, histogram in named.items():
            for suffix, labels, value in histogram.samples():
                yield name + suffix, "histogram", labels, value


def exposition(ranks: list[Rank], model: str, rejected: int, prefix: str) -> str:
    """The text of /metrics: every sample with the labels engine and model_name, in the order of the real one."""
    lines: list[str] = []
    described: set[str] = set()
    samples = [(rank.number, *sample) for rank in ranks for sample in rank.statistics.gauges()]
    samples += [(rank.number, *sample) for rank in ranks for sample in rank.statistics.counters()]
    samples += [(rank.number, *sample) for rank in ranks for sample in rank.statistics.histograms()]
    for number, name, kind, labels, value in sorted(samples, key=lambda sample: base_name(sample[1], sample[2])):
        base = base_name(name, kind)
        if base not in described:
            described.add(base)
            lines += [f"# HELP {prefix}{base} {base.replace('_', ' ')}.", f"# TYPE {prefix}{base} {kind}"]
        lines.append(sample_line(prefix + name, {**labels, "engine": str(number), "model_name": model}, value))
    reasons = {"max_num_queued_reqs": rejected, "max_num_queued_tokens": 0}
    lines += [f"# TYPE {prefix}admission_rejections_total counter"]
    for reason, count in reasons.items():
        lines.append(sample_line(f"{prefix}admission_rejections_total", {"model_name": model, "reason": reason}, count))
    return "\n".join([*lines, ""])


def selected(text: str, names: list[str] | None) -> str:
    """The samples of these names; all of the text where none is asked for."""
    if names is None:
        return text
    kept = [line for line in text.splitlines() if line.partition("{")[0] in names]
    return "\n".join([*kept, ""])


def base_name(name: str, kind: str) -> str:
    """The metric that a sample belongs to."""
    return re.sub(r"_(bucket|count|sum)$", "", name) if kind == "histogram" else name


def sample_line(name: str, labels: dict[str, str], value: float) -> str:
    """One line, labels sorted, the value as a float."""
    inner = ",".join(f"{key}={json.dumps(text)}" for key, text in sorted(labels.items()))
    return f"{name}{{{inner}}} {float(value)}"


# --------------------------------------------------------------------------------------------------------------- engine


@dataclasses.dataclass
class Request:
    """One prompt on its way through the engine; `events` carries its tokens, then its finish reason."""

    prompt_tokens: int
    tokens: list[str]
    reason: str
    events: queue.Queue[tuple[str, str]] = dataclasses.field(default_factory=queue.Queue)
    arrived: float = dataclasses.field(default_factory=time.monotonic)
    last: float = 0.0
    computed: int = 0
    made: int = 0
    aborted: bool = False
    pooled: bool = False
    ready_at: float = 0.0
    """When its grammar is compiled, or its KV cache there; until then the scheduler puts it off."""
    text: str = ""
    """The prompt."""

    @property
    def unread(self) -> int:
        """How much of the prompt is still to be computed."""
        return self.prompt_tokens - self.computed


class Rank(threading.Thread):
    """One engine core: takes requests from its inbox, makes a step after the other while it has any.

    Everything the server knows of it comes out of `step`: a core that is stuck answers nothing and reports nothing, and
    a request that arrives meanwhile is in no gauge.
    """

    def __init__(
        self, number: int, faults: Faults, *, max_num_seqs: int, max_batched_tokens: int, core: Core | None = None
    ) -> None:
        super().__init__(daemon=True, name=f"engine-{number}")
        self.number = number
        self.faults = faults
        self.core = core
        """The process that computes the steps; without one, steps only take their time."""
        self.group: Group | None = None
        """The other pods of the engine, where it has some."""
        self.max_num_seqs = max_num_seqs
        self.max_batched_tokens = max_batched_tokens
        self.kv_tokens = int(os.environ.get("STUB_KV_TOKENS", "65536"))
        self.statistics = Statistics()
        self.inbox: queue.Queue[Request] = queue.Queue()
        self.waiting: collections.deque[Request] = collections.deque()
        self.running: list[Request] = []
        self.pause: str | None = None
        """The mode in which it was paused: abort, wait or keep."""
        self.ended = threading.Event()
        self.tasks: queue.Queue[Work] = queue.Queue()
        """What it is to do between two steps."""
        self.last_step = time.monotonic()

    def run(self) -> None:
        """Until the engine is ended, or its process has ended."""
        try:
            while not self.ended.is_set():
                self.turn()
        except CoreDiedError:
            return

    def turn(self) -> None:
        """A step, if there is anything to do."""
        if not self.running and not self.waiting:
            with contextlib.suppress(queue.Empty):
                self.waiting.append(self.inbox.get(timeout=0.05))
        while not self.tasks.empty():
            self.compute(self.tasks.get())
        if self.running or self.waiting:
            self.wait_while_stuck()
            self.step()

    def wait_while_stuck(self) -> None:
        """A hung core stands still here."""
        while (self.faults.stuck(self.number) or self.idles() or self.alone()) and not self.ended.is_set():
            if self.faults.hang_computes and not self.idles():
                self.compute(Work(0.1, computes=True))
            else:
                time.sleep(0.02)

    def alone(self) -> bool:
        """Whether a worker of the group is missing."""
        return self.group is not None and not self.group.whole

    def stopped(self) -> bool:
        """Whether its process is stopped by a signal."""
        return self.core is not None and self.core.stopped()

    def compute(self, work: Work) -> None:
        """Have the core's process do it.

        Raises:
            CoreDiedError: It has ended.
        """
        if self.core is None:
            time.sleep(work.seconds)
        else:
            self.core.do(work, self.ended)

    def work_of(self, batch: list[tuple[Request, int]]) -> Work:
        """What the next step is: one as all others, or one that the faults make long."""
        idle, slow, first = time.monotonic() - self.last_step, self.faults.slow_step, self.faults.first_step
        begun = [request.text for request, _ in batch if request.computed == 0]
        if batch and slow and ("word" not in slow or any(slow["word"] in text for text in begun)):
            if slow.get("once"):
                self.faults.slow_step = None
            if slow.get("compiler"):
                log(COMPILES, source="jit_monitor.py:138", process="Worker", level="WARNING")
            return Work(slow["seconds"], computes=bool(slow.get("computes")), compiler=slow.get("compiler", ""))
        if batch and first and idle >= first["after"]:
            if first.get("once"):
                self.faults.first_step = None
            return Work(first["seconds"], computes=bool(first.get("computes")))
        return Work(self.faults.step_seconds)

    def idles(self) -> bool:
        """Whether it is paused and finishes nothing: what comes meanwhile is in no gauge."""
        return self.pause is not None and not (self.pause == "wait" and self.running)

    def step(self) -> None:
        """Admit, compute for the duration of a step, hand out one token to each request whose prompt is done."""
        self.admit()
        batch = self.schedule()
        self.compute(self.work_of(batch))
        self.wait_while_stuck()
        if self.ended.is_set():
            return
        self.last_step = time.monotonic() if batch else self.last_step
        prompt = made = 0
        for request, count in batch:
            read_now = request.unread > 0
            request.computed += count if read_now else 0
            if request.unread == 0:
                prompt += request.prompt_tokens if read_now else 0
                made += 0 if request.pooled else 1
                self.hand_out(request)
        self.publish(prompt, made)

    def admit(self) -> None:
        """Move requests from the inbox to the queue, and from the queue to the batch; forget aborted ones."""
        while not self.inbox.empty():
            self.waiting.append(self.inbox.get())
        waiting = [request for request in self.waiting if not request.aborted]
        self.running = [request for request in self.running if not request.aborted]
        now, seats = time.monotonic(), 0 if self.pause else self.max_num_seqs - len(self.running)
        admitted = [request for request in waiting if request.ready_at <= now][:seats]
        for request in admitted:
            self.statistics.queued.observe(now - request.arrived)
        self.running += admitted
        self.waiting = collections.deque(request for request in waiting if request not in admitted)

    def schedule(self) -> list[tuple[Request, int]]:
        """The requests of this step and the tokens to compute for each, within the budget of a step."""
        budget = self.max_batched_tokens
        batch = []
        for request in self.running:
            count = min(request.unread or 1, budget)
            if count > 0:
                batch.append((request, count))
                budget -= count
        return batch

    def hand_out(self, request: Request) -> None:
        """The request's next token, or its end."""
        now = time.monotonic()
        first = request.made == 0
        histogram = self.statistics.first_token if first else self.statistics.between_tokens
        histogram.observe(now - (request.arrived if first else request.last))
        request.last = now
        if request.made < len(request.tokens):
            request.events.put(("token", request.tokens[request.made]))
        request.made += 1
        if request.made >= len(request.tokens):
            self.running.remove(request)
            self.statistics.latency.observe(now - request.arrived)
            self.statistics.finished[request.reason] += 1
            request.events.put(("end", request.reason))

    def publish(self, prompt: int, made: int) -> None:
        """Tell the server. As in vLLM, a step that only computed part of a prompt moves no counter."""
        statistics = self.statistics
        statistics.running = len(self.running)
        statistics.waiting = len(self.waiting)
        statistics.deferred = sum(request.ready_at > time.monotonic() for request in self.waiting)
        statistics.kv_usage = min(1.0, sum(r.computed + r.made for r in self.running) / self.kv_tokens)
        statistics.prompt_tokens += prompt
        statistics.generation_tokens += made
        if prompt or made:
            statistics.iteration_tokens.observe(prompt + made)

    def end(self, kind: str, text: str) -> None:
        """Stop for good; requests in flight get that event. Call it from the server's side."""
        self.ended.set()
        self.join(timeout=5)
        while not self.inbox.empty():
            self.waiting.append(self.inbox.get())
        for request in [*self.waiting, *self.running]:
            request.events.put((kind, text))
        self.statistics.running = self.statistics.waiting = self.statistics.deferred = 0


class Engine:
    """All engine cores of a server, and what requests need to know of the model."""

    def __init__(self, args: argparse.Namespace, faults: Faults) -> None:
        self.args = args
        self.faults = faults
        self.names = served_names(args)
        self.adapters = adapters_of(args)
        self.max_model_len = self.longest(args)
        self.ranks = [self.rank(number) for number in rank_numbers(args)]
        self.blocked_until = 0.0
        """Until when the server's event loop is blocked."""
        self.lock = threading.Lock()
        self.in_flight = 0
        self.rejected = 0
        self.turn = 0
        self.draining = False
        self.dead = False

    @staticmethod
    def longest(args: argparse.Namespace) -> int:
        """The context length that is served."""
        if args.max_model_len is not None and args.max_model_len > 0:
            return int(args.max_model_len)
        return int(os.environ.get("STUB_MAX_MODEL_LEN", "131072"))

    def rank(self, number: int) -> Rank:
        """One engine core with the flags' limits, or the CPU build's defaults."""
        title = "VLLM::EngineCore" + (f"_DP{number}" if self.args.data_parallel_size > 1 else "")
        return Rank(
            number,
            self.faults,
            core=Core(title),
            max_num_seqs=self.args.max_num_seqs or 128,
            max_batched_tokens=self.args.max_num_batched_tokens or 2048,
        )

    def model_names(self) -> list[str]:
        """The names of the base model."""
        return list(self.faults.served_names or self.names)

    def submit(self, requests: list[Request], wanted: str | None) -> None:
        """Queue the prompts of one call, on the wanted rank or in turns.

        Raises:
            HttpError: The server is dead, draining or full, or there is no such rank.
        """
        # As vLLM: a rank's place among those of this server, whatever its number in the metrics is.
        rank = int(wanted) if wanted is not None and wanted.isdecimal() else None
        if rank is not None and rank >= len(self.ranks):
            raise HttpError(400, f"data_parallel_rank {rank} is out of range [0, {len(self.ranks)}).")
        with self.lock:
            if self.dead:
                raise HttpError(500, DEAD, "InternalServerError")
            limit = self.args.max_num_queued_reqs
            if limit is not None and self.in_flight + len(requests) > limit:
                self.rejected += 1
                raise HttpError(503, BUSY, "Service Unavailable")
            if self.draining:
                raise HttpError(500, "cannot schedule new futures after shutdown", "InternalServerError")
            self.in_flight += len(requests)
            for request in requests:
                self.ranks[self.turn % len(self.ranks) if rank is None else rank].inbox.put(request)
                self.turn += rank is None

    def done(self, requests: list[Request]) -> None:
        """The call is over, one way or the other: what is left of it is aborted."""
        for request in requests:
            request.aborted = True
        with self.lock:
            self.in_flight -= len(requests)

    def end(self, kind: str, text: str) -> None:
        """Stop every core."""
        for rank in self.ranks:
            rank.end(kind, text)

    def pause(self, mode: str, sleep_level: int | None = None) -> None:
        """Schedule nothing from now on; as vLLM, end what is in flight (abort), finish it (wait) or freeze it (keep).

        `sleep_level` is told in the metrics, where it is a sleep: then the memory is given away as well.
        """
        for rank in self.ranks:
            rank.pause = mode
            for request in [*rank.waiting, *rank.running] if mode == "abort" else []:
                request.aborted = True
                request.events.put(("end", "abort"))
        while mode == "wait" and any(rank.running for rank in self.ranks):
            time.sleep(0.01)
        for rank in self.ranks:
            if mode == "abort":
                rank.statistics.running = rank.statistics.waiting = rank.statistics.deferred = 0
            rank.statistics.sleep_level = sleep_level

    def resume(self) -> None:
        """Schedule again, and be awake."""
        for rank in self.ranks:
            rank.statistics.sleep_level = rank.pause = None

    def paused(self) -> bool:
        """Whether nothing is scheduled; the cores themselves say so, and a hung one does not."""
        while any(self.faults.stuck(rank.number) or rank.stopped() for rank in self.ranks):
            time.sleep(0.05)
        return any(rank.pause is not None for rank in self.ranks)

    def block_server(self, seconds: float) -> None:
        """Block the event loop: nothing is answered, and the server's process computes."""
        self.blocked_until = time.monotonic() + seconds

        def work() -> None:
            for _ in bursts(lambda: time.monotonic() < self.blocked_until):
                pass

        threading.Thread(target=work, daemon=True).start()

    def profile(self, seconds: float) -> None:
        """Have every core write a profile."""
        for rank in self.ranks:
            rank.tasks.put(Work(seconds, computes=True, writes=True))

    def wait_for_adapter(self) -> None:
        """Load an adapter for as long as that takes: every core makes no step meanwhile."""
        seconds = self.faults.adapter_seconds
        for rank in self.ranks if seconds else ():
            rank.tasks.put(Work(seconds))
        time.sleep(seconds)

    def allocate(self, megabytes: int) -> None:
        """Have every core take that much memory, and keep it."""
        for rank in self.ranks:
            rank.tasks.put(Work(FOREVER_SECONDS, megabytes=megabytes))

    def reset_metrics(self) -> None:
        """Have all counters begin again from 0."""
        for rank in self.ranks:
            level, rank.statistics = rank.statistics.sleep_level, Statistics()
            rank.statistics.sleep_level = level

    def watch(self) -> None:
        """Notice the death of a core. Only one thread may do so."""
        if not self.dead and not all(rank.core is None or rank.core.alive() for rank in self.ranks):
            self.kill()

    def kill(self) -> None:
        """The death of the engine core: requests in flight fail, new ones too, /health answers 503."""
        with self.lock:
            self.dead = True
        for rank in self.ranks:
            if rank.core and rank.core.pid:
                os.kill(rank.core.pid, signal.SIGKILL)
        log(f"vllm.v1.engine.exceptions.EngineDeadError: {DEAD}", source="async_llm.py:906", level="ERROR")
        self.end("error", DEAD)


def rank_numbers(args: argparse.Namespace) -> range:
    """The numbers of the ranks of this server: those of one node of several where load balancing is hybrid."""
    local = args.data_parallel_size_local or args.data_parallel_size
    start = (args.data_parallel_start_rank or 0) if args.data_parallel_hybrid_lb else 0
    return range(start, start + local) if args.data_parallel_hybrid_lb else range(args.data_parallel_size)


# ------------------------------------------------------------------------------------------------------- HTTP: requests


class HttpError(Exception):
    """An answer other than 200, in the shape of vLLM's errors unless `body` says otherwise."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError", *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Any = {"error": {"message": message, "type": kind, "param": param, "code": status}}


def not_found() -> HttpError:
    """What the web framework says of an unknown path."""
    error = HttpError(404, "Not Found")
    error.body = {"detail": "Not Found"}
    return error


def invalid(field: str, problem: str, value: object) -> HttpError:
    """What the request's schema says of a bad field."""
    text = f"1 validation error:\n  {{'type': 'invalid', 'loc': '{field}', 'msg': '{problem}', 'input': {value!r}}}"
    return HttpError(400, text, "Bad Request", param=field)


@dataclasses.dataclass
class Call:
    """A checked inference request."""

    body: dict[str, Any]
    model: str
    prompts: list[str]
    prompt_tokens: list[int]
    chat: bool

    @property
    def stream(self) -> bool:
        """Whether the answer is sent as server-sent events."""
        return bool(self.body.get("stream"))

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


def text_of(content: object) -> str:
    """The text of a message: a string, or a list of parts."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def completion_prompts(body: dict[str, Any]) -> tuple[list[str], list[int]]:
    """The prompts of /v1/completions and their lengths: a text, texts, tokens or lists of tokens."""
    prompt = body.get("prompt")
    if prompt is None or prompt in ("", []):
        message = "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)"
        raise HttpError(400, message, param="prompt")
    many = prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]
    texts = [item if isinstance(item, str) else " ".join(map(str, item)) for item in many]
    return texts, [len(item.encode()) if isinstance(item, str) else len(item) for item in many]


def chat_prompts(body: dict[str, Any]) -> tuple[list[str], list[int]]:
    """The last user message, and the length of the conversation with one token for each role."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise invalid("body.messages", "Field required", body.get("messages"))
    if not messages:
        raise HttpError(400, "Cannot apply chat template to an empty conversation. Provide at least one message.")
    texts = [text_of(message.get("content")) for message in messages]
    return [texts[-1]], [sum(len(text.encode()) + 1 for text in texts) + 1]


def input_texts(body: dict[str, Any]) -> list[str]:
    """The texts of a pooling request: one or several."""
    given = body.get("input")
    if given is None:
        raise invalid("body.input", "Field required", body)
    return [str(item) for item in given] if isinstance(given, list) else [str(given)]


def numbers_of(engine: Engine, text: str, size: int) -> list[float]:
    """What the model makes of a text; nothing where the fault `answer` is the empty text."""
    wanted = 0 if engine.faults.answer == "" else size
    return [((sum(text.encode()) + 31 * place) % 97) / 97 for place in range(wanted)]


def answered_name(engine: Engine, body: dict[str, Any]) -> str | None:
    """The name that the answer carries: the first for an alias, its own for an adapter; None if nothing has it."""
    name = body.get("model") or engine.model_names()[0]
    if name in engine.adapters:
        return str(name)
    return engine.model_names()[0] if name in engine.model_names() else None


def checked_call(engine: Engine, body: dict[str, Any], *, chat: bool) -> Call:
    """The request, or the error that vLLM answers."""
    model = answered_name(engine, body)
    if model is None:
        known = [*engine.model_names(), *engine.adapters]
        aliases = f" Valid aliases: {', '.join(known)}." if len(known) > 1 else ""
        raise HttpError(404, f"The model `{body['model']}` does not exist.{aliases}", "NotFoundError", param="model")
    prompts, lengths = chat_prompts(body) if chat else completion_prompts(body)
    limit = body.get("max_tokens") if not chat else body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise invalid("body.max_tokens", "Input should be a valid integer", limit)
    check_length(limit, max(lengths), engine.max_model_len)
    check_sampling(body, limit)
    answers = body.get("n") or 1
    prompts = [prompt for prompt in prompts for _ in range(answers)]
    lengths = [length for length in lengths for _ in range(answers)]
    return Call(body=body, model=model, prompts=prompts, prompt_tokens=lengths, chat=chat)


def check_sampling(body: dict[str, Any], limit: int | None) -> None:
    """Refuse sampling parameters that vLLM refuses."""
    temperature, top_k, shortest = body.get("temperature"), body.get("top_k") or 0, body.get("min_tokens") or 0
    if isinstance(temperature, (int, float)) and temperature < 0:
        message = f"temperature must be non-negative, got {float(temperature)}."
        raise HttpError(400, f"{message} (parameter=temperature, value={float(temperature)})", param="temperature")
    if top_k < -1:
        raise HttpError(400, f"top_k must be 0 (disable), or at least 1, got {top_k}.")
    if limit is not None and shortest > limit:
        raise HttpError(400, f"min_tokens must be less than or equal to max_tokens={limit}, got {shortest}.")


def check_length(limit: int | None, prompt: int, longest: int) -> None:
    """Refuse a prompt or a `max_tokens` that is too long; a sum that is too long only shortens the answer."""
    if limit is not None and limit > longest:
        message = (
            f"max_tokens={limit} cannot be greater than max_model_len={longest}. Please request fewer output tokens."
        )
        raise HttpError(400, f"{message} (parameter=max_tokens, value={limit})", param="max_tokens")
    if prompt > longest:
        message = (
            f"This model's maximum context length is {longest} tokens. However, your prompt contains at least "
            f"{longest + 1} input tokens, which exceeds this limit even without any output tokens. Please reduce the "
            f"length of the input prompt. (parameter=input_tokens, value={longest + 1})"
        )
        raise HttpError(400, message, param="input_tokens")
    room = longest - prompt if limit is None else min(limit, longest - prompt)
    if room < 1:
        message = f"max_tokens must be at least 1, got {room}. (parameter=max_tokens, value={room})"
        raise HttpError(400, message, param="max_tokens")


def structured_answer(wanted: dict[str, Any]) -> str:
    """The JSON that a `response_format` asks for; empty for plain text."""
    if wanted.get("type") == "json_object":
        return "{}"
    if wanted.get("type") != "json_schema":
        return ""
    schema = (wanted.get("json_schema") or {}).get("schema")
    if not isinstance(schema, dict):
        raise HttpError(400, "When using `json_schema` response_format, `json_schema.schema` has to be set.")
    return json.dumps(instance_of(schema, schema))


def instance_of(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """A small value that fits a JSON schema, as far as pydantic writes them."""
    if "$ref" in schema:
        found: Any = root
        for part in schema["$ref"].lstrip("#/").split("/"):
            found = found[part]
        return instance_of(found, root)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return instance_of(schema[key][0], root)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: instance_of(inner, root) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance_of(schema.get("items", {}), root) for _ in range(schema.get("minItems", 1))]
    plain = {"string": "text", "integer": 1, "number": 0.5, "boolean": True, "null": None}
    return schema.get("minimum", plain[kind])


def answer_tokens(engine: Engine, call: Call, at: int) -> tuple[list[str], str]:
    """The words of the answer and why it ends."""
    fixed = engine.faults.answer
    structured = structured_answer(call.body.get("response_format") or {})
    text = structured or f" {call.model} heard: {call.prompts[at]}" if fixed is None else str(fixed)
    words = re.findall(r"\s*\S+", text)
    room = engine.max_model_len - call.prompt_tokens[at]
    limit = call.body.get("max_completion_tokens") or call.body.get("max_tokens")
    limit = min(limit or (room if call.chat else 16), room)
    wanted = limit if call.body.get("ignore_eos") else min(int(call.body.get("min_tokens") or 0), limit)
    if words:
        words = [words[position % len(words)] for position in range(max(len(words), wanted))]
    return words[:limit], "length" if len(words) >= limit else "stop"


def requests_of(engine: Engine, call: Call) -> list[Request]:
    """One request for the engine per prompt."""
    found = []
    for at, length in enumerate(call.prompt_tokens):
        tokens, reason = answer_tokens(engine, call, at)
        wait = engine.faults.grammar_seconds if call.body.get("response_format") else 0.0
        wait = engine.faults.remote_kv_seconds if call.body.get("kv_transfer_params") else wait
        ready_at, text = time.monotonic() + wait, call.prompts[at]
        found.append(Request(prompt_tokens=length, tokens=tokens, reason=reason, ready_at=ready_at, text=text))
    return found


# -------------------------------------------------------------------------------------------------------- HTTP: answers


def model_card(name: str, root: str, length: int | None, parent: str | None) -> dict[str, Any]:
    """An entry of /v1/models."""
    created = int(time.time())
    permission = {
        "id": f"modelperm-{uuid.uuid4().hex[:16]}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    card = {"id": name, "object": "model", "created": created, "owned_by": "vllm", "root": root, "parent": parent}
    return {**card, "max_model_len": length, "permission": [permission]}


def usage_of(call: Call, requests: list[Request]) -> dict[str, int]:
    """Tokens in and out; a prompt counts once, however many answers it gets."""
    prompt = sum(request.prompt_tokens for request in requests) // (call.body.get("n") or 1)
    made = sum(min(request.made, len(request.tokens)) for request in requests)
    return {"prompt_tokens": prompt, "total_tokens": prompt + made, "completion_tokens": made}


def envelope(call: Call, identity: str, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    """What all answers and chunks share."""
    return {"id": identity, "object": kind, "created": int(time.time()), "model": call.model, "choices": choices}


def logprobs_of(call: Call, text: str) -> dict[str, Any] | None:
    """The tokens of a text, each as likely as the others, as a chat or a completion tells them; None unless asked."""
    if not call.body.get("logprobs"):
        return None
    words = re.findall(r"\s*\S+", text)
    if not call.chat:
        tops = [{word: -0.5} for word in words]
        return {"tokens": words, "token_logprobs": [-0.5] * len(words), "top_logprobs": tops, "text_offset": []}
    told = [{"token": word, "logprob": -0.5, "bytes": list(word.encode())} for word in words]
    return {"content": [{**one, "top_logprobs": [one] if call.body.get("top_logprobs") else []} for one in told]}


def whole_choice(call: Call, index: int, text: str, reason: str) -> dict[str, Any]:
    """A choice of an answer that is not streamed."""
    ending = {"logprobs": logprobs_of(call, text), "finish_reason": reason, "stop_reason": None, "token_ids": None}
    if not call.chat:
        return {"index": index, "text": text, **ending}
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": None, "audio": None}
    return {"index": index, "message": {**message, "function_call": None, "reasoning": None}, **ending}


def chunk_choice(call: Call, index: int, text: str, reason: str | None) -> dict[str, Any]:
    """A choice of one event of a stream."""
    ending = {"logprobs": logprobs_of(call, text), "finish_reason": reason, "stop_reason": None, "token_ids": None}
    return (
        {"index": index, "delta": {"content": text}, **ending}
        if call.chat
        else {"index": index, "text": text, **ending}
    )


class Handler(http.server.BaseHTTPRequestHandler):
    """The HTTP endpoints."""

    protocol_version = "HTTP/1.1"
    server_version = "uvicorn"
    sys_version = ""
    disable_nagle_algorithm = True
    server: Server

    def handle_one_request(self) -> None:
        """As inherited, but a client that goes away is no error."""
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError, ssl.SSLError):
            self.close_connection = True

    def do_GET(self) -> None:
        """Answer a GET."""
        self.dispatch()

    def do_POST(self) -> None:
        """Answer a POST."""
        self.dispatch()

    def do_DELETE(self) -> None:
        """Answer a DELETE."""
        self.dispatch()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        """Access lines are written by `log_request` only."""

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """The access line as uvicorn writes it."""
        del size
        silenced = (self.server.engine.args.disable_access_log_for_endpoints or "").split(",")
        if self.plain_path not in silenced and not self.plain_path.startswith("/stub/"):
            number = int(str(getattr(code, "value", code)))
            phrase = http.HTTPStatus(number).phrase
            client = f"{self.client_address[0]}:{self.client_address[1]}"
            write_log(f'INFO:     {client} - "{self.command} {self.path} HTTP/1.1" {number} {phrase}')

    @property
    def plain_path(self) -> str:
        """The path without the query."""
        return self.path.partition("?")[0]

    def dispatch(self) -> None:
        """Find the endpoint, answer its result or its error."""
        length = int(self.headers.get("Content-Length") or 0)
        self.raw = self.rfile.read(length) if length else b""
        path = self.plain_path
        if not path.startswith("/stub/"):
            self.server.wait_while_hung()
        try:
            if self.server.engine.faults.scaling and not path.startswith("/stub/"):
                self.send_json(503, {"error": SCALES})
                return
            if path.startswith(GUARDED) and not self.authorized():
                self.send_json(401, {"error": "Unauthorized"})
                return
            self.endpoint(path)()
        except HttpError as error:
            self.send_json(error.status, error.body)

    def authorized(self) -> bool:
        """Whether the request carries one of the keys; without keys everybody may pass."""
        keys = self.server.keys
        scheme, _, given = (self.headers.get("Authorization") or "").partition(" ")
        right = any(hmac.compare_digest(given.encode(), key.encode()) for key in keys)
        return not keys or (scheme.lower() == "bearer" and right)

    def endpoint(self, path: str) -> Callable[[], None]:
        """The method that answers; the framework's errors where there is none."""
        table = self.server.routes
        if path not in table:
            raise not_found()
        methods, name = table[path]
        if self.command not in methods:
            error = HttpError(405, "Method Not Allowed")
            error.body = {"detail": "Method Not Allowed"}
            raise error
        found: Callable[[], None] = getattr(self, name)
        return found

    # --- plain endpoints

    def health(self) -> None:
        """GET /health and /ping: 200 unless the engine is known to be dead."""
        self.send_body(503 if self.server.engine.dead else self.server.engine.faults.health_status, b"", None)

    def version_info(self) -> None:
        """GET /version."""
        self.send_json(200, {"version": VERSION})

    def load(self) -> None:
        """GET /load: not tracked by default."""
        self.send_json(200, {"server_load": 0})

    def metrics(self) -> None:
        """GET /metrics, and with a slash at its end those metrics alone that `name[]` asks for."""
        engine = self.server.engine
        faults = engine.faults
        time.sleep(faults.metrics_seconds)
        if faults.metrics_status != 200:
            self.send_json(faults.metrics_status, {"detail": "metrics are broken on demand"})
            return
        text = "# TYPE process_open_fds gauge\nprocess_open_fds 30.0\n"
        if not engine.args.disable_log_stats:
            text += exposition(engine.ranks, engine.names[0], engine.rejected, faults.metrics_prefix)
        if self.plain_path == "/metrics/":
            text = selected(text, urllib.parse.parse_qs(self.path.partition("?")[2]).get("name[]"))
        self.send_body(200, text.encode(), "text/plain; version=1.0.0; charset=utf-8")

    def models(self) -> None:
        """GET /v1/models: names first, then adapters; never asks the engine."""
        engine = self.server.engine
        names = engine.model_names()
        cards = [model_card(name, str(engine.args.model), engine.max_model_len, None) for name in names]
        cards += [model_card(name, path, None, names[0]) for name, path in engine.adapters.items()]
        self.send_json(200, {"object": "list", "data": cards})

    def tokenize(self) -> None:
        """POST /tokenize: a token is a byte."""
        tokens = list(text_of(self.json_body().get("prompt")).encode())
        length = self.server.engine.max_model_len
        self.send_json(200, {"count": len(tokens), "max_model_len": length, "tokens": tokens, "token_strs": None})

    def load_adapter(self) -> None:
        """POST /v1/load_lora_adapter."""
        body = self.json_body()
        name, path = str(body.get("lora_name", "")), str(body.get("lora_path", ""))
        adapters = self.server.engine.adapters
        if not name or not path:
            raise HttpError(400, "Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput")
        if name in self.server.engine.model_names():
            raise HttpError(400, f"The lora adapter '{name}' conflicts with a served base model.", "InvalidUserInput")
        if name in adapters:
            raise HttpError(400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
        self.server.engine.wait_for_adapter()
        if not adapter_exists(path):
            told = re.sub(r"^/(home|mnt|opt|root|srv|tmp|usr|var)/.*", "<path>", path)  # clients are told of no folders
            raise HttpError(404, f"Loading lora {name} failed: No adapter found for {told}", "NotFoundError")
        rank, most = adapter_rank(path), self.server.engine.args.max_lora_rank
        if rank > most:
            told = f"LoRA rank {rank} is greater than max_lora_rank {most}."
            raise HttpError(500, f"Call to add_lora method failed: {told}", "InternalServerError")
        adapters[name] = path
        self.send_body(200, f"Success: LoRA adapter '{name}' added successfully.".encode(), "text/plain; charset=utf-8")

    def unload_adapter(self) -> None:
        """POST /v1/unload_lora_adapter."""
        name = str(self.json_body().get("lora_name", ""))
        if self.server.engine.adapters.pop(name, None) is None:
            raise HttpError(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        text = f"Success: LoRA adapter '{name}' removed successfully."
        self.send_body(200, text.encode(), "text/plain; charset=utf-8")

    # --- inference

    def completions(self) -> None:
        """POST /v1/completions."""
        self.infer(chat=False)

    def invocations(self) -> None:
        """POST /invocations: SageMaker's path, which takes what either of the others takes."""
        (self.chat_completions if b'"messages"' in self.raw else self.completions)()

    def chat_completions(self) -> None:
        """POST /v1/chat/completions."""
        self.infer(chat=True)

    def infer(self, *, chat: bool) -> None:
        """Check, queue, then answer as a whole or as a stream."""
        body = self.json_body()
        self.fail_on_demand()
        engine = self.server.engine
        call = checked_call(engine, body, chat=chat)
        requests = requests_of(engine, call)
        engine.submit(requests, self.headers.get("X-data-parallel-rank"))
        try:
            if call.stream:
                self.stream(call, requests)
            else:
                self.answer(call, requests)
        finally:
            engine.done(requests)

    def fail_on_demand(self) -> None:
        """Answer the error that the fault `fail` asks for, if it is meant for this path."""
        fail = self.server.engine.faults.fail
        if fail and fail.get("path") in (None, self.plain_path):
            error = HttpError(int(fail.get("status", 500)), str(fail.get("message", "failed")), "InternalServerError")
            error.body = fail.get("body", error.body)
            raise error

    def answer(self, call: Call, requests: list[Request]) -> None:
        """Wait for all tokens of all prompts, then send one JSON document."""
        choices = []
        for index, request in enumerate(requests):
            words: list[str] = []
            reason = ""
            for kind, text in self.events(request):
                if kind == "token":
                    words.append(text)
                reason = text
            choices.append(whole_choice(call, index, "".join(words), reason))
        kind = "chat.completion" if call.chat else "text_completion"
        document = envelope(call, identity_of(call), kind, choices)
        document = {**document, "system_fingerprint": f"vllm-{VERSION}-stub", "usage": usage_of(call, requests)}
        self.send_json(200, document, self.load_report())

    def load_report(self) -> dict[str, str]:
        """The header that tells the load, where the request asks for it; of several ranks the last one's, as vLLM."""
        form = self.headers.get("endpoint-load-metrics-format", "").upper()
        if form not in {"TEXT", "JSON"}:
            return {}
        known = self.server.engine.ranks[-1].statistics
        metrics = {"num_requests_waiting": float(known.waiting), "kv_cache_usage_perc": float(known.kv_usage)}
        if self.server.engine.args.disable_log_stats:
            metrics = {}
        text = ", ".join(f"named_metrics.{name}={value}" for name, value in metrics.items())
        text = json.dumps({"named_metrics": metrics}) if form == "JSON" else text
        return {"endpoint-load-metrics": f"{form} {text}"}

    def stream(self, call: Call, requests: list[Request]) -> None:
        """Send an event per token, then the usage if asked for, then [DONE]."""
        identity = identity_of(call)
        kind = "chat.completion.chunk" if call.chat else "text_completion"
        self.start_events()
        try:
            for index, request in enumerate(requests):
                opened = not call.chat
                for text, reason in self.paired(request):
                    if not opened:  # as vLLM: only once the engine has made something
                        opening = {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
                        self.send_event(envelope(call, identity, kind, [opening]))
                        opened = True
                    self.send_event(envelope(call, identity, kind, [chunk_choice(call, index, text, reason)]))
            if call.with_usage:
                self.send_event({**envelope(call, identity, kind, []), "usage": usage_of(call, requests)})
        except HttpError as error:
            self.send_event(error.body)
        self.send_chunk(b"data: [DONE]\n\n")
        self.send_chunk(b"")

    def paired(self, request: Request) -> Iterator[tuple[str, str | None]]:
        """Each token, the last one together with the finish reason."""
        held: str | None = None
        for kind, text in self.events(request):
            if kind == "end":
                yield held or "", text
            elif held is not None:
                yield held, None
            held = text

    def events(self, request: Request) -> Iterator[tuple[str, str]]:
        """The request's tokens and its end. A client that goes away ends the wait, an engine's death is an error."""
        while True:
            self.server.wait_while_hung()
            if self.client_is_gone():
                raise ConnectionAbortedError("the client went away")
            try:
                kind, text = request.events.get(timeout=0.05)
            except queue.Empty:
                continue
            if kind == "error":
                raise HttpError(500, text, "InternalServerError")
            yield kind, text
            if kind == "end":
                return

    def client_is_gone(self) -> bool:
        """Whether the client has closed the connection."""
        if isinstance(self.connection, ssl.SSLSocket):
            return False
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

    # --- pooling

    def embeddings(self) -> None:
        """POST /v1/embeddings."""
        self.pool("embd", lambda numbers: {"object": "embedding", "embedding": numbers})

    def classify(self) -> None:
        """POST /classify."""
        self.pool("classify", lambda numbers: {"label": "LABEL_0", "probs": numbers, "num_classes": len(numbers)})

    def pooling(self) -> None:
        """POST /pooling: the plain numbers, whatever the model pools for."""
        self.pool("pooling", lambda numbers: {"object": "pooling", "data": numbers})

    def pool(self, kind: str, entry: Callable[[list[float]], dict[str, Any]]) -> None:
        """Run the texts through the engine, then answer numbers made of each one."""
        body = self.json_body()
        self.fail_on_demand()
        engine = self.server.engine
        texts, model = input_texts(body), answered_name(engine, body)
        if model is None:
            raise HttpError(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        requests = [Request(prompt_tokens=len(text.encode()), tokens=[], reason="stop", pooled=True) for text in texts]
        engine.submit(requests, None)
        try:
            for request in requests:
                collections.deque(self.events(request), maxlen=0)
        finally:
            engine.done(requests)
        size = 2 if engine.args.convert == "classify" else 8
        data = [{"index": at, **entry(numbers_of(engine, text, size))} for at, text in enumerate(texts)]
        count = sum(request.prompt_tokens for request in requests)
        usage = {"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0}
        document = {"id": f"{kind}-{uuid.uuid4().hex[:16]}", "object": "list", "created": int(time.time())}
        self.send_json(200, {**document, "model": model, "data": data, "usage": usage})

    # --- transcription

    def transcribe(self) -> None:
        """POST /v1/audio/transcriptions: a form with a file; every one says the same."""
        if b'name="file"' not in self.raw:
            raise invalid("body.file", "Field required", None)
        named = re.search(rb'name="model"\r\n\r\n([^\r\n]*)', self.raw)
        self.fail_on_demand()
        engine = self.server.engine
        name = {"model": named[1].decode()} if named else {}
        if answered_name(engine, name) is None:
            raise HttpError(404, f"The model `{name['model']}` does not exist.", "NotFoundError", param="model")
        request = Request(prompt_tokens=1, tokens=[" silence"], reason="stop")
        engine.submit([request], self.headers.get("X-data-parallel-rank"))
        try:
            words = [text for kind, text in self.events(request) if kind == "token"]
        finally:
            engine.done([request])
        self.send_json(200, {"text": "".join(words), "usage": {"type": "duration", "seconds": 1}})

    # --- development mode

    def pause(self) -> None:
        """POST /pause."""
        self.server.engine.pause(self.query("mode", "abort"))
        self.send_json(200, {"status": "paused"})

    def resume(self) -> None:
        """POST /resume."""
        self.server.engine.resume()
        self.send_json(200, {"status": "resumed"})

    def is_paused(self) -> None:
        """GET /is_paused."""
        self.send_json(200, {"is_paused": self.server.engine.paused()})

    def fall_asleep(self) -> None:
        """POST /sleep: level 0 keeps the memory."""
        level = int(self.query("level", "1"))
        self.server.engine.pause(self.query("mode", "abort"), level)
        self.send_json(200, {"status": "sleeping", "level": level})

    def wake_up(self) -> None:
        """POST /wake_up."""
        self.server.engine.resume()
        self.send_json(200, {"status": "awake", "tags": None})

    def is_sleeping(self) -> None:
        """GET /is_sleeping: a pause is a sleep, too."""
        self.send_json(200, {"is_sleeping": self.server.engine.paused()})

    def query(self, name: str, default: str) -> str:
        """A parameter of the path."""
        return urllib.parse.parse_qs(self.path.partition("?")[2]).get(name, [default])[0]

    # --- faults

    def stub_faults(self) -> None:
        """GET, POST, DELETE /stub/faults."""
        engine = self.server.engine
        if self.command == "DELETE":
            engine.faults.reset()
        elif self.command == "POST":
            wanted = self.json_body(any_type=True)
            actions: dict[str, Any] = {name: wanted.pop(name) for name in ACTIONS if name in wanted}
            try:
                engine.faults.change(wanted)
            except KeyError as error:
                raise HttpError(400, str(error.args[0])) from None
            self.act(actions)
        self.send_json(200, dataclasses.asdict(engine.faults))

    def act(self, actions: dict[str, Any]) -> None:
        """Do what is done once."""
        engine = self.server.engine
        deeds: dict[str, Callable[[Any], object]] = {
            "log": write_log,
            "exit": os._exit,
            "kill_engine": lambda _: engine.kill(),
            "block_server": engine.block_server,
            "profile": engine.profile,
            "flood": lambda size: threading.Thread(target=flood, args=(size,), daemon=True).start(),
            "allocate": engine.allocate,
            "lose_adapter": lambda name: engine.adapters.pop(name, None),
            "find_adapter": lambda found: engine.adapters.update({found["name"]: found["path"]}),
            "reset_metrics": lambda _: engine.reset_metrics(),
        }
        for name, wanted in actions.items():
            if wanted is not False:
                deeds[name](wanted)

    # --- bodies

    def json_body(self, *, any_type: bool = False) -> dict[str, Any]:
        """The request's JSON object."""
        kind = (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if kind != "application/json" and not any_type:
            text = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
            raise HttpError(400, text, "Bad Request")
        try:
            body = json.loads(self.raw)
        except ValueError as error:
            raise invalid("body.1", "JSON decode error", str(error)) from None
        if not isinstance(body, dict):
            raise invalid("body", "Input should be a valid dictionary or object", body)
        return body

    def send_json(self, status: int, document: Any, headers: Mapping[str, str] | None = None) -> None:
        """Answer a JSON document."""
        body = json.dumps(document, separators=(",", ":")).encode()
        self.send_body(status, body, "application/json", headers)

    def send_body(self, status: int, body: bytes, kind: str | None, headers: Mapping[str, str] | None = None) -> None:
        """Answer with a body of known length."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if kind:
            self.send_header("Content-Type", kind)
        if self.server.closing:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def start_events(self) -> None:
        """The head of an event stream."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_event(self, document: Any) -> None:
        """One server-sent event."""
        self.send_chunk(b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n")

    def send_chunk(self, data: bytes) -> None:
        """One chunk of the transfer encoding; an empty one ends it."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def identity_of(call: Call) -> str:
    """A new id for an answer."""
    return f"{'chatcmpl' if call.chat else 'cmpl'}-{uuid.uuid4().hex[:16]}"


# --------------------------------------------------------------------------------------------------------------- server


class Server(http.server.ThreadingHTTPServer):
    """The HTTP server: one thread per connection."""

    daemon_threads = True
    request_queue_size = BACKLOG
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], engine: Engine) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)
        self.fronts: list[Front] = []
        self.engine = engine
        self.keys = api_keys(engine.args)
        self.routes = routes_of(engine.args)
        self.closing = False

    def server_bind(self) -> None:
        """As inherited, for one family alone where that is wanted, and without asking DNS for the own name."""
        if self.address_family == socket.AF_INET6:
            only = os.environ.get("STUB_IPV6_ONLY") == "1"
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection is no news; anything else is shown."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError, ssl.SSLError)):
            super().handle_error(request, client_address)

    def wait_while_hung(self) -> None:
        """A stopped server answers nobody."""
        while self.engine.faults.hang_server or time.monotonic() < self.engine.blocked_until:
            time.sleep(0.1)  # seldom: a stopped process computes nothing


def routes_of(args: argparse.Namespace) -> dict[str, tuple[tuple[str, ...], str]]:
    """Path -> methods and the handler's method. What the model can do decides which inference paths exist."""
    get, post = ("GET",), ("POST",)
    routes = {
        "/health": (get, "health"),
        "/ping": (("GET", "POST"), "health"),
        "/version": (get, "version_info"),
        "/load": (get, "load"),
        "/metrics": (get, "metrics"),
        "/metrics/": (get, "metrics"),
        "/tokenize": (post, "tokenize"),
        "/v1/models": (get, "models"),
        "/stub/faults": (("GET", "POST", "DELETE"), "stub_faults"),
    }
    routes.update({path: (post, name) for path, name in inference_paths(args).items()})
    if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "").lower() in ("1", "true"):
        routes["/v1/load_lora_adapter"] = (post, "load_adapter")
        routes["/v1/unload_lora_adapter"] = (post, "unload_adapter")
    if os.environ.get("VLLM_SERVER_DEV_MODE", "0") != "0":
        routes.update({"/pause": (post, "pause"), "/resume": (post, "resume"), "/is_paused": (get, "is_paused")})
        routes.update({"/sleep": (post, "fall_asleep"), "/wake_up": (post, "wake_up")})
        routes["/is_sleeping"] = (get, "is_sleeping")
    return routes


def inference_paths(args: argparse.Namespace) -> dict[str, str]:
    """Path -> the handler's method, for what the model does: generate, embed or classify."""
    if args.runner != "pooling" and args.convert not in CONVERTED:
        paths = {"/v1/completions": "completions", "/v1/chat/completions": "chat_completions"}
        paths["/invocations"] = "invocations"
        transcription = {"/v1/audio/transcriptions": "transcribe"}
        chat = {"/v1/chat/completions": "chat_completions"}
        task = os.environ.get("STUB_TASK", "generate")
        return {"generate": paths, "chat": chat, "transcription": transcription}[task]
    if args.convert == "classify":
        return {"/classify": "classify", "/pooling": "pooling"}
    return {"/v1/embeddings": "embeddings", "/pooling": "pooling"}


class Signals:
    """SIGTERM and SIGINT, noted. While the engine loads, nothing comes of SIGTERM, and SIGINT is Python's own."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self.note)

    def loaded(self) -> None:
        """From now on both end the server."""
        self.asked = False
        signal.signal(signal.SIGINT, self.note)

    def note(self, number: int, frame: object) -> None:
        """The signal handler."""
        del number, frame
        self.asked = True


def load_model(args: argparse.Namespace) -> None:
    """Write the log of a start, spread over the time of loading."""
    name, length = str(args.model), Engine.longest(args)
    given = {key: value for key, value in vars(args).items() if key in ("model", "served_model_name", "port")}
    core = "EngineCore"
    lines: list[tuple[str, str, str]] = [
        ("APIServer", "api_utils.py:347", f"version {VERSION}"),
        ("APIServer", "api_utils.py:347", f"model   {name}"),
        ("APIServer", "api_utils.py:286", f"non-default args: {given}"),
        ("APIServer", "model.py:733", "Resolved architecture: LlamaForCausalLM"),
        ("APIServer", "model.py:2152", f"Using max model len {length}"),
        (core, "core.py:133", f"Initializing a V1 LLM engine (v{VERSION}) with config: model='{name}'"),
        ("Worker", "model_runner.py:68", f"Starting to load model {name}..."),
        ("Worker", "weight_utils.py:600", f"Time spent downloading weights for {name}: 0.10 seconds"),
        ("Worker", "default_loader.py:501", "Loading safetensors checkpoint shards: 100% Completed | 1/1"),
        ("Worker", "default_loader.py:501", "Loading weights took 0.01 seconds"),
        ("Worker", "model_runner.py:90", "Model loading took 0.01 GiB memory and 0.10 seconds"),
        ("Worker", "worker.py:260", "Available KV cache memory: 0.06 GiB"),
        (
            core,
            "kv_cache_utils.py:2327",
            "GPU KV cache size: 65,536 tokens, Maximum concurrency for 1,024 tokens per request: 64.00x",
        ),
        (core, "core.py:402", "init engine (profile, create kv cache, warmup model) took 0.12 s"),
    ]
    pause = float(os.environ.get("STUB_LOAD_SECONDS", "0")) / len(lines)
    for at, (process, source, text) in enumerate(lines):
        log(text, source=source, process=process)
        time.sleep(pause)
        if at == 5:
            check_core(args)


def fail_start(failure: StartError) -> int:
    """Write the log of a failed start; the exit code."""
    if not failure.in_core:
        write_log(f"(APIServer pid={os.getpid()}) Traceback (most recent call last):")
        write_log(f"(APIServer pid={os.getpid()}) ValueError: {failure}")
        return 1
    log("EngineCore failed to start.", process="EngineCore", source="core.py:1100", level="ERROR")
    for line in str(failure).splitlines():
        log(line, process="EngineCore", source="core.py:1100", level="ERROR")
    write_log(f"(APIServer pid={os.getpid()}) Traceback (most recent call last):")
    for number in range(60):
        write_log(
            f'(APIServer pid={os.getpid()})   File "/usr/lib/vllm/entrypoints/cli/serve.py", line {number}, in run'
        )
    wrapper = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    write_log(f"(APIServer pid={os.getpid()}) {wrapper}")
    return int(os.environ.get("STUB_EXIT_CODE", "1"))


def make_server(args: argparse.Namespace, engine: Engine) -> Server:
    """Bind and listen.

    Raises:
        StartError: The address is in use.
    """
    host = args.host or "0.0.0.0"  # noqa: S104 - as the real one
    count = args.api_server_count or 1
    try:
        server = Server((host, args.port), engine)
        if count > 1:
            server = with_fronts(server, engine, count)
    except OSError as error:
        raise StartError(f"[Errno {error.errno}] Address already in use" if error.errno == 98 else str(error)) from None
    if args.ssl_certfile:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.ssl_certfile, args.ssl_keyfile)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if args.ssl_certfile else "http"
    log(f"Starting vLLM server on {scheme}://{host}:{server.server_address[1]}", source="entry.py:140")
    write_log(f"INFO:     Started server process [{os.getpid()}]")
    write_log("INFO:     Waiting for application startup.")
    write_log("INFO:     Application startup complete.")
    return server


def with_fronts(public: Server, engine: Engine, count: int) -> Server:
    """A server behind so many processes that take the clients from the public one's socket."""
    inner = Server(("127.0.0.1", 0), engine)
    place = ("127.0.0.1", int(inner.server_address[1]))
    inner.fronts = [Front(number, public.socket, place) for number in range(count)]
    public.socket.close()
    return inner


def shut_down(server: Server) -> None:
    """Abort or drain what is in flight, as --shutdown-timeout says. /health stays 200 while draining."""
    engine = server.engine
    timeout = engine.args.shutdown_timeout
    log("[shutdown] API server: shutdown triggered", source="launcher.py:254")
    with engine.lock:
        engine.draining = True
    deadline = time.monotonic() + timeout
    while timeout and engine.in_flight > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    server.closing = True
    engine.end("end", "abort")
    for front in server.fronts:
        front.end()
    server.shutdown()
    server.server_close()
    for _ in range(100):
        if engine.in_flight <= 0:
            break
        time.sleep(0.01)
    write_log("INFO:     Application shutdown complete.")


def serve(args: argparse.Namespace) -> int:
    """Load, serve, end; the exit code."""
    signals = Signals()
    faults = Faults()
    faults.change(json.loads(os.environ.get("STUB_FAULTS", "{}")))
    if args.headless:
        return wait_headless(args, signals)
    try:
        check(args)
        group = Group(args.nnodes - 1, args.master_port) if args.nnodes > 1 else None
        while group is not None and not group.whole:
            time.sleep(0.05)
        load_model(args)
        engine = Engine(args, faults)
        server = make_server(args, engine)
    except StartError as failure:
        return fail_start(failure)
    for rank in engine.ranks:
        rank.group = group
        rank.start()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    signals.loaded()
    died: float | None = None
    while faults.hang_server or not signals.asked:
        time.sleep(0.05)
        engine.watch()
        if engine.dead:
            died = time.monotonic() if died is None else died
            if time.monotonic() - died >= DEAD_SECONDS:
                return 0
    shut_down(server)
    return 0


def wait_headless(args: argparse.Namespace, signals: Signals) -> int:
    """A worker node of a group: loads, then serves no HTTP at all until it is ended."""
    try:
        check(args)
        load_model(args)
    except StartError as failure:
        return fail_start(failure)
    if args.nnodes > 1:
        threading.Thread(target=take_part, args=(args,), daemon=True).start()
    while not signals.asked:
        time.sleep(0.05)
    return 0


def dashed(argument: str) -> str:
    """Flags may be written with underscores, as vLLM allows."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def main(argv: list[str]) -> int:
    """`vllm serve MODEL [flags]`."""
    code = serve(build_parser().parse_args([dashed(argument) for argument in with_config(argv)]))
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    # Handler threads may still wait on a fault: the process ends without them.
    os._exit(main(sys.argv[1:]))
