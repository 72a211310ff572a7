"""The smallest work that each kind of model can do, and how its answer is told from an empty one."""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import json
import os
import select
import signal
import subprocess
import time
import wave

from .exchange import EngineError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

PATHS = {
    "completions": "/v1/completions",
    "chat": "/v1/chat/completions",
    "pooling": "/pooling",
    "embeddings": "/v1/embeddings",
    "classify": "/classify",
    "transcription": "/v1/audio/transcriptions",
    "realtime": "/v1/realtime",
}
"""Where each kind is asked. In the order in which `auto` looks for what a server has: text before sound."""

POOLING = ("pooling", "embeddings", "classify")
"""Kinds of a model that pools. Every one has /pooling, whatever it pools for."""

AUTO, COMMAND, REALTIME, TRANSCRIPTION = "auto", "command", "realtime", "transcription"

SAMPLES_A_SECOND = 16000
"""What speech models take; any other rate would be converted."""

BOUNDARY = "vllm-gate-canary"
OUTPUT_BYTES = 4096
"""So much is kept of what a command prints, from its end."""

NOTHING_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
"""Why a process cannot be started, whichever it is: no file descriptors, memory or process numbers are left."""


def kinds_of(canary: str) -> tuple[str, ...]:
    """The kinds that a setting allows, in the order in which they are tried.

    Raises:
        EngineError: Refused: there is no such canary.
    """
    if canary == AUTO:
        return tuple(PATHS)
    if canary == "pooling":
        return POOLING
    if canary not in PATHS:
        raise EngineError("Refused", f"there is no canary named {canary}")
    return (canary,)


def body_of(kind: str, model: str) -> tuple[str, bytes]:
    """Content type and body of a canary."""
    if kind == TRANSCRIPTION:
        # One token of a language that is known: a model that hears silence may else go on for hundreds.
        fields = {"model": model, "language": "en", "temperature": "0", "max_completion_tokens": "1"}
        return f"multipart/form-data; boundary={BOUNDARY}", form(fields, silent_wave())
    prompts: dict[str, dict[str, object]] = {
        "completions": {"prompt": "a", "max_tokens": 1},
        "chat": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1},
    }
    return "application/json", json.dumps({"model": model, **prompts.get(kind, {"input": "a"})}).encode()


def has_result(kind: str, answer: Mapping[str, Any]) -> bool:
    """Whether the engine has computed something: an answer of status 200 alone does not say so."""
    if kind in ("completions", "chat"):
        return bool(answer.get("choices")) and bool((answer.get("usage") or {}).get("completion_tokens"))
    if kind == TRANSCRIPTION:
        return isinstance(answer.get("text"), str)  # of silence it is empty, rightly
    entries = answer.get("data")
    first = entries[0] if isinstance(entries, list) and entries else None
    numbers = {"embeddings": "embedding", "classify": "probs"}.get(kind, "data")
    return isinstance(first, dict) and bool(first.get(numbers))


def silence() -> bytes:
    """A second of silence: samples of 16 bits."""
    return bytes(2 * SAMPLES_A_SECOND)


def silent_wave() -> bytes:
    """A second of silence as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLES_A_SECOND)
        sound.writeframes(silence())
    return file.getvalue()


def form(fields: Mapping[str, str], sound: bytes) -> bytes:
    """A form with fields and a file, as multipart/form-data."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="silence.wav"\r\n'
    return b"".join(
        [*parts, f"{head}Content-Type: audio/wav\r\n\r\n".encode(), sound, f"\r\n--{BOUNDARY}--\r\n".encode()]
    )


def realtime_events(model: str) -> list[dict[str, object]]:
    """What a client of /v1/realtime says to have a second of silence transcribed."""
    return [
        {"type": "session.update", "model": model},
        {"type": "input_audio_buffer.commit"},
        {"type": "input_audio_buffer.append", "audio": base64.b64encode(silence()).decode()},
        {"type": "input_audio_buffer.commit", "final": True},
    ]


def run_command(command: Sequence[str], deadline: float, environment: Mapping[str, str]) -> None:
    """Run the user's own canary: exit code 0 passes. It has a process group of its own, which ends with it.

    Args:
        command: Program and arguments.
        deadline: On the monotonic clock.
        environment: Of the command.

    Raises:
        EngineError: Refused (it cannot be started), Silent (it did not end in time), Failing (another exit code).
        OSError: nothing is left for it to run in, see NOTHING_LEFT.
    """
    if not command:
        raise EngineError("Refused", "there is no command to prove the engine with")
    name = os.path.basename(command[0])
    try:
        process = subprocess.Popen(  # the user's own, without a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # ValueError: a word with a zero byte
        if isinstance(error, OSError) and error.errno in NOTHING_LEFT:
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise EngineError("Refused", f"the command {name} cannot be started: {reason}") from None
    began = time.monotonic()
    try:
        ended, output = _output(process, deadline)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all of it has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()
    said = f": {output}" if output else ""
    if not ended:
        raise EngineError("Silent", f"the command {name} did not end within {shown(deadline - began)}{said}")
    if process.returncode:
        how = f"exits with {process.returncode}" if process.returncode > 0 else f"died of signal {-process.returncode}"
        raise EngineError("Failing", f"the command {name} {how}{said}")


def _output(process: subprocess.Popen[bytes], deadline: float) -> tuple[bool, str]:
    """Whether the command ended in time, and its last words. Those of its children are not waited for."""
    assert process.stdout is not None  # noqa: S101 # for the type checker
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    tail, open_still, wait = b"", True, 0.005
    while True:
        ended = process.poll() is not None
        while open_still and time.monotonic() < deadline:
            try:
                read = os.read(pipe, 65536)
            except BlockingIOError:
                break
            open_still = bool(read)
            tail = (tail + read)[-OUTPUT_BYTES:]
        left = deadline - time.monotonic()
        if ended or left <= 0:
            return ended, last_line(tail)
        wait = min(2 * wait, 0.1)  # its end is looked for now and then: the pipe may be kept open by a child of it
        if open_still:
            select.select([pipe], [], [], min(wait, left))
        else:
            time.sleep(min(wait, left))


def last_line(output: bytes) -> str:
    """The last line that says something, at most 300 characters."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
