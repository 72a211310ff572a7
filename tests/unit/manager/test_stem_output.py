"""The engine's output, its files, signals and orphans are as they would be if it were process 1 itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.stem_process import Stem

ASK = "import os, signal; os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
"""An engine's last line: it has the end asked for, and waits for its SIGTERM."""

SLEEP = "import time; time.sleep(1000)"
FLOOD_MEGABYTES = 100
LOWEST_31 = 0x7FFFFFFF
FLOOD = f"""
import os
block = bytes(range(256)) * 4096
for _ in range({FLOOD_MEGABYTES}):
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(1, rest):]
os._exit(3)
"""


def memory_bytes(pid: int) -> int:
    """The most that a process has had in memory."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    "data",
    [b"no newline at the end", b"\x00\xff\xfe\r\n\x1b[31m\n\n", b"x" * 3_000_000, b"", "漢字\n".encode() * 1000],
    ids=["no newline", "binary", "a huge line", "nothing", "characters of several bytes"],
)
def test_both_streams_are_relayed_byte_for_byte_and_apart(stem: Stem, data: bytes) -> None:
    (stem.folder / "data").write_bytes(data)
    engine = "import os, sys; data = open('data', 'rb').read()\nfor stream, more in ((1, b'o'), (2, b'e')):\n"
    engine += "    with os.fdopen(stream, 'wb') as file: file.write(data + more)\nos._exit(3)"
    code, out, err = stem.start(engine).result()
    assert (code, out) == (3, data + b"o")
    assert err.startswith(data + b"e")
    assert err[len(data) + 1 :] == b"vllm-manager: the engine ended with exit code 3, which nobody had asked for\n"


def test_a_flood_is_relayed_whole_though_the_judge_reads_nothing_and_memory_stays_small(stem: Stem) -> None:
    stem.reports({}, mode="deaf")
    stem.start(FLOOD)
    total, expected = 0, bytes(range(256)) * 4096
    most = 0
    assert stem.running.stdout is not None
    while data := stem.running.stdout.read(len(expected)):
        assert data == expected
        total += 1
        most = max(most, memory_bytes(stem.running.pid))
    assert total == FLOOD_MEGABYTES
    assert most < 40_000_000
    assert stem.running.wait(30) == 3


def test_a_runtime_that_reads_slowly_holds_the_engine_back_and_nothing_else(stem: Stem) -> None:
    stem.start("import os, subprocess\nsubprocess.run(['sh', '-c', 'sleep 1 &'])\n" + FLOOD)
    child = engine_of(stem)
    first = stem.life()["pid"]
    until(lambda: Path(f"/proc/{child}/wchan").exists() and state_of(child) == "S", what="an engine that waits")
    before = cpu_seconds(child)
    os.kill(first, signal.SIGKILL)
    stem.life(after=first)  # another judge: the loop runs
    assert stem.get("/ready")[0] == 200
    assert not zombies(stem.running.pid) - {child}
    assert cpu_seconds(child) - before < 0.1
    read = threading.Thread(target=stem.running.communicate)
    read.start()
    read.join(60)
    assert stem.running.returncode == 3


def engine_of(stem: Stem) -> int:
    """The engine's process id."""
    return int(stem.life()["GATE_ENGINE"])


def state_of(pid: int) -> str:
    """One letter of the kernel's."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


def zombies(parent: int) -> set[int]:
    """Children that have ended and were not reaped."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    return {int(child) for child in children if state_of(int(child)) == "Z"}


def test_an_orphan_is_reaped_though_the_stem_is_not_process_1(stem: Stem) -> None:
    engine = (
        "import os, subprocess, time\nsubprocess.run(['sh', '-c', 'sleep 0.2 & echo $! > orphan'])\ntime.sleep(1000)"
    )
    stem.start(engine)
    orphan = int(until(lambda: text_of(stem.folder / "orphan"), what="an orphan"))
    until(lambda: not Path(f"/proc/{orphan}").exists(), what="the end of the orphan")
    assert stem.running.poll() is None


def text_of(path: Path) -> str:
    """A file's text, or nothing."""
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGQUIT"])
def test_a_signal_is_handed_on_to_the_engine(stem: Stem, name: str) -> None:
    engine = "import signal, sys, os\n"
    engine += f"signal.signal(signal.{name}, lambda *_: (os.write(1, b'heard'), os._exit(7)))\n"
    engine += "open('ready', 'w').close()\nwhile True: signal.pause()"
    stem.start(engine)
    until((stem.folder / "ready").exists, what="the engine")
    stem.send(getattr(signal, name))
    code, out, _ = stem.result()
    assert (code, out) == (7, b"heard")


