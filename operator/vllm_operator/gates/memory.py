"""What the gate remembers between two runs: its state, and a time line of its verdicts for people.

Both lie in a small volume of the pod, which outlives a restart of the container. The state must not: it is tied to the
birth of the container's first process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
if TYPE_CHECKING or __package__:
    from vllm_operator.gates import judge
else:
    import judge

LOCK_SECONDS = 4.0
"""How long a run waits for the one before it."""

TIMELINE_LINES = 50
"""Transitions that are kept, the latest ones."""

TIMELINE_FILE = "timeline.jsonl"
STATE_FILE = "state.json"


@contextlib.contextmanager
def locked(path: str) -> Iterator[bool]:
    """Hold the lock of a state: runs of the same pod share it. False where another run does not let go of it.

    Raises:
        OSError: there is no such folder.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    with open(f"{path}.lock", "w", encoding="ascii") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(0.05)
            else:
                yield True
                return


def load_state(path: str, birth: str) -> judge.State:
    """State of an earlier run in this life of the container; a new one where there is none that can be read."""
    try:
        with open(path, encoding="utf-8") as file:
            stored = json.load(file)
    except (OSError, ValueError):
        stored = None  # not there yet, or cut off: admission is then proven again
    if not isinstance(stored, dict) or stored.get("birth") != birth:
        return judge.State()
    return judge.restored(stored)


def save_state(path: str, birth: str, state: judge.State) -> None:
    """Replace the state's file as a whole, so that no run ever reads half of it."""
    _replace(path, json.dumps({"birth": birth, **state.as_dict()}))


def record(folder: str, birth: str, verdict: judge.Verdict) -> None:
    """Add a verdict to the time line if it is another than the last one.

    While an engine starts, the cause counts as well: what it waits for is what people want to know then. A line is

        {"time": "2026-01-31T12:00:00Z", "container": "4711", "verdict": "withdrawn", "cause": "Stalled",
         "sentence": "no progress for 9 s with requests in flight (engine 0)"}
    """
    path = os.path.join(folder, TIMELINE_FILE)
    lines = _lines(path)
    entry = {"container": birth, "verdict": verdict.kind, "cause": verdict.cause, "sentence": verdict.sentence}
    if lines and _same(lines[-1], entry):
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with contextlib.suppress(OSError):  # a time line that cannot be written must not change a verdict
        _replace(path, "".join([*lines[1 - TIMELINE_LINES :], json.dumps({"time": now, **entry}) + "\n"]))


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readlines()
    except OSError:
        return []


def _same(line: str, entry: dict[str, str]) -> bool:
    """Whether a verdict is the one that was recorded last; what cannot be read is another."""
    try:
        last = json.loads(line)
    except ValueError:
        return False
    names = ("container", "verdict", *(["cause"] if entry["verdict"] == judge.STARTING else []))
    return isinstance(last, dict) and all(last.get(name) == entry[name] for name in names)


def _replace(path: str, text: str) -> None:
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)
