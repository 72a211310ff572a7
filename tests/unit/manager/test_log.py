"""The log of the engine: phases, warnings and root causes, out of what vLLM 0.32.0 has really written."""

from __future__ import annotations

import itertools
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cluster.paths import REPOSITORY
from vllm_operator.manager.log import LONGEST_EXCERPT_BYTES, LONGEST_LINE_BYTES, Log
from vllm_operator.manager.signatures import CAUSES, PHASE_LINES, PHASES

if TYPE_CHECKING:
    from collections.abc import Iterable

LOGS = REPOSITORY / "tests" / "data" / "logs"
"""Of real starts; only paths are changed, and the longest lines cut."""
STAMP = "11-25 23:40:13"
CORE = f"(EngineCore pid=31) ERROR {STAMP} [core.py:1510] "
SERVER_TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "/opt/venv/lib/python3.12/site-packages/vllm/v1/engine/utils.py", line 1431, in wait\n'
    "    raise RuntimeError(\n"
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}\n"
)


def wall_clock() -> float:
    """The time of the stamps above, in this year and this time zone."""
    return time.mktime(time.strptime(f"{time.localtime().tm_year}-{STAMP}", "%Y-%m-%d %H:%M:%S"))


def read(text: str | bytes, **environment: str) -> Log:
    log = Log(environment, clock=wall_clock)
    log.feed(text if isinstance(text, bytes) else text.encode(), 100.0)
    return log


def phases(chunks: Iterable[bytes]) -> list[str]:
    log, seen = Log({}, clock=wall_clock), []
    for chunk in chunks:
        log.feed(chunk, 100.0)
        told = f"{log.phase.name} {log.phase.detail}".strip()
        if told not in seen:
            seen.append(told)
    return seen


def test_the_phases_of_a_real_start_are_told_one_after_the_other() -> None:
    lines = (LOGS / "serving.log").read_bytes().splitlines(keepends=True)
    assert phases(lines) == [
        "Starting",
        "LoadingWeights",
        "LoadingWeights 0 of 1 shards",
        "LoadingWeights 1 of 1 shards",
        "KVCache 65,536 tokens",
        "Warmup",
        "Ready",
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Fetching 8 files:  38%|███▊      | 3/8 [00:10<00:12,  2.40s/it]", "Downloading 3 of 8 files"),
        (
            "model-00001-of-00004.safetensors:  42%|████▏     | 2.08G/4.98G [00:20<00:28, 101MB/s]",
            "Downloading 2.08 GB of 4.98 GB",
        ),
        ("Time spent downloading weights for org/m: 12.3 seconds", "LoadingWeights"),
        ("Filesystem type for checkpoints: NFS. Checkpoint size: 14.96 GiB. Available", "LoadingWeights 14.96 GiB"),
        (
            "Loading safetensors checkpoint shards:  38% Completed | 3/8 [00:01<?, 1it/s]",
            "LoadingWeights 3 of 8 shards",
        ),
        ("Loading pt checkpoint shards:  38% Completed | 3/8 [00:01<?, ?it/s]", "LoadingWeights 3 of 8 shards"),
        ("Multi-thread loading shards:  38% Completed | 3/8 [00:01<?, ?it/s]", "LoadingWeights 3 of 8 shards"),
        (
            "Loading safetensors using Runai Model Streamer:  10% Completed | 30/291 [00:00<?, ?it/s]",
            "LoadingWeights 30 of 291 tensors",
        ),
        (
            "Loading safetensors using InstantTensor loader:  50% Completed | 1.20G/4.50G [00:00<?, ?B/s]",
            "LoadingWeights 1.20 GiB of 4.50 GiB",
        ),
        ("Dynamo bytecode transform time: 5.20 s", "Compiling"),
        ("Directly load AOT compilation from path /x", "Compiling from the cache"),
        ("Available KV cache memory: 31.42 GiB", "KVCache 31.42 GiB"),
        ("GPU KV cache size: 257,392 tokens, Maximum concurrency", "KVCache 257,392 tokens"),
        (
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  18%|█▊  | 12/67 [00:01<00:05,  9.9it/s]",
            "CapturingGraphs 12 of 67 graphs",
        ),
        ("Capturing CUDA graphs (FULL):  18%|█▊  | 12/67 [00:01<00:05,  9.9it/s]", "CapturingGraphs 12 of 67 graphs"),
        ("init engine (profile, create kv cache, warmup model) took 9.80 s", "Warmup"),
        ("INFO:     Application startup complete.", "Ready"),
    ],
)
def test_what_the_log_says_of_a_phase_is_its_detail(line: str, told: str) -> None:
    assert phases([f"{line}\n".encode()]) == [told]
    assert phases([f"\r{line}".encode(), b"\r"])[-1] == told  # a progress bar ends with the next one's beginning


