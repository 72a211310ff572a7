"""The canaries themselves: what is sent, what counts as an answer, and the user's own command."""

from __future__ import annotations

import io
import json
import os
import time
import wave
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import until
from vllm_operator.manager import canaries
from vllm_operator.manager.exchange import EngineError

USAGE = {"completion_tokens": 1}


@pytest.mark.parametrize(
    ("kind", "answer", "right"),
    [
        ("completions", {"choices": [{}], "usage": USAGE}, True),
        ("completions", {"choices": [{}], "usage": {"completion_tokens": 0}}, False),
        ("completions", {"choices": [], "usage": USAGE}, False),
        ("completions", {"choices": [{}], "usage": None}, False),
        ("chat", {"choices": [{}], "usage": USAGE}, True),
        ("pooling", {"data": [{"data": [0.1]}]}, True),
        ("pooling", {"data": [{"data": []}]}, False),
        ("embeddings", {"data": [{"embedding": [0.1]}]}, True),
        ("classify", {"data": [{"probs": [0.1]}]}, True),
        ("classify", {"data": []}, False),
        ("transcription", {"text": ""}, True),
        ("transcription", {}, False),
    ],
)
def test_an_answer_counts_only_if_the_engine_has_computed_something(
    kind: str,
    answer: dict[str, Any],
    right: bool,  # noqa: FBT001 # an expected value
) -> None:
    assert canaries.has_result(kind, answer) is right


def test_a_transcription_is_asked_for_with_a_second_of_silence_in_a_form() -> None:
    kind, body = canaries.body_of("transcription", "whisper")
    boundary = kind.partition("boundary=")[2].encode()
    *parts, last = body.split(b"--" + boundary)
    assert last == b"--\r\n"
    assert b'name="model"\r\n\r\nwhisper\r\n' in parts[1]
    sound = parts[-1].partition(b"\r\n\r\n")[2]
    with wave.open(io.BytesIO(sound)) as opened:
        assert (opened.getnframes() / opened.getframerate(), opened.getnchannels()) == (1.0, 1)
        assert not any(opened.readframes(opened.getnframes()))


def test_a_name_that_needs_escaping_stays_one_in_the_body() -> None:
    assert json.loads(canaries.body_of("chat", 'a"b\n')[1])["model"] == 'a"b\n'


def fails(command: list[str], seconds: float = 20.0) -> EngineError:
    """The error of a command."""
    with pytest.raises(EngineError) as caught:
        canaries.run_command(command, time.monotonic() + seconds, os.environ)
    return caught.value


def test_a_command_passes_with_exit_code_0() -> None:
    canaries.run_command(["/bin/sh", "-c", "echo fine"], time.monotonic() + 20, os.environ)


def test_a_command_that_fails_is_told_with_its_last_line() -> None:
    error = fails(["/bin/sh", "-c", "echo first; echo 'no such voice' >&2; echo; exit 3"])
    assert (error.cause, str(error)) == ("Failing", "the command sh exits with 3: no such voice")


def test_a_command_that_dies_of_a_signal_is_told_as_that() -> None:
    assert str(fails(["/bin/sh", "-c", "kill -9 $$"])) == "the command sh died of signal 9"


@pytest.mark.parametrize("command", [["/no/such/program"], ["/etc/hostname"], ["/"]])
def test_a_command_that_cannot_be_started_is_no_fault_of_the_engine(command: list[str]) -> None:
    error = fails(command)
    assert error.cause == "Refused"
    assert "cannot be started" in str(error)


def test_a_command_without_words_is_refused() -> None:
    assert fails([]).cause == "Refused"


def test_a_command_that_does_not_end_is_killed_with_all_its_children(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/child; echo waiting; wait"
    began = time.monotonic()
    error = fails(["/bin/sh", "-c", script], 2.0)
    assert time.monotonic() - began < 20
    assert (error.cause, str(error)) == ("Silent", "the command sh did not end within 2 s: waiting")
    child = int((tmp_path / "child").read_text())
    until(lambda: gone(child), what="the end of the command's child")


def gone(pid: int) -> bool:
    """Whether a process has ended, be it reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_command_is_over_when_it_ends_though_a_child_of_it_keeps_its_output_open() -> None:
    began = time.monotonic()
    canaries.run_command(["/bin/sh", "-c", "sleep 600 & exit 0"], time.monotonic() + 60, os.environ)
    assert time.monotonic() - began < 30


def test_a_command_that_prints_without_end_is_bounded_in_time_and_memory() -> None:
    error = fails(["/bin/sh", "-c", "yes $(printf 'x%.0s' $(seq 1000))"], 1.0)
    assert error.cause == "Silent"
    assert len(str(error)) < 400
