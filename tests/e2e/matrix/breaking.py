"""Break an engine for real: signals to the processes of its pod, as the host sees them."""

from __future__ import annotations

import contextlib
import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.processes import Process
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Part(StrEnum):
    """A process of the engine, by how its command line begins."""

    SERVER = "process 1"
    CORE = "VLLM::EngineCore"
    WORKER = "VLLM::Worker"


def process_of(pod: Mapping[str, Any], part: Part) -> Process:
    """The process of a pod's engine.

    Raises:
        ProcessLookupError: there is none.
    """
    (status,) = [one for one in pod["status"]["containerStatuses"] if one["name"] == CONTAINER_NAME]
    container = status["containerID"].removeprefix("containerd://")
    for pid in _of_container(container):
        folder = Path(f"/proc/{pid}")
        found = Process.of(pid)
        if found is not None and _is(folder, part):
            return found
    raise ProcessLookupError(f"{part} in {pod['metadata']['name']}")


def _of_container(container: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if container in path.read_text(encoding="utf-8"):
                yield int(path.parent.name)


def _is(folder: Path, part: Part) -> bool:
    if part is not Part.SERVER:
        return (folder / "cmdline").read_bytes().startswith(part.encode())
    status = (folder / "status").read_text(encoding="utf-8")
    (names,) = [line for line in status.splitlines() if line.startswith("NSpid:")]
    return names.split()[-1] == "1"


@contextlib.contextmanager
def stopped(*processes: Process) -> Iterator[None]:
    """Processes that are stopped, and go on after the block if they still live."""
    for process in processes:
        process.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.kill(signal.SIGCONT)