def test_a_start_never_goes_back() -> None:
    """Ranks of data parallelism load side by side, and a server that grows later loads while it serves."""
    log = read("Application startup complete.\nStarting to load model x...\n")
    assert log.phase.name == "Ready"


def test_a_phase_is_told_since_its_own_beginning() -> None:
    log = Log({}, clock=wall_clock)
    log.feed(b"hello\n", 3.0)
    log.feed(b"Loading safetensors checkpoint shards:   0% Completed | 0/2\n", 5.0)
    log.feed(b"Loading safetensors checkpoint shards:  50% Completed | 1/2\n", 9.0)
    assert (log.phase.name, log.phase.detail, log.phase.since) == ("LoadingWeights", "1 of 2 shards", 5.0)


def test_phase_lines_name_known_phases_only() -> None:
    assert {phase for _, _, phase, _ in PHASE_LINES} <= set(PHASES)


LOADED = "init engine (profile, create kv cache, warmup model) took 9.80 s"


@pytest.mark.parametrize(
    "line",
    [
        f"(Worker pid=9) WARNING {STAMP} [jit_monitor.py:151] Triton kernel JIT compilation during inference: f. This",
        f"(Worker pid=9) WARNING {STAMP} [jit_monitor.py:151] TileLang JIT compilation during inference: mha. This",
        "Triton autotuning for function _fwd,",
        f"Application startup complete.\n(W pid=9) INFO {STAMP} [backends.py:9] Compiling a graph for compile range",
        # with --uvicorn-log-level warning, nothing tells that the server has started
        f"{LOADED}\n(W pid=9) INFO {STAMP} [backends.py:9] Compiling a graph for compile range",
    ],
)
def test_compilation_during_inference_is_seen(line: str) -> None:
    assert read(f"{line}\n").look().compiled_at == 100.0


def test_the_monitors_own_start_is_no_compilation() -> None:
    log = read("Kernel JIT monitor activated; monitored JIT compilations during inference will use mode=warn.\n")
    assert log.look().compiled_at is None


def test_a_worker_that_waits_for_others_is_seen() -> None:
    line = (
        f"(EngineCore pid=1) INFO {STAMP} [shm_broadcast.py:681] No available shared memory broadcast block found in 60"
    )
    assert read(f"{line} seconds.\n").look().blocked_at == 100.0


def test_lines_that_a_later_judge_reads_are_as_old_as_their_stamps_say() -> None:
    log = Log({}, clock=lambda: wall_clock() + 240.0)
    log.feed(f"(W pid=9) WARNING {STAMP} [jit_monitor.py:1] JIT compilation during inference: f.\n".encode(), 1000.0)
    assert log.look().compiled_at == 760.0


def test_a_stamp_of_another_time_zone_counts_as_now() -> None:
    for hours in (-8, 8):
        log = Log({}, clock=lambda hours=hours: wall_clock() + hours * 3600)  # type: ignore[misc]
        log.feed(f"(W pid=9) WARNING {STAMP} [jit_monitor.py:1] JIT compilation during inference: f.\n".encode(), 9.0)
        assert log.look().compiled_at == 9.0


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("no-kv-cache", "EngineCore failed to start.", "ValueError: No available memory for the cache blocks."),
        ("truncated-weights", "WorkerProc failed to start.", "SafetensorError: Error while deserializing header"),
        ("max-model-len", "Traceback", "User-specified max_model_len (999999) is greater than the derived"),
        (
            "no-adapter",
            "WorkerProc hit an exception.",
            "Loading lora a failed: No adapter found for /nowhere",
        ),
    ],
)
def test_the_root_cause_of_a_real_failure_is_found_under_what_wraps_it(name: str, first: str, last: str) -> None:
    excerpt = read((LOGS / f"{name}.log").read_bytes()).excerpt()
    assert excerpt.startswith(first)
    assert last in excerpt
    assert "Traceback" in excerpt
    assert "initialization failed" not in excerpt
    assert len(excerpt.encode()) <= LONGEST_EXCERPT_BYTES


