"""How the container ends: exit codes, termination messages, SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import until
from vllm_operator.manager import stem as program

if TYPE_CHECKING:
    from tests.support.stem_process import Stem

pytestmark = pytest.mark.slow

DRAINS = """
import os, signal, sys, time
def drain(*_):
    time.sleep(0.3)
    print("drained", flush=True)
    os._exit({code})
signal.signal(signal.SIGTERM, drain)
open("ready", "w").close()
while True:
    signal.pause()
"""
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('ready', 'w').close(); time.sleep(1000)"
)
READABLE = stat.S_IXGRP | stat.S_IRGRP | stat.S_IXOTH | stat.S_IROTH
RANDOM_UID = 1_000_640_000
"""As OpenShift gives one."""


def started(stem: Stem, engine: str) -> Stem:
    """Run the engine, until it and the judge are up."""
    stem.start(engine)
    until((stem.folder / "ready").exists, what="the engine")
    stem.wait_reported()
    return stem


@pytest.mark.parametrize(
    ("end", "code", "sentence"),
    [
        ("raise SystemExit(3)", 3, "the engine ended with exit code 3, which nobody had asked for"),
        ("raise SystemExit(0)", 1, "the engine ended with exit code 0, which nobody had asked for"),
        ("import os; os.kill(os.getpid(), 9)", 137, "the engine was ended by SIGKILL, which nobody had asked for"),
        ("import os; os.abort()", 134, "the engine was ended by SIGABRT, which nobody had asked for"),
    ],
)
def test_an_end_that_nobody_asked_for_is_a_failure(loading: Stem, end: str, code: int, sentence: str) -> None:
    (loading.judge / "cause").write_text("CUDA error: out of memory", encoding="utf-8")
    loading.start(f"import time\nwhile not __import__('os').path.exists('judge/reported'): time.sleep(0.01)\n{end}")
    assert loading.result()[0] == code
    assert loading.message == f"{sentence}\nroot cause: CUDA error: out of memory"


def test_an_engine_that_drains_after_sigterm_ends_with_its_own_exit_code(stem: Stem) -> None:
    stem.options += ["--leave", "0.5"]
    started(stem, DRAINS.format(code=0))
    began = time.monotonic()
    stem.send(signal.SIGTERM)
    until((stem.judge / "leaving").exists, what="the judge's SIGUSR1")
    code, out, err = stem.result()
    assert (code, out, err) == (0, b"drained\n", b"")
    assert time.monotonic() - began >= 0.8
    assert stem.message == "the end was asked for, and the engine ended with exit code 0\n"


def test_a_pod_that_is_deleted_while_its_manager_is_still_being_imported_ends_at_once(loading: Stem) -> None:
    imported = loading.manager / "relay.py"
    slow = "import time\nopen('importing', 'w').close()\ntime.sleep(1)\n"
    text = imported.read_text(encoding="utf-8")
    imported.write_text(text.replace("import os\n", f"import os\n{slow}", 1), encoding="utf-8")
    loading.start(DEAF)
    until((loading.folder / "importing").exists, what="the import")
    loading.send(signal.SIGTERM)
    assert loading.result()[0] == 0
    assert loading.message.startswith("the end was asked for, and the engine had nothing to finish: it was killed")


def test_an_engine_that_fails_while_it_drains_has_failed(stem: Stem) -> None:
    stem.options += ["--leave", "0"]
    started(stem, DRAINS.format(code=4)).send(signal.SIGINT)
    assert stem.result()[0] == 4


def test_an_engine_that_loads_is_ended_at_once(loading: Stem) -> None:
    loading.options += ["--leave", "1000"]
    started(loading, DEAF).send(signal.SIGTERM)
    assert loading.result(30)[0] == 0
    assert loading.message.startswith("the end was asked for, and the engine had nothing to finish")


def test_a_storm_of_sigterms_is_one(stem: Stem) -> None:
    stem.options += ["--leave", "0.5"]
    started(stem, DRAINS.format(code=0))
    began = time.monotonic()
    for _ in range(2000):
        stem.send(signal.SIGTERM)
        stem.send(signal.SIGINT)
    code, out, _ = stem.result()
    assert (code, out) == (0, b"drained\n")
    assert time.monotonic() - began >= 0.8


def test_an_engine_that_ignores_sigterm_is_left_to_kubelets_grace(stem: Stem) -> None:
    stem.options += ["--leave", "0"]
    started(stem, DEAF).send(signal.SIGTERM)
    until((stem.judge / "leaving").exists, what="the judge's SIGUSR1")
    time.sleep(1)  # nothing is to happen
    assert stem.running.poll() is None
    assert stem.get("/ready")[1].startswith("judge")


def test_a_judge_that_gives_the_engine_up_ends_its_whole_group(stem: Stem) -> None:
    (stem.judge / "cause").write_text("NCCL error", encoding="utf-8")
    worker = "import subprocess, sys; p = subprocess.Popen(['sleep', '1000']); open('worker', 'w').write(str(p.pid))\n"
    started(stem, worker + DEAF)
    worker_pid = int((stem.folder / "worker").read_text(encoding="ascii"))
    os.kill(stem.life()["pid"], signal.SIGHUP)
    code, _, err = stem.result()
    assert code == 1
    assert stem.message == "no step for 60 s with 8 requests in flight\nroot cause: NCCL error"
    assert err == b"vllm-manager: no step for 60 s with 8 requests in flight\n"
    assert not Path(f"/proc/{worker_pid}").exists()


def test_words_of_a_judge_that_no_encoding_has_are_written_as_far_as_they_go(stem: Stem) -> None:
    started(stem, DEAF)
    (stem.manager / "program.py").write_text(
        "import os, time\nos.write(int(os.environ['GATE_REPORT']), b'{\"end\": \"hung \\\\ud800\"}\\n')\ntime.sleep(9)",
        encoding="utf-8",
    )
    os.kill(stem.life()["pid"], signal.SIGKILL)
    assert stem.result()[0] == 1
    assert stem.message.startswith("hung ?\n")


@pytest.mark.parametrize("mode", ["crash", "speechless", "hang"])
def test_without_words_of_a_judge_the_message_holds_the_end_of_the_log(stem: Stem, mode: str) -> None:
    stem.reports({}, mode=mode)
    engine = "import sys\nfor n in range(1000): print(f'line {n}', file=sys.stderr)\n"
    stem.start(engine + "raise ValueError('No available memory for the cache blocks')")
    assert stem.result()[0] == 1
    lines = stem.message.splitlines()
    assert lines[0] == "the engine ended with exit code 1, which nobody had asked for"
    assert lines[-1] == "ValueError: No available memory for the cache blocks"
    assert lines[1].startswith("line ")
    assert len(stem.message.encode()) <= program.MOST_MESSAGE_BYTES


def test_the_message_leaves_out_requests_that_were_answered_and_keeps_those_that_failed(stem: Stem) -> None:
    stem.reports({}, mode="crash")
    line = 'INFO:     127.0.0.1:1234 - "POST /v1/completions HTTP/1.1" {}'
    failed = line.format("500 Internal Server Error")
    stem.start(f"print('worker lost'); print({failed!r})\nfor n in range(50): print({line.format('200 OK')!r})\n1 / 0")
    assert stem.result()[0] == 1
    lines = stem.message.splitlines()
    assert "ZeroDivisionError: division by zero" in lines
    assert {"worker lost", failed} <= set(lines)
    assert line.format("200 OK") not in lines


def test_what_the_kernel_killed_for_memory_is_told_as_that(stem: Stem) -> None:
    group = stem.folder / "cgroup"
    group.mkdir()
    events = group / "memory.events"
    events.write_text("oom 1\noom_kill 2\noom_group_kill 0\n", encoding="ascii")
    stem.constants = {"cgroup.ROOT": str(group)}
    engine = "open('cgroup/memory.events', 'w').write('oom 2\\noom_kill 3\\n'); import os; os.kill(os.getpid(), 9)"
    stem.start(engine)
    assert stem.result()[0] == 137
    start = "the kernel killed 1 of this container's processes for memory (cgroup oom_kill): "
    assert stem.message.startswith(start + "the engine was ended by SIGKILL")


def test_a_command_that_does_not_exist_is_told(stem: Stem) -> None:
    code, _, err = stem.start_command(["no-such-vllm", "serve"]).result()
    assert code == 127
    assert stem.message.startswith("no-such-vllm cannot be started: No such file or directory (PATH is ")
    assert err.startswith(b"vllm-manager: no-such-vllm cannot be started")


def test_a_command_that_is_not_executable_is_told(stem: Stem) -> None:
    (stem.folder / "vllm").write_text("#!/bin/sh\n", encoding="ascii")
    code, _, _ = stem.start_command(["./vllm"]).result()
    assert (code, stem.message) == (126, "./vllm cannot be started: Permission denied\n")


def test_no_command_is_told(stem: Stem) -> None:
    assert stem.start_command([]).result()[0] == 2
    assert stem.message == "no engine to start: the container's args must be its command line\n"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_gate_port_that_is_taken_is_told_with_the_field_that_moves_it(
    stem: Stem, family: socket.AddressFamily
) -> None:
    address = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((address, stem.port), family=family):
        code, _, _ = stem.start("raise SystemExit(5)").result()
    assert code == 98
    assert stem.message.startswith(f"port {stem.port} of the gate is taken by another process")
    assert "spec.gates.port" in stem.message


def test_the_gate_answers_both_ip_families(stem: Stem) -> None:
    stem.reports({}, mode="crash")
    stem.start("import time; time.sleep(1000)")
    stem.get_when_up("/live")
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, stem.port), timeout=10) as client:
            client.sendall(b"GET /live HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_termination_log_that_cannot_be_written_is_told_and_changes_nothing_else(stem: Stem) -> None:
    stem.environment["GATE_TERMINATION_LOG"] = str(stem.folder)
    code, _, err = stem.start("raise SystemExit(3)").result()
    assert code == 3
    assert err.endswith(f"vllm-manager: no termination message: {stem.folder}: Is a directory\n".encode())


def test_a_random_uid_on_a_root_that_cannot_be_written_runs_an_engine(stem: Stem) -> None:
    """Nothing is written anywhere but to the termination log, and nobody's right is needed."""
    stem.message_file.chmod(0o666)
    open_to_all(stem.folder)
    script = "import os, sys; os.setgroups([]); os.setgid(0); os.setuid(int(sys.argv[1]))\n"
    script += "os.execv(sys.argv[2], sys.argv[2:])"
    anybodys = python_of_anybody()
    python = [anybodys, "-S", "-E", "-B", str(stem.manager / "stem.py")]
    engine = [anybodys, "-S", "-c", "import os; print(os.getuid(), os.access('.', os.W_OK)); raise SystemExit(3)"]
    words = [sys.executable, "-c", script, str(RANDOM_UID), *python, *stem.options, "--", *engine]
    stem.process = subprocess.Popen(
        words, cwd="/", env=stem.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    code, out, err = stem.result()
    assert (code, out) == (3, f"{RANDOM_UID} False\n".encode()), err
    assert stem.message.startswith("the engine ended with exit code 3")


def python_of_anybody() -> str:
    """An interpreter that every user may run."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            subprocess.run([path, "-S", "-c", ""], user=RANDOM_UID, cwd="/", check=True)
        except OSError:  # it does not exist, or only its owner gets there
            continue
        return path
    raise AssertionError("no python3 that every user may run: apt-get install python3")


def open_to_all(folder: Path) -> None:
    """Let everybody through to the folder: pytest's own lie in one that only their user may enter."""
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | READABLE)


def test_several_api_keys_reach_the_engine_by_a_file(stem: Stem) -> None:
    keys = stem.folder / "keys"
    keys.mkdir()
    stem.constants = {"keys.FOLDERS": ["/nowhere", str(keys)]}
    stem.environment.update(A="first", B="second")
    stem.options += ["--keys", "A,B"]
    code, out, _ = stem.start("import sys; print(sys.argv[1:])", "--port", "8000").result()
    assert (code, out) == (1, f"['--port', '8000', '--config', '{keys}/vllm-keys.yaml']\n".encode())


def test_api_keys_without_a_place_are_told(stem: Stem) -> None:
    stem.constants = {"keys.FOLDERS": ["/nowhere"]}
    stem.environment.update(A="first", B="second")
    stem.options += ["--keys", "A,B"]
    assert stem.start("raise SystemExit(5)").result()[0] == 73
    assert stem.message.startswith("the API keys have no place that only the engine can read (/nowhere: No such file")
