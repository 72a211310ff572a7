"""A judge may crash, hang, be missing or be replaced: the engine goes on, and nobody is refused."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.processes import stop
from tests.support.stem_process import LOADING, SERVING
from tests.support.waiting import until
from vllm_operator.manager import keeper, relay

if TYPE_CHECKING:
    from tests.support.stem_process import Stem

pytestmark = pytest.mark.slow

SLEEP = "import time; time.sleep(1000)"


def test_a_judge_that_crashes_in_a_loop_leaves_the_last_verdict_and_says_so(stem: Stem) -> None:
    stem.start(SLEEP)
    stem.wait_reported()
    stem.reports(SERVING, mode="crash")
    os.kill(stem.life()["pid"], signal.SIGKILL)
    status = troubled(stem, "fault 3")
    assert (status["verdict"], status["sentence"], status["ready"]) == ("serving", "it serves", True)
    assert status["since"] == "2026-01-01T00:00:00Z"
    assert "the judge ended with exit code 1: ImportError: no such module" in status["trouble"]
    for path in ("/startup", "/ready", "/live"):
        code, body = stem.get(path)
        assert code == 200
        assert body.startswith("it serves (last known; ")
    assert stem.get("/elsewhere")[0] == 404
    assert "vllm_gate_judge_up 0" in stem.get("/metrics")[1]
    assert stem.running.poll() is None


def troubled(stem: Stem, text: str) -> dict[str, Any]:
    """The stem's own status, as soon as its trouble says so."""

    def look() -> dict[str, Any] | None:
        status = stem.wait_answered_by_stem()
        assert status["answered_by"] == "stem"
        return status if text in status["trouble"] else None

    found = until(look, what=f"a status that says {text!r}")
    assert found is not None
    return found


def test_judges_are_started_ever_more_seldom(stem: Stem) -> None:
    stem.constants = {"keeper.FIRST_PAUSE_SECONDS": 0.05, "keeper.LONGEST_PAUSE_SECONDS": 1000}
    stem.reports({}, mode="crash")
    began = time.monotonic()
    stem.start(SLEEP)
    troubled(stem, "fault 6")
    assert time.monotonic() - began >= 0.05 * (1 + 2 + 4 + 8 + 16)


def test_without_any_verdict_the_engine_lives_and_takes_no_traffic(stem: Stem) -> None:
    (stem.manager / "program.py").unlink()
    stem.constants = {"fallback.STARTUP_HOLD_SECONDS": 0.5}
    stem.start(SLEEP)
    status = troubled(stem, "No module named manager.program")
    assert (status["verdict"], status["cause"], status["ready"]) == ("starting", "NoJudge", False)
    assert [stem.get(path)[0] for path in ("/live", "/ready", "/startup")] == [200, 503, 503]
    assert stem.running.poll() is None


def test_startup_holds_its_refusal_back_and_lets_a_new_verdict_through(stem: Stem) -> None:
    """Kubelet counts refusals: answered at once they would use a startup budget of an hour up in minutes."""
    stem.reports({}, mode="crash")
    stem.start(SLEEP)
    stem.wait_answered_by_stem()
    answers: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: answers.append(stem.get("/startup", seconds=60)))
    asking.start()
    time.sleep(1)
    assert not answers
    assert stem.get("/live")[0] == 200  # others are not held up
    stem.reports(SERVING)
    asking.join(60)
    assert answers[0][0] == 200


@pytest.mark.parametrize("mode", ["hang", "stuck"])
def test_a_judge_that_hangs_is_answered_for_and_then_killed(stem: Stem, mode: str) -> None:
    stem.constants = {"keeper.SILENT_SECONDS": 1.0, "keeper.FIRST_REPORT_SECONDS": 1.0, "keeper.HUNG_SECONDS": 4.0}
    stem.reports(SERVING, mode=mode)
    stem.start(SLEEP)
    if mode == "stuck":
        stem.wait_reported()
        stop(stem.life()["pid"])
    first = until(lambda: judge_of(stem), what="a judge")
    status = stem.wait_answered_by_stem()
    assert "the judge runs and does not report" in status["trouble"]
    assert judge_of(stem) == first
    stem.reports(SERVING)
    until(lambda: judge_of(stem) not in (0, first), what="another judge")
    life = stem.life(after=first)
    assert "the judge did not report for 4 s and was killed" in life["GATE_TROUBLE"]


def judge_of(stem: Stem) -> int:
    """The process id of the judge that runs; 0: none."""
    path = f"/proc/{stem.running.pid}/task/{stem.running.pid}/children"
    with open(path, encoding="ascii") as file:  # noqa: PTH123 # a file of the kernel's
        children = [int(word) for word in file.read().split()]
    for child in children:
        with open(f"/proc/{child}/cmdline", encoding="utf-8") as file:  # noqa: PTH123
            if "manager.program" in file.read():
                return child
    return 0