def test_the_engine_gets_three_files_default_signals_a_group_of_its_own_and_its_own_folder(stem: Stem) -> None:
    engine = """
import json, os, signal
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
files = sorted(int(name) for name in os.listdir("/proc/self/fd"))
print(json.dumps({
    "files": [number for number in files if os.path.exists(f"/proc/self/fd/{number}")],
    "blocked": status["SigBlk"].strip(),
    "group": os.getpgid(0) == os.getpid(),
    "session": os.getsid(0) == os.getsid(os.getppid()),
    "cwd": os.getcwd(),
    "input": os.read(0, 100).decode(),
    "gate": [name for name in os.environ if name.startswith("GATE_") and name != "GATE_TERMINATION_LOG"],
}))
"""
    stem.start(engine, stdin=subprocess.PIPE)
    assert stem.running.stdin is not None
    stem.running.stdin.write(b"given")
    stem.running.stdin.close()
    stem.running.stdin = None
    _, out, _ = stem.result()
    assert json.loads(out) == {
        "files": [0, 1, 2],
        "blocked": "0000000000000000",
        "group": True,
        "session": True,
        "cwd": str(stem.folder),
        "input": "given",
        "gate": [],
    }


def test_the_engine_ignores_no_signal_that_python_ignores(stem: Stem) -> None:
    code, out, _ = stem.start_command(["grep", "SigIgn", "/proc/self/status"]).result()
    assert code == 1
    assert int(out.split()[1], 16) & LOWEST_31 == 0  # glibc has two above for itself, at each posix_spawn


def test_the_judge_gets_its_four_files_and_the_engines_output(stem: Stem) -> None:
    stem.start("print('a line', flush=True)\n" + SLEEP)
    life = stem.life()
    lent = {int(life[name]) for name in ("GATE_SOCKET", "GATE_LOG", "GATE_REPORT", "GATE_MEMORY")}
    assert lent | {0, 1, 2} < set(life["files"])
    assert len(life["files"]) == len(lent) + 3 + 1  # and the folder that it reads for this list
    assert (life["group"], life["cwd"]) == (life["pid"], str(stem.manager.parent))
    until(lambda: text_of(stem.judge / "log") == "a line", what="the engine's output")


def test_an_output_that_cannot_be_written_does_not_end_the_engine(stem: Stem) -> None:
    with Path("/dev/full").open("wb") as full:
        stem.start("print('lost', flush=True); open('went-on', 'w').close(); raise SystemExit(3)", stdout=full)
        code, _, err = stem.result()
    assert code == 3
    assert (stem.folder / "went-on").exists()
    assert b"the engine's output is lost, since it cannot be written: No space left on device\n" in err


def test_an_orphan_that_keeps_the_output_open_does_not_hold_up_the_end(stem: Stem) -> None:
    engine = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)\n"
    )
    engine += "print(p.pid, flush=True); raise SystemExit(3)"
    stem.start(engine, stderr=subprocess.DEVNULL)
    assert stem.running.wait(30) == 3
    assert stem.running.stdout is not None
    os.kill(int(stem.running.stdout.readline()), signal.SIGKILL)


def test_a_runtime_that_reads_nothing_holds_up_the_end_only_for_a_while(stem: Stem) -> None:
    stem.constants = {"stem.DRAIN_SECONDS": 1.0}
    reading, writing = os.pipe()
    stem.start("import os; os.write(1, b'x' * 150_000); raise SystemExit(3)", stdout=writing, stderr=subprocess.DEVNULL)
    os.close(writing)
    assert os.read(reading, 65536)  # room for all but what fits into both pipes and the relay
    assert stem.running.wait(30) == 3
    os.close(reading)


def test_it_is_process_1_of_a_container_and_reaps_there(stem: Stem) -> None:
    engine = """
import os, signal, subprocess
subprocess.run(["sh", "-c", "sleep 0.1 & exit"])
def ended(*_):
    states = [open(f"/proc/{n}/stat").read().rpartition(")")[2].split()[0] for n in os.listdir("/proc") if n.isdigit()]
    os.write(1, f"{os.getppid()} {states.count('Z')}".encode())
    os._exit(0)
signal.signal(signal.SIGUSR1, ended)
open("ready", "w").close()
while True: signal.pause()
"""
    stem.start(engine, prefix=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"])
    until((stem.folder / "ready").exists, what="the engine")
    stem.wait_reported()
    first = Path(f"/proc/{stem.running.pid}/task/{stem.running.pid}/children").read_text(encoding="ascii")
    os.kill(int(first), signal.SIGUSR1)
    code, out, _ = stem.result()
    assert (code, out) == (1, b"1 0")


def test_python_is_the_one_that_runs_the_stem(stem: Stem) -> None:
    stem.start(SLEEP)
    assert Path(f"/proc/{stem.life()['pid']}/exe").readlink() == Path(sys.executable).resolve()
