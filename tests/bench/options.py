"""What one run of the benchmark is asked to do."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.paths import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Sequence


class ControllerManager(StrEnum):
    """Whether Kubernetes' own controllers work on what the phases make."""

    OFF = "off"
    """Nobody else writes: the pure comparison."""
    ON = "on"
    """Deployments get ReplicaSets, pods and statuses, which are events for the operator and change its statuses."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of a run; they stand in its JSON."""

    resources: int = 200
    """How many models are applied in each phase."""
    repetitions: int = 10
    """How many pairs of a bare and an operated phase; with an even number each is first as often. The figures
    are their medians."""
    singles: int = 50
    """How many models are made one at a time, bare and by the operator, to see when each has its Deployment."""
    concurrency: int = 16
    """Writers at work at once: the operator's workers, and the harness's own, in each of its two stages."""
    idle_seconds: float = 60.0
    """How long the world is left alone to count the operator's idle writes."""
    quiet_seconds: float = 2.0
    """How long the API server must not have seen a write before anything is measured."""
    controller_manager: tuple[ControllerManager, ...] = tuple(ControllerManager)
    """Without and with it; each on a cluster of its own."""
    operator_source: Path | None = None
    """Folder that holds another `vllm_operator` package to run instead of the installed one; the harness keeps its."""
    output: Path = REPOSITORY / "out" / "bench.json"
    """Where the JSON goes."""


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line."""
    default = Options()
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the operator.")
    add = parser.add_argument
    add("--resources", type=_positive, default=default.resources, help="models per phase")
    add("--repetitions", type=_positive, default=default.repetitions, help="pairs of phases")
    add("--singles", type=_positive, default=default.singles, help="models made one at a time")
    add("--concurrency", type=_positive, default=default.concurrency, help="writers at work at once")
    add("--idle-seconds", type=float, default=default.idle_seconds, help="how long to watch for idle writes")
    add(
        "--controller-manager",
        choices=("off", "on", "both"),
        default="both",
        help="measure without it, with it, or both",
    )
    add("--operator-source", type=Path, help="folder of another vllm_operator package to measure")
    add("--output", type=Path, default=default.output, help="where the JSON goes")
    given = vars(parser.parse_args(arguments))
    mode = given.pop("controller_manager")
    modes = tuple(ControllerManager) if mode == "both" else (ControllerManager(mode),)
    return Options(**given, controller_manager=modes)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number