def test_a_log_without_errors_has_no_excerpt() -> None:
    assert read((LOGS / "serving.log").read_bytes()).excerpt() == ""


def test_what_only_wraps_is_told_where_there_is_nothing_else() -> None:
    assert "Engine core initialization failed" in read(SERVER_TRACEBACK).excerpt()


def test_a_worker_that_a_signal_ended_is_told() -> None:
    died = "Worker proc VllmWorker-0 died unexpectedly (exit code: -4)"
    excerpt = read(f"{CORE}{died}, shutting down executor.\n{CORE}RuntimeError: Executor failed.\n").excerpt()
    assert died in excerpt


def test_a_cause_comes_with_what_is_said_of_ended_processes() -> None:
    log = read(f"{CORE}ValueError: No available memory for the cache blocks.\n{SERVER_TRACEBACK}")
    assert log.excerpt() == (
        "ValueError: No available memory for the cache blocks.\nFailed core proc(s): {'EngineCore': 1}"
    )


def test_errors_of_another_hour_are_not_the_cause() -> None:
    log = Log({}, clock=wall_clock)
    log.feed(b"ValueError: a bad request\n", 10.0)
    log.feed(b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n", 4000.0)
    assert log.excerpt().startswith("torch.OutOfMemoryError")
    assert "bad request" not in log.excerpt()


def test_a_wrapper_that_comes_late_does_not_hide_the_cause() -> None:
    log = Log({}, clock=wall_clock)
    log.feed(f"{CORE}RuntimeError: NCCL error: unhandled system error\n".encode(), 10.0)
    log.feed(SERVER_TRACEBACK.encode(), 310.0)
    assert log.excerpt().startswith("RuntimeError: NCCL error")


def test_of_exceptions_that_follow_from_one_another_the_whole_chain_is_one_error() -> None:
    chain = (
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    connect()\nConnectionError: refused\n\n'
        "The above exception was the direct cause of the following exception:\n\n"
        'Traceback (most recent call last):\n  File "b.py", line 1, in g\n    raise OSError\n'
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files\n"
    )
    excerpt = read(chain + SERVER_TRACEBACK).excerpt()
    assert "ConnectionError: refused" in excerpt
    assert "We couldn't connect to" in excerpt
    assert "initialization failed" not in excerpt


def test_processes_that_fail_at_once_are_kept_apart() -> None:
    lines = [
        "(Worker_TP{} pid={}) ERROR 11-25 23:40:13 [x.py:1] Traceback (most recent call last):\n",
        '(Worker_TP{} pid={}) ERROR 11-25 23:40:13 [x.py:1]   File "w.py", line 1, in rank{}\n',
        "(Worker_TP{} pid={}) ERROR 11-25 23:40:13 [x.py:1] ValueError: rank {}\n",
    ]
    excerpt = read("".join(line.format(rank, rank, rank) for line in lines for rank in (0, 1))).excerpt()
    assert "rank 0" in excerpt
    assert "rank 1" not in excerpt


@pytest.mark.parametrize(
    "line",
    [
        "vllm: error: unrecognized arguments: --swap-space 4",
        "Fatal Python error: Segmentation fault",
        "terminate called after throwing an instance of 'c10::Error'",
        f"(APIServer pid=1) CRITICAL {STAMP} [launcher.py:1] the server is gone",
        f"\x1b[31mERROR {STAMP} [core.py:1] coloured\x1b[0m",
        '{"levelname": "ERROR", "message": "in JSON", "name": "vllm"}',
    ],
)
def test_errors_of_other_forms_are_found(line: str) -> None:
    excerpt = read(f"some line\n{line}\nINFO:     another\n").excerpt()
    assert excerpt
    assert excerpt.splitlines()[0] in line + "coloured" + "in JSON"
    assert "another" not in excerpt
    assert "\x1b" not in excerpt


def test_a_request_that_was_refused_is_no_error_of_the_engine() -> None:
    assert (
        read('(APIServer pid=1) INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 400 Bad Request\n').excerpt()
        == ""
    )


KEYS = {
    "VLLM_API_KEY": "sk-a/b+c (1)",
    "API_KEY_2": "k2-secret",
    "HF_TOKEN": "hf_abc",
    "AWS_SECRET_ACCESS_KEY": "x" * 900,
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("padding", [0, 500, 595, 1990, LONGEST_LINE_BYTES - 40])
def test_keys_never_appear_in_an_excerpt(name: str, padding: int) -> None:
    value = KEYS[name]
    text = f"{CORE}ValueError: {'y' * padding} key={value} refused\nValueError: Bearer {value}\n"
    excerpt = read(text, **KEYS).excerpt()
    assert excerpt
    assert not any(value[:length] in excerpt for length in range(min(5, len(value)), len(value) + 1))


def test_a_key_of_one_letter_does_not_blot_out_everything() -> None:
    assert read(f"{CORE}ValueError: a bad a\n", VLLM_API_KEY="a").excerpt() == "ValueError: *** bad ***"


PIECES = st.sampled_from(
    [
        b"\n", b"\r", b"\r\n", b"x" * 9000, b"\xff\xfe", b"{", b"Traceback (most recent call last):\n",
        b"  File \"x\", line\n",
        b"ValueError: no\n", b"The above exception was the direct cause\n", CORE.encode(), b"(A pid=1) ",
        b"INFO:     x\n",
        b"Loading safetensors checkpoint shards:  50% Completed | 1/2", b"Capturing CUDA graphs (FULL): 1%|x| 1/9",
        b" during inference: k", b"No available shared memory broadcast block found", b"Application startup complete.",
        b"CUDA out of memory", b'{"level": "ERROR", "message": "x"}\n', b"sk-secret",
    ]
)  # fmt: skip
BYTES = st.lists(PIECES | st.binary(max_size=40), max_size=60).map(b"".join)


@settings(deadline=None, max_examples=200)
@given(BYTES, st.lists(st.integers(0, 4000), max_size=40))
def test_any_bytes_in_any_pieces_give_the_same_result(data: bytes, cuts: list[int]) -> None:
    whole, pieces = Log({"VLLM_API_KEY": "sk-secret"}, wall_clock), Log({"VLLM_API_KEY": "sk-secret"}, wall_clock)
    whole.feed(data, 5.0)
    pieces.feed(b"", 5.0)
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    for start, end in itertools.pairwise(places):
        pieces.feed(data[start:end], 5.0)
    assert (whole.phase, whole.look(), whole.excerpt()) == (pieces.phase, pieces.look(), pieces.excerpt())
    assert len(whole.excerpt().encode()) <= LONGEST_EXCERPT_BYTES
    assert "sk-secret" not in whole.excerpt()


@pytest.mark.parametrize(
    "line",
    [
        b"x" * 65536,
        b'INFO:     127.0.0.1:40352 - "POST /v1/completions HTTP/1.1" 200 OK\n' * 900,
        f"{CORE}ValueError: {'z' * 300}\n".encode() * 180,
        b'Traceback (most recent call last):\n  File "/x.py", line 3, in f\n    raise ValueError(3)\nValueError: 3\n'
        * 600,
        b"(A pid=%d) Traceback (most recent call last):\n" * 1000,
        b"".join(CORE.encode().replace(b":13 [", b":%02d [" % (n % 60)) + b"z" * 9000 + b"\n" for n in range(60)),
    ],
    ids=["no end", "access log", "errors", "tracebacks", "open tracebacks", "long lines"],
)
def test_memory_is_bounded_whatever_is_fed(line: bytes) -> None:
    log = Log({}, clock=wall_clock)
    tracemalloc.start()
    try:
        for number in range(20):
            log.feed(line, number / 10)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


def test_one_thread_may_feed_while_another_asks() -> None:
    log, ended = Log({}, clock=wall_clock), threading.Event()

    def feed() -> None:
        for number in range(300):
            log.feed(b"Traceback (most recent call last):\n  File x\nValueError: no\n" * 20, number / 100)
        ended.set()

    thread = threading.Thread(target=feed)
    thread.start()
    while not ended.is_set():
        assert len(log.excerpt()) <= LONGEST_EXCERPT_BYTES
    thread.join()
    assert "ValueError: no" in log.excerpt()


def test_a_hundred_megabytes_of_ordinary_log_are_read_in_seconds() -> None:
    block = b'(APIServer pid=1) INFO:     127.0.0.1:40352 - "POST /v1/completions HTTP/1.1" 200 OK\n' * 750
    log, started = Log({}, clock=wall_clock), time.process_time()
    for _ in range(100_000_000 // len(block)):
        log.feed(block, 1.0)
    assert time.process_time() - started < 10  # 0.8 s as measured, on a machine that does nothing else


def test_each_cause_has_a_name_of_its_own() -> None:
    names = [name for name, _ in CAUSES]
    assert len(names) == len(set(names))
