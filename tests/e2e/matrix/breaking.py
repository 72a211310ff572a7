"""Break an engine for real: signals to the processes of its pod, as the host sees them."""

from __future__ import annotations

import contextlib
import json
import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.processes import Process
from tests.support import images
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.site import Site


class Part(StrEnum):
    """A process of the container; those of the engine, but for its first, by how their command line begins."""

    MANAGER = "process 1"
    SERVER = "the engine's first process"
    ONE_SERVER = "VLLM::APIServer"
    CORE = "VLLM::EngineCore"
    WORKER = "VLLM::Worker"


def process_of(pod: Mapping[str, Any], part: str) -> Process:
    """The process of a pod's engine; of several of that kind the one with the most sockets.

    Raises:
        ProcessLookupError: there is none.
    """
    found = processes_of(pod, part)
    if not found:
        raise ProcessLookupError(f"{part} in {pod['metadata']['name']}")
    return max(found, key=sockets)


def sockets(process: Process) -> int:
    """How many sockets a process has open."""
    return sum(str(entry.readlink()).startswith("socket:") for entry in Path(f"/proc/{process.pid}/fd").iterdir())


def processes_of(pod: Mapping[str, Any], part: str) -> list[Process]:
    """The processes of that kind."""
    (status,) = [one for one in pod["status"]["containerStatuses"] if one["name"] == CONTAINER_NAME]
    container = status["containerID"].removeprefix("containerd://")
    pids = [pid for pid in _of_container(container) if _is(Path(f"/proc/{pid}"), part)]
    return [found for found in map(Process.of, pids) if found is not None]


def _of_container(container: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if container in path.read_text(encoding="utf-8"):
                yield int(path.parent.name)


def _is(folder: Path, part: str) -> bool:
    line = (folder / "cmdline").read_bytes()
    if part is Part.MANAGER:
        return _is_first(folder)
    if part is not Part.SERVER:
        return line.startswith(part.encode())
    if b"\0serve\0" not in line or b"manager.program\0" in line or b"/stem.py\0" in line:
        return False
    # without a manager it is process 1 itself
    return _is_first(folder) or _is_first(Path("/proc") / _status(folder, "PPid"))


def _is_first(folder: Path) -> bool:
    return _status(folder, "NSpid").split()[-1] == "1"


def _status(folder: Path, name: str) -> str:
    lines = (folder / "status").read_text(encoding="utf-8").splitlines()
    (found,) = [line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")]
    return found


def make_odd(site: Site, pod: str, name: str, **wanted: Any) -> None:
    """Have the plug-in of a real engine make it odd (tests/support/odd_engine); without any wish no longer."""
    program = f"""
import pathlib
folder = pathlib.Path({images.ODD_ENGINE_FOLDER!r})
folder.mkdir(exist_ok=True)
if {bool(wanted)}:
    (folder / ".new").write_text({json.dumps(wanted)!r})
    (folder / ".new").rename(folder / {name!r})
else:
    (folder / {name!r}).unlink(missing_ok=True)
"""
    site.kubectl("exec", pod, "-c", CONTAINER_NAME, "--", "python3", "-S", "-E", "-c", program)


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
