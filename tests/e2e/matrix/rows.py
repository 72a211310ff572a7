"""The failure modes, and what must come of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REAL, STUB = "vLLM", "stub"


@dataclass(frozen=True)
class Row:
    """One failure mode.

    Attributes:
        number: Its number in the table.
        mode: What is wrong.
        done: How it is brought about.
        must: What has to come of it with our gates.
        engine: The real vLLM, or the stub where that is the only one that can be brought to it.
    """

    number: int
    mode: str
    done: str
    must: str
    engine: str


ROWS: Final = (
    Row(1, "still loading", "start-up", "no traffic; progress visible", REAL),
    Row(2, "loaded under a wrong name", "the server is started under another name", "never gets traffic", REAL),
    Row(3, "loaded, completions fail", "every completion answers 500", "never gets traffic", STUB),
    Row(4, "API key mismatch", "the server has another key than the pod", "never gets traffic", STUB),
    Row(5, "engine core hung under load", "SIGSTOP of the engine core", "out, then restarted", REAL),
    Row(6, "engine core hung while idle", "SIGSTOP of the engine core", "out, then restarted", REAL),
    Row(7, "worker hung under load", "SIGSTOP of the worker process", "out, then restarted", REAL),
    Row(8, "engine core killed", "SIGKILL of the engine core", "out at once, told as a crash", REAL),
    Row(9, "API server hung", "SIGSTOP of the server process", "out, then restarted", REAL),
    Row(10, "saturated", "57 long requests, one at a time, for a minute", "stays in", REAL),
    Row(11, "one very long prefill", "a prompt of 30,000 tokens in chunks of 8", "stays in", REAL),
    Row(12, "metrics unreadable", "/metrics answers 500, and then not for a minute", "stays in", STUB),
    Row(13, "deleted under load", "the pod is deleted", "out before the server refuses", REAL),
    Row(14, "container restarted", "SIGKILL of the container's process 1", "back only after a completed prompt", REAL),
    Row(15, "operator cut off", "its packets are dropped during row 14", "nobody else out; admission goes on", REAL),
    Row(16, "operator down while engines serve", "scaled to 0, and back", "traffic flows, no flap", REAL),
    Row(17, "operator down, engine core hung", "scaled to 0, then SIGSTOP", "out, then restarted", REAL),
    Row(18, "one of two data-parallel ranks hung", "the rank makes no step, under load", "out, then restarted", STUB),
    Row(19, "adapter lost on one engine", "unloaded at run time", "that engine gets none of its requests", STUB),
    Row(20, "metrics renamed, counters reset", "other names, then other counters", "stays in", STUB),
)


def row(number: int) -> Row:
    """The row of that number."""
    return ROWS[number - 1]
