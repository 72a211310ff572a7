"""The engine's processes, on real ones that bear vLLM's names: who is what, who computes, who leaves bytes unread."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.processes import stop
from tests.support.waiting import until
from vllm_operator.manager.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vllm_operator.manager.evidence import ProcessesLook

TREE = """
import ctypes, json, os, selectors, signal, socket, sys, time

def burn():
    until = time.process_time() + 0.5
    while time.process_time() < until: pass

def write():
    with open(os.devnull, "wb") as file: file.write(b"x" * 1_000_000)

def compile_kernel():
    pid = os.fork()
    if pid == 0:
        burn()
        os._exit(0)
    os.waitpid(pid, 0)

def run(title, children, parent):
    if title.startswith("VLLM") or parent:
        ctypes.CDLL(None).prctl(15, title.encode(), 0, 0, 0)
    actions = {signal.SIGUSR1: burn, signal.SIGUSR2: write, signal.SIGHUP: compile_kernel}
    signal.pthread_sigmask(signal.SIG_BLOCK, actions)  # one that comes before it waits is kept until then
    for name, below in children:
        if os.fork() == 0:
            run(name, below, title)
    os.write(1, f"{title} {os.getpid()}\\n".encode())
    serve() if "APIServer" in title else None
    while True:
        actions[signal.sigwait(actions)]()

def serve():
    choice = selectors.DefaultSelector()
    choice.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in choice.select():
            if key.fileobj is listener:
                try: connection, _ = listener.accept()
                except BlockingIOError: continue
                choice.register(connection, selectors.EVENT_READ)
            elif not (data := key.fileobj.recv(4096)):
                choice.unregister(key.fileobj); key.fileobj.close()
            else:
                key.fileobj.sendall(f"{os.getpid()}\\n".encode())

listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
listener.setblocking(False)
run("server", json.loads(sys.argv[1]), "")
"""
"""Processes with names and children as told, which burn CPU at SIGUSR1, write at SIGUSR2 and start a compiler, which
ends soon, at SIGHUP. Those called APIServer accept connections and answer each piece with their number."""

SPAWNED = """
import multiprocessing, os, time
def sleep():
    print("child", os.getpid(), flush=True)
    time.sleep(600)
if __name__ == "__main__":
    for number in range({children}):
        multiprocessing.get_context("spawn").Process(target=sleep).start()
    while time.process_time() < 0.2: pass
    print("server", os.getpid(), flush=True)
    time.sleep(600)
