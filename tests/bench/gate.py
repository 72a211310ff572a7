"""What a run of the gate program costs the engine's container, beside the bare start of the interpreter.

    python -m tests.bench.gate

The program runs as in a pod: flat files, its rendered command line, a stub engine on loopback. What kubelet and the
container runtime take for each exec is not in it.
"""

from __future__ import annotations

import contextlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.gate_program import placed, write_program
from tests.support.resources import model
from tests.support.servers import stub_server
from vllm_operator.render import gates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.servers import EngineServer

ROUNDS = 15
CPU_GOAL_SECONDS = 0.060


@dataclass(frozen=True)
class Cost:
    """Medians of one command's runs, in seconds."""

    cpu_seconds: float
    wall_seconds: float

    def __str__(self) -> str:
        return f"{self.cpu_seconds * 1e3:.0f} ms of CPU, {self.wall_seconds * 1e3:.0f} ms"


def measured(words: Sequence[str]) -> tuple[float, float]:
    """CPU and wall time of one run.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, env={}, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - began


def cost(words: Sequence[str], pause_seconds: float = 0.0) -> Cost:
    """The medians of several runs, after one that compiles the program."""
    measured(words)
    runs = []
    for _ in range(ROUNDS):
        time.sleep(pause_seconds)
        runs.append(measured(words))
    return Cost(*(statistics.median(column) for column in zip(*runs, strict=True)))


@contextlib.contextmanager
def commands(folder: Path) -> Iterator[tuple[EngineServer, dict[str, list[str]]]]:
    """A stub engine, and the command of each probe for it."""
    program, state = write_program(folder / "program"), folder / "state"
    state.mkdir()
    python = str(Path(sys.executable).resolve())  # neither a shim nor what a virtual environment adds
    with stub_server("--served-model-name", *model().spec.served_names, folder=folder) as engine:
        probes = gates.probes(model(engine={"port": engine.port}).spec)
        yield (
            engine,
            {probe: [python, *placed(found["exec"]["command"][1:], program, state)] for probe, found in probes.items()},
        )


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, commands(Path(folder)) as (engine, words):
        measured(words["startupProbe"])
        bare = cost([words["readinessProbe"][0], "-S", "-E", "-c", "pass"])
        idle = cost(words["readinessProbe"], pause_seconds=2.1)  # so that a canary is due each time
        engine.request_later("POST", "/v1/completions", {"prompt": "a", "max_tokens": 100_000, "ignore_eos": True})
        busy = cost(words["readinessProbe"], pause_seconds=0.6)
    for name, found in (("bare interpreter", bare), ("idle engine, with a canary", idle), ("engine at work", busy)):
        print(f"{name:28} {found}")
    dearest = max(idle.cpu_seconds, busy.cpu_seconds)
    verdict = "met" if dearest <= CPU_GOAL_SECONDS else "MISSED"
    print(f"{dearest / bare.cpu_seconds:.1f} times the bare interpreter")
    print(f"goal of {CPU_GOAL_SECONDS * 1e3:.0f} ms: {verdict}")
    print(f"{dearest * 0.3:.1%} of a core for each pod at the default periods (3 runs in 10 s)")


if __name__ == "__main__":
    main()
