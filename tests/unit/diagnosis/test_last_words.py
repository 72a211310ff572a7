"""What is read of a termination message: the manager's sentence, and the root cause below it."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.diagnosis.last_words import cause_below, cause_in, managers_sentence
from vllm_operator.diagnosis.signals import SIGNALS

NO_CACHE = "ValueError: No available memory for the cache blocks."
WRAPPER = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
PLACE = "(EngineCore pid=4330) ERROR 11-25 23:40:13 [core.py:1512]"
DIED = f"{PLACE} Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor."


def ended(message: str, code: int = 1, reason: str = "Error") -> dict[str, Any]:
    """How kubelet reports the end of a container."""
    return {"exitCode": code, "reason": reason, "message": message}


@pytest.mark.parametrize(
    ("terminated", "sentence"),
    [
        (ended("ended by its manager: no step with work\nValueError: a"), "ended by its manager: no step with work"),
        (ended("no step with work, and no CPU used\n"), "ended by its manager: no step with work, and no CPU used"),
        (ended("the engine ended with exit code 0, which"), "the engine ended with exit code 0, which"),
        (ended("the engine was ended by SIGKILL\nbye", 137), "the engine was ended by SIGKILL"),
        (ended("the kernel killed 1 of this", 137, "OOMKilled"), "the kernel killed 1 of this"),
        (ended("port 8480 of the gate is taken", 98), "cannot start: port 8480 of the gate is taken"),
        (ended("INFO 11-25 the engine ended\nINFO loading", 137, "OOMKilled"), ""),
        (ended("INFO 11-25 the engine ended\nINFO loading", 137), ""),
        (ended("failed to create containerd task: exec format error", 128, "StartError"), ""),
        (ended(""), ""),
        ({}, ""),
    ],
)
def test_a_managers_sentence_is_told_from_the_end_of_a_log_and_from_a_runtimes_words(
    terminated: dict[str, Any], sentence: str
) -> None:
    assert managers_sentence(terminated, managed=True) == sentence


def test_a_pod_without_a_manager_has_only_the_words_that_its_gate_left() -> None:
    gate = "ended by its gate: no progress for 66 s"
    assert managers_sentence(ended(gate), managed=False) == gate
    assert managers_sentence(ended("loading\nValueError: a"), managed=False) == ""


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (f"{PLACE} {NO_CACHE}\n(APIServer pid=1) bye", NO_CACHE),
        (f"{PLACE} Traceback (most recent call last):\n{PLACE}   File a\n{PLACE} {NO_CACHE}\n", NO_CACHE),
        (
            f"{DIED}\n{WRAPPER}",
            f"worker process VllmWorker-0 was ended by {SIGNALS[9]}: {SIGNALS[9].hint}",
        ),
        ("vllm: error: unrecognized arguments: --task", "vllm: error: unrecognized arguments: --task"),
        ("", ""),
    ],
)
def test_the_root_cause_is_found_without_what_differs_from_start_to_start(message: str, cause: str) -> None:
    assert cause_in(message) == cause
    assert cause_below(ended(f"the engine ended with exit code 1\n{message}")) == cause


def test_a_request_that_was_answered_last_is_no_cause() -> None:
    log = (
        "(APIServer pid=7) INFO 11-26 04:08:36 [entry.py:140] Starting vLLM server\n"
        'INFO:     127.0.0.1:53626 - "POST /v1/completions HTTP/1.1" 200 OK'
    )
    assert cause_below(ended(f"the engine ended with exit code 0, which nobody had asked for\n{log}")) == ""
    assert cause_below(ended(f"the engine was ended by SIGBUS\nno space in /dev/shm\n{log}")) == "no space in /dev/shm"