def test_nobody_is_refused_while_judges_are_replaced(stem: Stem) -> None:
    stem.constants = {"keeper.REPLACED_SECONDS": 0.0}
    stem.start(SLEEP)
    stem.wait_reported()
    answers: list[tuple[int, str]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers.append(stem.get("/ready"))

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for one in asking:
        one.start()
    pid = stem.life()["pid"]
    for _ in range(5):
        (stem.judge / "reported").unlink(missing_ok=True)
        stem.wait_reported()
        os.kill(pid, signal.SIGUSR2)
        pid = stem.life(after=pid)["pid"]
    over.set()
    for one in asking:
        one.join(60)
    assert {code for code, _ in answers} == {200}
    assert len({body for _, body in answers if body.startswith("judge")}) >= 5
    assert json.loads((stem.judge / "life").read_text(encoding="utf-8"))["GATE_TROUBLE"] == ""


def test_a_judge_that_wants_to_be_replaced_at_once_again_is_a_fault(stem: Stem) -> None:
    stem.start(SLEEP)
    stem.wait_reported()
    pid = stem.life()["pid"]
    os.kill(pid, signal.SIGUSR2)
    assert "exit code 75" in stem.life(after=pid)["GATE_TROUBLE"]


def test_the_next_judge_gets_the_memory_the_verdict_and_the_log(stem: Stem) -> None:
    stem.start("print('the first line', flush=True)\n" + SLEEP)
    stem.wait_reported()
    until(lambda: (stem.judge / "log").read_text(encoding="utf-8") == "the first line\n", what="the log")
    assert (stem.judge / "memory").read_text(encoding="utf-8") == ""
    (stem.judge / "log").unlink()
    pid = stem.life()["pid"]
    os.kill(pid, signal.SIGKILL)
    stem.life(after=pid)
    memory = json.loads((stem.judge / "memory").read_text(encoding="utf-8"))
    assert memory == {"memory": SERVING["memory"], "verdict": SERVING["verdict"]}
    until(lambda: (stem.judge / "log").exists() and (stem.judge / "log").read_bytes() == b"the first line\n")


@pytest.mark.parametrize(("size", "kept"), [(55_000, True), (70_000, False)])
def test_a_memory_of_up_to_60_kilobytes_is_handed_over(stem: Stem, size: int, kept: bool) -> None:  # noqa: FBT001
    stem.reports({**SERVING, "memory": "m" * size})
    stem.start(SLEEP)
    stem.wait_reported()
    pid = stem.life()["pid"]
    os.kill(pid, signal.SIGKILL)
    stem.life(after=pid)
    memory = json.loads((stem.judge / "memory").read_text(encoding="utf-8"))
    assert memory["verdict"] == SERVING["verdict"]
    assert (memory.get("memory") == "m" * size) is kept


def test_a_report_that_is_none_is_told_and_changes_nothing(stem: Stem) -> None:
    (stem.manager / "program.py").write_text(
        "import os, time\nreports = b'[1]\\n\\xff\\n{\"verdict\": 5}\\n' + b'[' * 50_000 + b'\\n'\n"
        "os.write(int(os.environ['GATE_REPORT']), reports)\n"
        "time.sleep(1)\nraise SystemExit(9)\n",
        encoding="utf-8",
    )
    stem.start(SLEEP)
    status = troubled(stem, "exit code 9")
    assert status["verdict"] == "starting"
    assert stem.running.poll() is None


def test_after_sigterm_the_stem_itself_is_not_ready(stem: Stem) -> None:
    stem.options += ["--leave", "1000"]
    stem.start(SLEEP)
    stem.wait_reported()
    stem.send(signal.SIGTERM)
    until((stem.judge / "leaving").exists, what="the judge's SIGUSR1")
    pid = stem.life()["pid"]
    os.kill(pid, signal.SIGKILL)
    assert stem.life(after=pid)["GATE_LEAVING"] == "1"
    stem.reports(SERVING, mode="crash")
    os.kill(stem.life()["pid"], signal.SIGKILL)
    status = stem.wait_answered_by_stem()
    assert (status["verdict"], status["ready"]) == ("leaving", False)
    assert stem.get("/ready")[0] == 503
    assert stem.get("/live")[0] == 200


def test_slow_clients_hold_up_nobody(loading: Stem) -> None:
    import socket  # noqa: PLC0415

    loading.constants = {"fallback.REQUEST_SECONDS": 1.0, "fallback.MOST_CONNECTIONS": 8}
    loading.reports(LOADING, mode="crash")
    loading.start(SLEEP)
    loading.wait_answered_by_stem()
    clients = [socket.create_connection(("127.0.0.1", loading.port)) for _ in range(20)]
    for client in clients:
        client.sendall(b"GET /live")
    assert loading.get("/live", seconds=30)[0] == 200
    for client in clients:
        client.close()
    assert loading.running.poll() is None


@pytest.mark.parametrize(("lived_seconds", "told"), [(10.0, "the judge crashed"), (61.0, "")])
def test_what_has_ended_earlier_judges_is_forgotten_once_one_has_lived_for_long(
    lived_seconds: float, told: str
) -> None:
    found = keeper.Keeper((), {}, listener=0, log=relay.Log(), note=lambda _: None)
    found.trouble = "the judge crashed"
    found._handle_line(b'{"verdict": {}}', 0.0)  # noqa: SLF001 # as it comes out of the pipe
    found.ended(keeper.REPLACE << 8, lived_seconds)
    assert found.trouble == told
