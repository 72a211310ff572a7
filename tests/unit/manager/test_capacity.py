"""What vLLM says at its start of its GPUs' memory, as several of its releases word it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.paths import REPOSITORY
from vllm_operator.manager.capacity import Capacity, restored, together
from vllm_operator.manager.log import Log

LOGS = REPOSITORY / "tests" / "data" / "logs"

V0_32 = """\
(Worker_TP0 pid=93) INFO 11-26 03:14:47 [gpu_model_runner.py:5150] Model loading took 14.99 GiB memory and 3.1 seconds
(Worker_TP1 pid=94) INFO 11-26 03:14:47 [gpu_model_runner.py:5150] Model loading took 15.02 GiB memory and 3.2 seconds
(Worker_TP0 pid=93) INFO 11-26 03:14:48 [gpu_worker.py:760] Available KV cache memory: 3.3 GiB
(Worker_TP1 pid=94) INFO 11-26 03:14:48 [gpu_worker.py:760] Available KV cache memory: 3.27 GiB
(EngineCore pid=81) INFO 11-26 03:14:48 [kv_cache_utils.py:2327] GPU KV cache size: 26,336 tokens, Maximum \
concurrency for 131,072 tokens per request: 0.20x
"""
V0_10 = """\
INFO 07-30 11:55:50 [gpu_model_runner.py:1801] Model loading took 14.9889 GiB and 4.210187 seconds
INFO 07-30 11:56:04 [gpu_worker.py:232] Available KV cache memory: 55.51 GiB
INFO 07-30 11:56:04 [kv_cache_utils.py:633] GPU KV cache size: 454,720 tokens
INFO 07-30 11:56:04 [kv_cache_utils.py:637] Maximum concurrency for 32,768 tokens per request: 13.88x
"""
V0_7 = """\
INFO 01-30 03:18:12 gpu_model_runner.py:848] Loading model weights took 67.7229 GB
INFO 01-30 03:19:14 kv_cache_utils.py:395] # GPU blocks: 1381
INFO 01-30 03:19:14 kv_cache_utils.py:398] Maximum concurrency for 2048 tokens per request: 10.79x
"""
EXPLICIT = """\
INFO 11-26 03:14:48 [gpu_worker.py:659] Initial free memory 78.5 GiB, reserved 4.0 GiB memory for KV Cache as \
specified by kv_cache_memory_bytes config and skipped memory profiling.
"""
CPU = "(Worker pid=9) INFO 11-26 03:14:48 [cpu_worker.py:265] Auto set (4.0/31.2) GiB for KV cache on node 0, with\n"
TWO_CORES = """\
(EngineCore_DP0 pid=1) INFO 11-26 03:14:48 [kv_cache_utils.py:2327] GPU KV cache size: 2,000 tokens, Maximum \
concurrency for 1,000 tokens per request: 2.00x
(EngineCore_DP1 pid=2) INFO 11-26 03:14:48 [kv_cache_utils.py:2327] GPU KV cache size: 1,600 tokens, Maximum \
concurrency for 1,000 tokens per request: 1.60x
"""


def read(text: str) -> Capacity:
    log = Log({})
    for line in text.splitlines(keepends=True):
        log.feed(line.encode(), 1.0)
    return log.capacity


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (V0_32, Capacity(15.02, 3.27, 26336, 131072, 0.20)),
        (V0_10, Capacity(14.9889, 55.51, 454720, 32768, 13.88)),
        (V0_7, Capacity(67.7229, None, None, 2048, 10.79)),
        (EXPLICIT, Capacity(kv_cache_gib=4.0)),
        (CPU, Capacity(kv_cache_gib=4.0)),
        (TWO_CORES, Capacity(None, None, 1600, 1000, 1.6)),
        ((LOGS / "serving.log").read_text(encoding="utf-8"), Capacity(None, 0.06, 65536, 1024, 64.0)),
        ("INFO 11-26 03:14:48 [gpu_worker.py:760] Available KV cache memory: -1.2 GiB\n", Capacity()),
        ("INFO 11-26 03:14:48 [a.py:1] GPU KV cache size: ,, tokens\n", Capacity()),
        ("INFO 11-26 03:14:48 [a.py:1] Model loading took 1.2.3 GiB memory\n", Capacity()),
        ("", Capacity()),
    ],
)
def test_what_each_release_writes_is_read(text: str, told: Capacity) -> None:
    assert read(text) == told


def test_what_comes_once_the_server_is_up_is_no_report_of_its_start() -> None:
    prompt = "INFO 11-26 03:15:00 [logger.py:40] Received request: prompt: 'GPU KV cache size: 7 tokens'\n"
    assert read(V0_10 + "INFO:     Application startup complete.\n" + prompt) == read(V0_10)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inside: st.dictionaries(st.sampled_from([*Capacity().__dict__, "other"]), inside, max_size=5),
        max_leaves=6,
    )
)
def test_whatever_an_earlier_judge_has_left_is_read(stored: object) -> None:
    found = restored(stored)
    assert all(value >= 0 for value in found.as_dict().values())
    assert restored(found.as_dict()) == found
    assert together(found, found) == together(found, Capacity()) == found


def test_a_report_costs_a_log_that_has_none_next_to_nothing() -> None:
    line = b"(EngineCore pid=81) INFO 11-26 03:14:48 [loggers.py:127] Engine 000: Avg prompt throughput: 0.0 tokens/s\n"
    began = time.process_time()
    log = Log({})
    for _ in range(20):
        log.feed(line * 1000, 1.0)
    assert time.process_time() - began < 1.0
    assert log.capacity == Capacity()
