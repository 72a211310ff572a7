"""`python -m tests.bench`: measure, print, write the JSON. Ends with 1 when a goal is missed."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import orjson

from tests.bench import figures, options, report, run
from tests.bench.errors import BenchError
from tests.cluster import ClusterError
from tests.cluster.paths import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; returns the exit code."""
    chosen = options.parse(arguments)
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    machine = _machine()
    measured = {mode: run.measure(chosen, mode) for mode in chosen.controller_manager}
    found = {mode: figures.figures(one, chosen.idle_seconds) for mode, one in measured.items()}
    text = orjson.dumps(report.document(chosen, machine, measured, found), option=orjson.OPT_INDENT_2)
    chosen.output.write_bytes(text + b"\n")
    lines, reached = report.goals(found)
    print(f"\n{report.table(chosen, found)}\n\n{lines}\n\nthe same for programs: {chosen.output}")
    return 0 if reached else 1


def _machine() -> dict[str, Any]:
    """Where the figures come from. The load of the minute before tells whether others worked on the machine too."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "revision": _revision(),
    }


def _revision() -> str:
    """Which commit was measured, and whether the tree differed from it."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown: not a git checkout"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as a Ctrl-C, which ends what the run has started
    try:
        sys.exit(main(sys.argv[1:]))
    except (BenchError, ClusterError) as error:
        sys.exit(f"bench: {error}")