"""
WORKER = ["VLLM::Worker_TP0", []]
CORE = ["VLLM::EngineCore", [WORKER]]


@dataclass
class Engine:
    """A running tree of processes."""

    pid: int
    port: int
    numbers: dict[str, int] = field(default_factory=dict)

    def signal(self, title: str, number: signal.Signals) -> None:
        """Send a signal to one of its processes."""
        stop(self.numbers[title]) if number == signal.SIGSTOP else os.kill(self.numbers[title], number)

    def processes(self) -> Processes:
        """What looks at it."""
        return Processes(self.pid, self.port)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], titles: int, port: int = 0) -> Iterator[Engine]:
    """Start an engine in a process group of its own, as the stem does, and end all of it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0)
    engine = Engine(process.pid, port)
    try:
        assert process.stdout is not None
        for _ in range(titles):
            title, _, number = process.stdout.readline().strip().rpartition(" ")
            engine.numbers[title] = int(number)
        yield engine
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def tree(*children: Sequence[object]) -> Iterator[Engine]:
    port = free_port()
    command = [sys.executable, "-S", "-c", TREE, json.dumps(children), str(port)]
    with running(command, 1 + json.dumps(children).count('"') // 2, port) as engine:
        yield engine


def looked(processes: Processes, holds: Callable[[ProcessesLook], bool], what: str) -> ProcessesLook:
    """Look until it holds."""

    def once() -> ProcessesLook | None:
        look = processes.look(time.monotonic())
        assert look is not None
        return look if holds(look) else None

    found = until(once, seconds=30, what=what)
    assert found is not None
    return found


def first(processes: Processes) -> ProcessesLook:
    look = processes.look(0.0)
    assert look is not None
    return look


@pytest.mark.parametrize("title", ["VLLM::EngineCore", "VLLM::Worker_TP0"])
def test_cpu_of_cores_and_workers_is_told_apart_from_the_servers(title: str) -> None:
    with tree(CORE) as engine:
        processes = engine.processes()
        before = first(processes)
        assert before.core_cpu_seconds is not None
        wanted = before.core_cpu_seconds + 0.45
        engine.signal(title, signal.SIGUSR1)
        after = looked(processes, lambda look: (look.core_cpu_seconds or 0) >= wanted, "CPU of the core")
        assert after.server_cpu_seconds - before.server_cpu_seconds < 0.3
        assert after.core_processes == 2
        assert after.core_alive


def test_a_worker_that_uses_no_cpu_is_told_from_one_that_does() -> None:
    with tree(["VLLM::EngineCore", [["VLLM::Worker_TP0", []], ["VLLM::Worker_TP1", []]]]) as engine:
        processes = engine.processes()
        before = dict(first(processes).core_cpu_by_process)
        busy, idle = engine.numbers["VLLM::Worker_TP0"], engine.numbers["VLLM::Worker_TP1"]
        assert before.keys() == {engine.numbers["VLLM::EngineCore"], busy, idle}
        engine.signal("VLLM::Worker_TP0", signal.SIGUSR1)
        wanted = before[busy] + 0.45
        look = looked(processes, lambda look: dict(look.core_cpu_by_process)[busy] >= wanted, "CPU of the worker")
        assert dict(look.core_cpu_by_process)[idle] == pytest.approx(before[idle], abs=0.1)


def test_cpu_of_the_server_is_its_own() -> None:
    with tree(CORE) as engine:
        processes = engine.processes()
        before = first(processes)
        engine.signal("server", signal.SIGUSR1)
        wanted = before.server_cpu_seconds + 0.45
        after = looked(processes, lambda look: look.server_cpu_seconds >= wanted, "CPU of the server")
        assert after.core_cpu_seconds == pytest.approx(before.core_cpu_seconds, abs=0.1)


def test_a_server_that_gets_little_of_a_crowded_processor_is_seen_to_want_it() -> None:
    with tree(CORE) as engine, contextlib.ExitStack() as stack:
        one = {min(os.sched_getaffinity(0))}
        os.sched_setaffinity(engine.pid, one)
        for _ in range(4):
            rival = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
            stack.callback(rival.wait)
            stack.callback(rival.kill)
            os.sched_setaffinity(rival.pid, one)
        processes = engine.processes()
        before = first(processes)
        engine.signal("server", signal.SIGUSR1)
        wanted = before.server_cpu_seconds + 1.0
        looked(processes, lambda look: look.server_cpu_seconds >= wanted, "more than the half second that it computes")


def test_cpu_of_what_has_ended_stays_in_the_sum_and_is_not_counted_twice() -> None:
    with tree(CORE) as engine:
        processes = engine.processes()
        first(processes)
        engine.signal("VLLM::Worker_TP0", signal.SIGUSR1)
        before = looked(processes, lambda look: (look.core_cpu_seconds or 0) >= 0.45, "CPU of the worker")
        engine.signal("VLLM::Worker_TP0", signal.SIGKILL)
        after = looked(processes, lambda look: look.core_processes == 1, "the worker's end")
        assert before.core_cpu_seconds is not None
        assert after.core_cpu_seconds is not None
        assert before.core_cpu_seconds <= after.core_cpu_seconds < before.core_cpu_seconds + 0.3


def test_compilers_that_live_shorter_than_the_time_between_looks_are_counted() -> None:
    with tree(CORE) as engine:
        processes = engine.processes()
        before = first(processes).core_cpu_seconds
        assert before is not None
        for _ in range(2):
            waited = children_seconds(engine.numbers["VLLM::Worker_TP0"])
            engine.signal("VLLM::Worker_TP0", signal.SIGHUP)
            until(lambda waited=waited: children_seconds(engine.numbers["VLLM::Worker_TP0"]) > waited, seconds=30)  # type: ignore[misc]
        after = first(processes).core_cpu_seconds
        assert after is not None
        assert 0.9 <= after - before < 1.6


def children_seconds(pid: int) -> float:
    """CPU of a process's children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("name", "compiles"),
    [
        ("nvcc", True), ("ptxas", True), ("cicc", True), ("cc1plus", True), ("ninja", True), ("nvlink", True),
        ("fatbinary", True), ("gcc-12", True), ("g++", True), ("x86_64-linux-gnu-g++-12", True), ("clang-18", True),
        ("ptxas-blackwell", True), ("ld", True), ("ld.lld", True), ("as", True), ("collect2", True),
        ("python3", False), ("gccgo-helper", False), ("ninjas", False), ("sh", False),
    ],
)  # fmt: skip
def test_compilers_among_the_engines_processes_are_named(name: str, *, compiles: bool) -> None:
    with tree(["VLLM::EngineCore", [["VLLM::Worker", [[name, []]]]]]) as engine:
        look = first(engine.processes())
        assert look.compilers == ((name[:15],) if compiles else ())
        assert look.core_processes == 2


def test_compilers_of_others_are_not_ours() -> None:
    with tree(CORE) as engine, tree(["ptxas", []], ["VLLM::EngineCore", []]):
        look = first(engine.processes())
        assert look.compilers == ()
        assert look.core_processes == 2


def test_a_compiler_that_has_ended_and_is_not_waited_for_does_not_compile() -> None:
    with tree(["VLLM::EngineCore", [["ptxas", []]]]) as engine:
        processes = engine.processes()
        assert first(processes).compilers == ("ptxas",)
        engine.signal("ptxas", signal.SIGKILL)
        looked(processes, lambda look: look.compilers == (), "the end of the compiler")


def test_a_killed_core_is_not_alive_be_it_waited_for_or_not() -> None:
    with tree(["VLLM::EngineCore", []]) as engine:
        processes = engine.processes()
        assert first(processes).core_alive
        engine.signal("VLLM::EngineCore", signal.SIGKILL)
        look = looked(processes, lambda look: not look.core_alive, "the end of the core")
        assert look.core_cpu_seconds is not None


def test_a_child_without_a_title_does_not_stand_in_for_a_core_that_had_one() -> None:
    with tree(["VLLM::EngineCore", []], ["loader", []]) as engine:
        processes = engine.processes()
        first(processes)
        engine.signal("VLLM::EngineCore", signal.SIGKILL)
        looked(processes, lambda look: not look.core_alive, "the end of the core")


def test_titles_with_a_long_prefix_are_read_whole() -> None:
    """The kernel's short name of such a process holds the prefix alone."""
    title = "the-model-of-our-team::EngineCore"
    program = "import sys, time; print(f'server {sys.argv[1]}', flush=True); time.sleep(600)"
    core = f"import os, sys; os.execv(sys.executable, [{title!r}, '-c', 'import time; time.sleep(600)'])"
    start = f"import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', {core!r}])\n"
    server = f"{start}sys.argv.append(str(os.getpid()))\n{program}"
    with running([sys.executable, "-S", "-c", server], 1) as engine:
        looked(engine.processes(), lambda look: look.core_cpu_seconds is not None, "the core's title")


def test_an_engine_that_never_had_a_core_of_its_own_is_not_called_dead() -> None:
    with tree() as engine:
        look = first(engine.processes())
        assert look.core_cpu_seconds is None
        assert look.core_alive


def test_processes_that_lost_their_parent_still_belong() -> None:
    with tree(["VLLM::EngineCore", [["VLLM::Worker", [["nvcc", []]]]]]) as engine:
        processes = engine.processes()
        first(processes)
        engine.signal("VLLM::Worker", signal.SIGKILL)
        look = looked(processes, lambda look: look.core_processes == 1, "the worker's end")
        assert look.compilers == ("nvcc",)
        assert first(engine.processes()).compilers == (
            "nvcc",
        )  # by the process group, for who looks for the first time


def test_stopped_processes_are_named() -> None:
    with tree(CORE) as engine:
        processes = engine.processes()
        assert first(processes).stopped == ()
        engine.signal("VLLM::Worker_TP0", signal.SIGSTOP)
        looked(processes, lambda look: look.stopped == ("VLLM::Worker_TP",), "the stop of the worker")
        engine.signal("VLLM::Worker_TP0", signal.SIGCONT)
        looked(processes, lambda look: look.stopped == (), "its going on")


def test_bytes_written_are_counted_over_all_processes() -> None:
    with tree(CORE) as engine:
        processes = engine.processes()
        before = first(processes).written_bytes
        for title in ("server", "VLLM::Worker_TP0"):
            engine.signal(title, signal.SIGUSR2)
        looked(processes, lambda look: 2e6 <= look.written_bytes - before < 2.1e6, "both writes")


def test_without_titles_the_one_child_of_multiprocessing_is_the_core(tmp_path: Path) -> None:
    """Python starts its resource tracker beside it, which is no core."""
    program = tmp_path / "engine.py"
    program.write_text(SPAWNED.format(children=1), encoding="utf-8")
    with running([sys.executable, str(program)], 2) as engine:
        look = first(engine.processes())
        assert look.core_cpu_seconds is not None
        assert look.core_processes == 1
        assert look.core_alive


def test_without_titles_cores_and_several_servers_are_not_told_apart(tmp_path: Path) -> None:
    program = tmp_path / "engine.py"
    program.write_text(SPAWNED.format(children=2), encoding="utf-8")
    with running([sys.executable, str(program)], 3) as engine:
        look = first(engine.processes())
        assert look.core_cpu_seconds is None
        assert look.core_alive
        assert look.server_cpu_seconds > 0.1


def test_an_engine_that_has_ended_shows_nothing() -> None:
    with tree(CORE) as engine:
        processes = engine.processes()
        first(processes)
        os.kill(engine.pid, signal.SIGKILL)
        until(lambda: processes.look(1.0) is None, seconds=30)  # not waited for: a zombie
    assert processes.look(2.0) is None


def copy_of_proc(folder: Path, *numbers: int) -> str:
    """A folder like /proc that shows the status of some processes, and nothing else of them."""
    for number in numbers:
        (folder / str(number)).mkdir(exist_ok=True)
        shutil.copyfile(f"/proc/{number}/stat", folder / str(number) / "stat")
    return str(folder)


def test_what_the_kernel_hides_is_left_out(tmp_path: Path) -> None:
    """Of another user's processes it shows the status alone: their names and times, not what they have written."""
    with tree(CORE) as engine:
        look = Processes(engine.pid, 1, copy_of_proc(tmp_path, *engine.numbers.values())).look(0.0)
        assert look is not None
        assert look.core_cpu_seconds is not None
        assert look.written_bytes == 0.0
        assert Processes(engine.pid, 1, str(tmp_path / "nothing")).look(0.0) is None


def test_another_process_with_the_engines_number_is_not_the_engine(tmp_path: Path) -> None:
    with tree(CORE) as engine:
        processes = Processes(engine.pid, 1, copy_of_proc(tmp_path, *engine.numbers.values()))
        assert processes.look(0.0) is not None
        stat = tmp_path / str(engine.pid) / "stat"
        head, _, tail = stat.read_text(encoding="ascii").rpartition(")")
        fields = tail.split()
        fields[19] = str(int(fields[19]) + 1)
        stat.write_text(f"{head}) {' '.join(fields)}\n", encoding="ascii")
        assert processes.look(1.0) is None


def answering(port: int, wanted: set[int]) -> dict[int, socket.socket]:
    """One connection to each server, which it has accepted and answered on."""
    found: dict[int, socket.socket] = {}

    def connect() -> bool:
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sendall(b"hello")
        number = int(connection.recv(100))
        if number in found:
            connection.close()
        else:
            found[number] = connection
        return found.keys() == wanted

    until(connect, seconds=30, what="an answer of each server")
    return found


@pytest.mark.parametrize("closes", [False, True], ids=["sends", "closes"])
def test_one_of_several_servers_that_leaves_a_client_unread_is_seen(*, closes: bool) -> None:
    titles = ["VLLM::APIServer_0", "VLLM::APIServer_1"]
    with tree(*([title, []] for title in titles), CORE) as engine, contextlib.ExitStack() as stack:
        processes = engine.processes()
        numbers = [engine.numbers[title] for title in titles]
        connections = answering(engine.port, set(numbers))
        for connection in connections.values():
            stack.enter_context(connection)
        assert first(processes).unread_since is None
        stop(numbers[0])
        began = time.monotonic()
        if closes:  # a client that has lost its patience
            connections[numbers[0]].close()
        else:
            connections[numbers[0]].sendall(b"anybody there?")
        connections[numbers[1]].sendall(b"hello again")
        look = looked(processes, lambda look: look.unread_since is not None, "the unread bytes")
        assert look.unread_since is not None
        assert look.unread_since >= began
        again = first_at(processes, time.monotonic() + 5)
        assert again.unread_since == look.unread_since
        os.kill(numbers[0], signal.SIGCONT)
        looked(processes, lambda look: look.unread_since is None, "the reading")


def first_at(processes: Processes, now: float) -> ProcessesLook:
    look = processes.look(now)
    assert look is not None
    return look


def test_a_single_server_shows_in_its_answers_and_not_here() -> None:
    with tree(["VLLM::APIServer_0", []], CORE) as engine:
        processes = engine.processes()
        [connection] = answering(engine.port, {engine.numbers["VLLM::APIServer_0"]}).values()
        with connection:
            engine.signal("VLLM::APIServer_0", signal.SIGSTOP)
            connection.sendall(b"anybody there?")
            for _ in range(3):
                assert first_at(processes, time.monotonic()).unread_since is None


def test_a_look_costs_a_fraction_of_a_percent_of_a_core() -> None:
    with tree(*(["VLLM::EngineCore", [WORKER]] for _ in range(1))) as engine:
        processes = engine.processes()
        first(processes)
        began = time.process_time()
        for _ in range(50):
            first(processes)
        assert (time.process_time() - began) / 50 < 0.01  # 0.3 ms as measured, of one look a second
