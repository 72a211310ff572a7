"""Processes that were ended by a signal: told as that, from what kubelet and vLLM 0.32.0 say."""

from __future__ import annotations

import signal

import pytest

from vllm_operator.diagnosis.signals import SIGNALS, exit_hint, exit_signal, killed_process

PREFIX = "(EngineCore pid=4330) ERROR 11-25 23:40:13 [multiproc_executor.py:315] "
WORKER = PREFIX + "Worker proc VllmWorker-{rank} died unexpectedly (exit code: {code}), shutting down executor.\n"
START = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {processes}\n"
AFTER = "(EngineCore pid=4330) ERROR 11-25 23:40:13 [core.py:1512] RuntimeError: Executor failed.\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_numbers_and_names_are_those_of_linux(number: int) -> None:
    assert signal.Signals(number).name == SIGNALS[number].name


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (
            WORKER.format(rank=0, code=-4) + AFTER,
            "worker process VllmWorker-0 was ended by SIGILL (illegal instruction)",
        ),
        (WORKER.format(rank=3, code=-9) + AFTER, "worker process VllmWorker-3 was ended by SIGKILL (killed)"),
        (WORKER.format(rank=0, code=-7) + AFTER, "worker process VllmWorker-0 was ended by SIGBUS (bus error)"),
        (WORKER.format(rank=0, code=-11), "worker process VllmWorker-0 was ended by SIGSEGV (segmentation fault)"),
        (START.format(processes={"EngineCore": -9}), "engine core EngineCore was ended by SIGKILL (killed)"),
        (
            START.format(processes={"EngineCore_DP0": 1, "EngineCore_DP1": -6}),
            "engine core EngineCore_DP1 was ended by SIGABRT (abort)",
        ),
    ],
)
def test_a_process_of_the_engine_that_a_signal_ended_is_told_as_that(log: str, told: str) -> None:
    assert killed_process(f"some line before\n{log}").split(": ")[0] == told


@pytest.mark.parametrize(
    "log",
    [
        "",
        WORKER.format(rank=0, code=1),
        WORKER.format(rank=0, code="None"),  # seen where the monitor was faster than the kernel's word
        WORKER.format(rank=0, code=-63),
        START.format(processes={"EngineCore": 1}),
        START.format(processes={}),
    ],
)
def test_a_process_that_ended_by_itself_is_not(log: str) -> None:
    assert killed_process(log) == ""


@pytest.mark.parametrize(
    ("number", "hint"), [(4, "AMX"), (4, "profile: cpu"), (9, "limits.memory"), (7, "sharedMemory"), (31, "seccomp")]
)
def test_a_signal_with_a_usual_cause_comes_with_the_way_out(number: int, hint: str) -> None:
    assert hint in SIGNALS[number].hint


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (132, "SIGILL (illegal instruction)"),
        (134, "SIGABRT (abort)"),
        (137, "SIGKILL (killed)"),
        (139, "SIGSEGV (segmentation fault)"),
        (143, "SIGTERM (asked to end)"),
    ],
)
def test_an_exit_code_above_128_is_a_signal(code: int, told: str) -> None:
    assert str(exit_signal(code)) == told


@pytest.mark.parametrize("code", [None, 0, 1, 2, 127, 128, 255])
def test_other_exit_codes_are_none(code: int | None) -> None:
    assert exit_signal(code) is None
    assert exit_hint(code, "Error") == ""


def test_a_killed_container_was_out_of_memory_only_where_kubelet_says_so() -> None:
    assert "spec.resources.limits.memory" in exit_hint(137, "OOMKilled")
    assert "grace period" in exit_hint(137, "Error")
