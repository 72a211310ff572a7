"""The log of the engine: phases, warnings and root causes, out of what vLLM 0.32.0 has really written."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cluster.paths import REPOSITORY
from vllm_operator.diagnosis.signatures import explain, signatures, table
from vllm_operator.manager.log import LONGEST_EXCERPT_BYTES, LONGEST_LINE_BYTES, Log
from vllm_operator.manager.matching import MARK, table_of
from vllm_operator.manager.signatures import PHASE_LINES, PHASES

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.slow

LOGS = REPOSITORY / "tests" / "data" / "logs"
"""Of real starts; only paths are changed, and the longest lines cut."""
STAMP = "11-25 23:40:13"
EXCEPTION = re.compile(r"[\w.]*(?:Error|Exception): ")
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
    log = Log(environment, clock=wall_clock, table=table())
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
    log = Log({}, clock=wall_clock, table=table())
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
    log = Log({}, clock=wall_clock, table=table())
    log.feed(b"ValueError: a bad request\n", 10.0)
    log.feed(b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n", 4000.0)
    assert log.excerpt().startswith("torch.OutOfMemoryError")
    assert "bad request" not in log.excerpt()


def test_a_wrapper_that_comes_late_does_not_hide_the_cause() -> None:
    log = Log({}, clock=wall_clock, table=table())
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
    log = Log({}, clock=wall_clock, table=table())
    tracemalloc.start()
    try:
        for number in range(20):
            log.feed(line, number / 10)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


def test_one_thread_may_feed_while_another_asks() -> None:
    log, ended = Log({}, clock=wall_clock, table=table()), threading.Event()

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
    log, started = Log({}, clock=wall_clock, table=table()), time.process_time()
    for _ in range(100_000_000 // len(block)):
        log.feed(block, 1.0)
    assert time.process_time() - started < 10  # 0.8 s as measured, on a machine that does nothing else


# ----------------------------------------------------------------------------------------- what is known of a failure


@pytest.mark.parametrize(
    ("name", "diagnosis"),
    [
        ("no-kv-cache", "NoKvCache"),
        ("max-model-len", "MaxModelLen"),
        ("no-adapter", "NoAdapter"),
        ("truncated-weights", "TruncatedWeights"),
    ],
)
def test_a_real_failure_is_recognized_under_what_wraps_it(name: str, diagnosis: str) -> None:
    found = read((LOGS / f"{name}.log").read_bytes()).diagnosis(100.0)
    assert found is not None
    assert found.id == diagnosis
    assert explain(found.id, found.groups) is not None


def test_each_sample_is_recognized_in_a_log_in_which_the_engine_core_fails_of_it() -> None:
    """As vLLM writes: a traceback in the core's log, then the server's own, which only says that the core failed."""
    for one in signatures():
        said_by_manager = one.source.startswith("the sentence of the engine's manager")
        if one.kind not in ("cause", "consequence") or said_by_manager:
            continue
        for sample in one.samples:
            error = sample if EXCEPTION.match(sample) else f"RuntimeError: {sample}"
            lines = ["Traceback (most recent call last):", '  File "core.py", line 1, in run', error]
            found = read("".join(f"{CORE}{line}\n" for line in lines) + SERVER_TRACEBACK).diagnosis(100.0)
            assert found is not None, sample
            assert found.id == one.id, sample


def test_a_serving_engine_has_no_diagnosis() -> None:
    assert read((LOGS / "serving.log").read_bytes()).diagnosis(100.0) is None


def test_an_unknown_error_is_not_told_as_something_else() -> None:
    """The traceback says what it is; that the core failed is no explanation of it."""
    unknown = f"{CORE}Traceback (most recent call last):\n{CORE}  File a\n{CORE}ZeroDivisionError: division by zero\n"
    log = read(unknown + SERVER_TRACEBACK)
    assert log.diagnosis(100.0) is None
    assert "ZeroDivisionError" in log.excerpt()


def test_a_failure_of_another_hour_does_not_explain_what_happens_now() -> None:
    """An engine that hangs, or is killed, hours after an error that it has survived."""
    log = read(f"{CORE}ValueError: No available memory for the cache blocks.\n")
    assert log.diagnosis(200.0) is not None
    assert log.diagnosis(3600.0) is None
    assert log.last_words(3600.0) == "ValueError: No available memory for the cache blocks."


def test_a_cause_in_the_output_of_a_process_that_looks_at_the_model_is_found() -> None:
    """As reported for MIG devices: three frames up it is told as a model that cannot be inspected."""
    place = "(APIServer pid=1) ERROR 11-25 23:40:13 [registry.py:1340] "
    lines = (
        "Error in inspecting model architecture 'LlamaForCausalLM'",
        "Traceback (most recent call last):",
        '  File "registry.py", line 1392, in _run_in_subprocess',
        "subprocess.CalledProcessError: Command '['python3', '-m', 'x']' returned non-zero exit status 1.",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "Traceback (most recent call last):",
        "RuntimeError: Error raised in subprocess:",
        "Traceback (most recent call last):",
        '  File "interface.py", line 247, in device_id_to_physical_device_id',
        "ValueError: invalid literal for int() with base 10: 'MIG-4c60d78c-506f-5593-938d-a136eaa1fa52'",
    )
    wrapper = (
        "Traceback (most recent call last):\n  File a\npydantic_core._pydantic_core.ValidationError: 1 validation "
        "error for ModelConfig\n  Value error, Model architectures ['LlamaForCausalLM'] failed to be inspected.\n"
    )
    found = read("".join(f"{place}{line}\n" for line in lines) + wrapper).diagnosis(100.0)
    assert found is not None
    assert (found.id, found.groups) == ("DevicesByUuid", {"device": "MIG-4c60d78c-506f-5593-938d-a136eaa1fa52"})
    alone = read(wrapper).diagnosis(100.0)
    assert alone is not None
    assert alone.id == "ModelNotInspected"


def test_where_nothing_but_wrappers_stands_they_are_told_as_what_they_are() -> None:
    found = read(SERVER_TRACEBACK).diagnosis(100.0)
    assert found is not None
    assert found.id == "EngineDied"


def test_a_cause_outweighs_what_follows_from_it_also_where_it_comes_later() -> None:
    timeout = f"{CORE}TimeoutError: Timed out waiting for engine core processes to start. Often. Waited 600s (by ...)\n"
    full = f"{CORE}OSError: [Errno 28] No space left on device\n"
    for text in (timeout + full, full + timeout):
        log = read(text + SERVER_TRACEBACK)
        found = log.diagnosis(100.0)
        assert found is not None
        assert found.id == "DiskFull"
        assert "OSError" in log.excerpt()


def test_a_warning_explains_a_failure_that_does_not_explain_itself() -> None:
    """Kernels that cannot be loaded are a warning; then the engine goes on without a platform, and finds no device."""
    warned = "WARNING 11-25 23:40:12 [_custom_ops.py:18] Failed to import from vllm._C with ImportError('libcuda.so.1: "
    warned += "cannot open shared object file: No such file or directory')\n"
    failed = "Traceback (most recent call last):\n  File a\nRuntimeError: Failed to infer device type, please set\n"
    found, alone = read(warned + failed).diagnosis(100.0), read(failed).diagnosis(100.0)
    assert found is not None
    assert alone is not None
    assert (found.id, alone.id) == ("DriverNotOnPath", "NoDevice")


def test_a_worker_that_a_signal_ended_is_recognized() -> None:
    died = "Worker proc VllmWorker-0 died unexpectedly (exit code: -4), shutting down executor."
    found = read(f"{CORE}{died}\n{CORE}RuntimeError: Executor failed.\n{SERVER_TRACEBACK}").diagnosis(100.0)
    assert found is not None
    assert found.id == "WorkerIllegalInstruction"


def test_a_full_cache_and_a_growing_queue_are_symptoms_as_long_as_the_log_says_so() -> None:
    stats = "(APIServer pid=1) INFO 11-25 23:40:13 [loggers.py:257] Engine 000: Avg prompt throughput: 5.1 tokens/s, "
    full = stats + "Running: 16 reqs, Waiting: 241 reqs, GPU KV cache usage: 99.1%, Prefix cache hit rate: 0.0%\n"
    well = stats + "Running: 16 reqs, Waiting: 0 reqs, GPU KV cache usage: 50.0%, Prefix cache hit rate: 0.0%\n"
    log = read(full)
    assert [one.as_dict() for one in log.symptoms(100.0)] == [
        {"id": "KvCacheFull", "groups": {"running": "16", "waiting": "241", "usage": "99.1"}}
    ]
    assert log.symptoms(200.0) == []
    assert read(well).symptoms(100.0) == []
    assert log.diagnosis(100.0) is None


def test_last_words_end_with_what_the_operator_reads_and_fit_into_a_termination_message() -> None:
    long = "x" * 5000
    text = "".join(
        f"{CORE}{line}\n" for line in (f"ValueError: No available memory for the cache blocks. {long}", long)
    )
    words = read(text).last_words(100.0)
    *excerpt, last = words.splitlines()
    assert json.loads(last.removeprefix(MARK)) == {"id": "NoKvCache", "groups": {}}
    assert excerpt[0].startswith("ValueError: No available memory")
    assert len(words.encode()) <= LONGEST_EXCERPT_BYTES
    assert read(f"{CORE}ValueError: an unknown one\n").last_words(100.0) == "ValueError: an unknown one"


@given(
    secret=st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=12, max_size=40),
    place=st.sampled_from(
        (
            "vllm serve: error: unrecognized arguments: --api-key {} --more",
            "ValueError: Invalid repository ID or local directory specified: 'https://user:{}@host/m'.",
            "OSError: We couldn't connect to 'https://user:{}@hub.example.com' to load",
            "403 Forbidden: Bearer {} is not enough",
            "RuntimeError: NCCL error: hf_{}",
            "ValueError: Unknown quantization method: {}. Must be one of",
        )
    ),
    padding=st.integers(0, 2100),
)
@settings(max_examples=200)
def test_no_secret_is_captured_however_it_stands(secret: str, place: str, padding: int) -> None:
    """By its form, or by its value; also where what was captured is cut off in the midst of it."""
    log = read(f"{CORE}{place.format(secret)}{'x' * padding}\n", VLLM_API_KEY=secret)
    told = log.last_words(100.0) + json.dumps(log.diagnosis(100.0).as_dict() if log.diagnosis(100.0) else {})  # type: ignore[union-attr]
    assert not any(secret[:length] in told for length in range(8, len(secret) + 1))


def test_a_broken_table_costs_the_recognition_and_nothing_else() -> None:
    """A pattern that is none here, a kind of another version: the log is told as it is."""
    broken = table_of(
        '{"signatures": [{"id": "A", "kind": "cause", "patterns": [["memory", "memory("]]}, {"id": "B", "kind": "x", '
        '"patterns": [["memory", "memory"]]}]}'
    )
    for known in (broken, None):
        log = Log({}, clock=wall_clock, table=known)
        log.feed((LOGS / "no-kv-cache.log").read_bytes(), 100.0)
        assert log.diagnosis(100.0) is None
        assert "No available memory for the cache blocks" in log.last_words(100.0)
