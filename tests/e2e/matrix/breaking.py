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
    """A process of the container; those of the engine, but for its first, by how their command line begins."""

    MANAGER = "process 1"
    SERVER = "the engine's first process"
    ONE_SERVER = "VLLM::APIServer"
    CORE = "VLLM::EngineCore"
    WORKER = "VLLM::Worker"


def process_of(pod: Mapping[str, Any], part: Part) -> Process:
    """The process of a pod's engine; of several of that kind any one.

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
    line = (folder / "cmdline").read_bytes()
    if part is Part.MANAGER:
        return _is_first(folder)
    if part is not Part.SERVER:
        return line.startswith(part.encode())
    parent = Path("/proc") / _status(folder, "PPid")
    return b"\0manager.program\0" not in line and b"\0serve\0" in line and _is_first(parent)


def _is_first(folder: Path) -> bool:
    return _status(folder, "NSpid").split()[-1] == "1"


def _status(folder: Path, name: str) -> str:
    lines = (folder / "status").read_text(encoding="utf-8").splitlines()
    (found,) = [line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")]
    return found


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
