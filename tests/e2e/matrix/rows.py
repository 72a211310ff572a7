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
    Row(21, "a request waits for its grammar, alone", "a grammar takes 20 s", "stays in", REAL),
    Row(22, "such a request comes to an idle engine", "schemas of 480 strings, one after the other", "stays in", REAL),
    Row(23, "requests wait for remote KV", "deferred for 45 s, alone", "stays in", STUB),
    Row(24, "asleep", "POST /sleep, for longer than the restart window", "no traffic, not restarted", REAL),
    Row(25, "paused for new weights", "POST /pause, as long", "no traffic, not restarted", STUB),
    Row(26, "steps of 8 s under load", "long prompts make steps compute for 8 s", "in once they are known", REAL),
    Row(27, "kernels compiled in a step", "ptxas runs for 70 s within one step", "not restarted", REAL),
    Row(28, "event loop blocked for 8 s", "a request blocks the server, computing", "stays in", REAL),
    Row(29, "event loop blocked for 75 s", "as above", "not restarted", REAL),
    Row(30, "slow first prompt after idling", "the next step takes 6 s", "stays in", REAL),
    Row(31, "all engines slow at once", "each gets a prompt that computes for 20 s", "half of them stay in", REAL),
    Row(32, "a model that only transcribes", "no completions, no pooling", "admitted by what it serves", STUB),
    Row(
        33, "a rank called 5 hung while idle", "hybrid load balancing; SIGSTOP of its core", "out, then restarted", STUB
    ),
    Row(34, "one of two API servers hung", "SIGSTOP of VLLM::APIServer", "out, then restarted", REAL),
    Row(35, "elastic expert parallelism scales", "503 with its words on every path", "no traffic, not restarted", STUB),
    Row(36, "pods share their processes", "a second life loads slowly", "judged by its own process", STUB),
    Row(
        37,
        "listens where no client asks",
        "--host ::1, --host of the pod's address",
        "admitted only where clients reach it",
        STUB,
    ),
    Row(38, "no statistics", "--disable-log-stats", "refused, with the reason", STUB),
    Row(39, "adapter lost, and loadable", "unloaded at run time", "loaded again, stays in", REAL),
    Row(40, "a profile is written", "the core computes and writes for 70 s", "not restarted", STUB),
)


def row(number: int) -> Row:
    """The row of that number."""
    return ROWS[number - 1]
