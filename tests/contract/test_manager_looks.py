"""What the manager sees of a real vLLM from outside: its log and its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import real_server
from tests.support.waiting import until
from vllm_operator.manager.log import Log
from vllm_operator.manager.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import EngineServer
    from vllm_operator.manager.evidence import ProcessesLook

pytestmark = pytest.mark.real_vllm

LONG = {"prompt": "a b c", "max_tokens": 900, "ignore_eos": True}


def numbers_of(title: str) -> list[int]:
    """Numbers of the processes whose name, as the kernel cuts it, is this one."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and (folder / "comm").read_text(encoding="utf-8").strip() == title:
                found.append(int(folder.name))
    return found


def look_at(processes: Processes) -> ProcessesLook:
    look = processes.look(time.monotonic())
    assert look is not None
    return look


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    """One engine for all; the last test ends it."""
    with real_server(folder=tmp_path_factory.mktemp("engine")) as server:
        yield server


def descendant(pid: int, title: str) -> int:
    """The one process with a title among those that a process has started, at any distance."""

    def belongs(number: int) -> bool:
        while number > 1:
            if number == pid:
                return True
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8")
                number = int(stat.rpartition(")")[2].split()[1])
                continue
            return False
        return False

    [found] = [number for number in numbers_of(title) if belongs(number)]
    return found


def test_its_log_tells_the_whole_start(engine: EngineServer) -> None:
    log, seen = Log({}), list[str]()
    for line in engine.log().encode().splitlines(keepends=True):
        log.feed(line, 1.0)
        if log.phase.name not in seen:
            seen.append(log.phase.name)
    assert seen == ["Starting", "LoadingWeights", "KVCache", "Warmup", "Ready"]
    assert log.excerpt() == ""


def test_core_and_worker_are_told_apart_from_the_server(engine: EngineServer) -> None:
    processes = Processes(engine.process.pid, engine.port)
    before = look_at(processes)
    assert before.core_cpu_seconds is not None
    assert before.core_processes == 2
    assert before.core_alive
    assert before.stopped == ()
    wanted = before.core_cpu_seconds + 0.5
    for _ in range(3):
        assert engine.request("POST", "/v1/completions", LONG, timeout=120).status == 200
    assert (look_at(processes).core_cpu_seconds or 0) > wanted


def test_a_stopped_worker_stands_still_with_its_core(engine: EngineServer) -> None:
    """A process that waits uses up to 0.8 % of a CPU as measured, one that computes 70 % and more."""
    processes = Processes(engine.process.pid, engine.port)
    worker = descendant(engine.process.pid, "VLLM::Worker")
    request = threading.Thread(target=engine.request, args=("POST", "/v1/completions", LONG), kwargs={"timeout": 120})
    request.start()
    try:
        began = look_at(processes).core_cpu_seconds
        until(lambda: look_at(processes).core_cpu_seconds != began, what="a step")
        os.kill(worker, signal.SIGSTOP)
        stopped = until(lambda: look_at(processes) if look_at(processes).stopped else None, what="the stop")
        assert stopped is not None
        assert stopped.stopped == ("VLLM::Worker",)
        until(lambda: is_still(processes), what="a core that stands still")
    finally:
        os.kill(worker, signal.SIGCONT)
        request.join(120)


def is_still(processes: Processes) -> bool:
    """Whether core and workers use no CPU for five seconds: less than 2 % each."""
    before = look_at(processes)
    threading.Event().wait(5)
    after = look_at(processes)
    assert before.core_cpu_seconds is not None
    assert after.core_cpu_seconds is not None
    return after.core_cpu_seconds - before.core_cpu_seconds < 0.02 * 5 * after.core_processes


def test_a_killed_core_is_gone(engine: EngineServer) -> None:
    processes = Processes(engine.process.pid, engine.port)
    assert look_at(processes).core_alive
    os.kill(descendant(engine.process.pid, "VLLM::EngineCor"), signal.SIGKILL)

    def gone() -> bool:
        look = processes.look(time.monotonic())
        return look is None or not look.core_alive

    until(gone, what="the end of the core")
