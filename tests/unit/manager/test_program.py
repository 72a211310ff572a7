"""The judge's process under the real stem, beside the stub engine: what kubelet and clients see of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.support.manager_process import Manager, managed
from tests.support.waiting import until
from vllm_operator.manager import program
from vllm_operator.manager.matching import FILE as TABLE_FILE
from vllm_operator.manager.timeline import FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Manager]:
    """A manager that does not run yet."""
    with managed(tmp_path / "pod") as manager:
        yield manager


@pytest.fixture
def serving(pod: Manager) -> Manager:
    """One whose engine has been admitted, and that looks for a newer program four times a second."""
    pod.change("update.py", "WATCH_SECONDS = 10.0", "WATCH_SECONDS = 0.25")
    pod.run().wait_admitted()
    return pod


class Callers:
    """Somebody who asks /ready again and again, one after the other, as kubelets and peers of a fleet do."""

    def __init__(self, pod: Manager) -> None:
        self._pod = pod
        self._stop = threading.Event()
        self.codes: list[int] = []
        self.refused = 0
        self.cut = 0
        """Connections that a judge had taken when it was killed."""
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                self.codes.append(self._pod.get("/ready")[0])
            except ConnectionRefusedError:
                self.refused += 1
            except OSError:
                self.cut += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)


def test_an_engine_is_admitted_once_it_has_completed_a_prompt_and_startup_waits_for_that(pod: Manager) -> None:
    pod.environment["STUB_LOAD_SECONDS"] = "2"
    pod.run()
    assert pod.get_when_up("/ready")[0] == 503
    began = pod.wait(verdict="starting", answered_by="judge")
    assert (began["admitted"], began["ready"], began["in_flight"]) == (False, False, None)
    assert pod.get("/startup")[0] == 200
    status = pod.wait_admitted()
    assert status["phase"]["name"] == "Ready"
    assert status["ranks"]["0"]["steps"] >= 1
    verdicts = [entry["verdict"] for entry in status["timeline"]]
    assert (verdicts[0], verdicts[-1]) == ("starting", "serving")
    assert [pod.get(path)[0] for path in ("/ready", "/live", "/startup", "/")] == [200, 200, 200, 404]


def test_an_engine_that_serves_another_name_is_never_admitted_and_told(pod: Manager) -> None:
    pod.flags = ["--served-model-name", "other"]
    pod.run()
    status = until(
        lambda: found if (found := pod.status()).get("cause") == "WrongModel" else None, what="the cause WrongModel"
    )
    assert status is not None
    assert status["admitted"] is False
    assert "tiny" in status["sentence"]


def test_a_hung_engine_loses_its_traffic_and_then_its_life_and_the_next_life_knows(tmp_path: Path) -> None:
    with managed(tmp_path / "pod", "--restart-window", "10") as pod:
        pod.run().wait_admitted()
        pod.engine.faults(hang_engine=True)
        withdrawn = pod.wait(ready=False)
        assert (withdrawn["verdict"], withdrawn["admitted"]) == ("withdrawn", True)
        assert pod.get("/live")[0] == 200
        assert pod.end() == 1
        assert "a canary does not complete" in pod.message
        pod.environment["STUB_LOAD_SECONDS"] = "3"
        pod.run()
        again = pod.wait(verdict="starting", answered_by="judge")
        assert (again["restarting"], again["admitted"]) == (True, False)
        assert pod.wait_admitted()["restarting"] is False
        verdicts = [entry["verdict"] for entry in pod.status()["timeline"]]
        assert [one for one in verdicts if one != "starting"] == ["serving", "withdrawn", "restart", "serving"]
        kill_judge(pod)  # whoever follows counts no life twice
        told = pod.get("/metrics")[1]
        assert 'vllm_gate_restarts_total{cause="Failing"} 1\n' in told
        assert 'vllm_gate_restarts_total{cause="Stalled"} 0\n' in told
        assert float(re.findall(r'vllm_gate_load_phase_seconds{phase="Starting"} (\S+)', told)[0]) > 0


def test_an_engine_that_is_not_admitted_within_its_startup_budget_is_ended_with_what_was_missing(
    tmp_path: Path,
) -> None:
    with managed(tmp_path / "pod", "--startup-budget", "4") as pod:
        pod.environment["STUB_FAULTS"] = json.dumps({"fail": {"status": 500, "message": "no chat template"}})
        pod.run()
        assert pod.end() == 1
        assert "startup budget of 4 s" in pod.message
        assert "no chat template" in pod.message


def test_a_start_that_fails_leaves_its_root_cause_as_last_words(pod: Manager) -> None:
    pod.environment.update(STUB_START_FAILURE="No available memory for the cache blocks", STUB_LOAD_SECONDS="1")
    pod.run()
    assert pod.end() == 1
    assert "No available memory for the cache blocks" in pod.message
    assert pod.message.splitlines()[-1] == 'diagnosis: {"id": "NoKvCache", "groups": {}}'


def test_without_a_table_of_signatures_a_judge_judges_and_tells_a_failure_as_it_is(pod: Manager) -> None:
    (pod.manager / TABLE_FILE).write_text('{"signatures": [', encoding="utf-8")
    pod.environment.update(STUB_START_FAILURE="No available memory for the cache blocks", STUB_LOAD_SECONDS="5")
    pod.run()
    until(lambda: "recognized: signatures.json cannot be read" in pod.status().get("trouble", ""), what="the trouble")
    assert pod.end() == 1
    assert "No available memory for the cache blocks" in pod.message
    assert "diagnosis" not in pod.message


def test_an_engine_that_is_asked_to_end_takes_no_traffic_from_that_moment_on(pod: Manager) -> None:
    pod.options += ["--leave", "3"]
    pod.flags = ["--shutdown-timeout", "30"]
    pod.run().wait_admitted()
    pod.send(signal.SIGTERM)
    leaving = pod.wait(verdict="leaving")
    assert leaving["ready"] is False
    assert leaving["sentence"].startswith("leaving")
    for path, code in (("/ready", 503), ("/startup", 503), ("/live", 200)):
        assert pod.get(path) == (code, leaving["sentence"] + "\n")
    assert pod.engine.complete().status == 200  # it is still there for who comes late
    assert pod.end() == 0
    last = json.loads((pod.state / FILE).read_text(encoding="utf-8").splitlines()[-1])
    assert (last["verdict"], last["cause"]) == ("leaving", "Leaving")


def kill_judge(pod: Manager) -> None:
    """End it, and wait for the next one to answer."""
    before = pod.judge_pid()
    pod.kill_judge()
    until(lambda: pod.judge_pid() not in (0, before), what="another judge")
    pod.wait(answered_by="judge", admitted=True)


def test_a_judge_that_is_killed_refuses_nobody_and_forgets_nothing(serving: Manager) -> None:
    with Callers(serving) as callers:
        until(lambda: len(callers.codes) > 50, what="callers")
        kill_judge(serving)
        kill_judge(serving)
    assert callers.refused == 0
    assert callers.cut <= 2
    assert set(callers.codes) == {200}
    status = serving.status()
    assert "SIGKILL" in status["trouble"]
    assert [entry["verdict"] for entry in status["timeline"]].count("serving") == 1
    assert "vllm_gate_judge_restarts_total 2\n" in serving.get("/metrics")[1]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("judge.py", "def observe(", "def observed_by_mistake("),
        ("answers.py", "import json\n", "import json_of_a_later_python\n"),
        ("status.py", "def metrics(self) -> str:", "def metrics(self, more) -> str:"),
        ("timeline.py", "class TimeLine:", "class TimeLine(:"),
        (TABLE_FILE, "(?P<before>", "((?P<before>"),
        (TABLE_FILE, '"signatures": [', '"signatures": '),
    ],
    ids=["judge", "import", "metrics", "syntax", "pattern", "table"],
)
def test_a_broken_newer_program_is_refused_and_the_running_one_goes_on(
    serving: Manager, name: str, old: str, new: str
) -> None:
    before, digest = serving.judge_pid(), serving.status()["program"]
    with Callers(serving) as callers:
        serving.change(name, old, new)
        status = until(
            lambda: found if "is refused" in (found := serving.status()).get("trouble", "") else None,
            what="the refusal",
        )
    assert status is not None
    assert (status["program"], status["ready"], serving.judge_pid()) == (digest, True, before)
    assert (set(callers.codes), callers.refused, callers.cut) == ({200}, 0, 0)


def test_a_newer_program_takes_over_without_refusing_anybody(serving: Manager) -> None:
    before = serving.status()
    with Callers(serving) as callers:
        serving.change("judge.py", "makes progress, or completed its last prompt", "makes progress, says the newer one")
        status = until(
            lambda: found if (found := serving.status()).get("program") not in ("", before["program"]) else None,
            what="the newer program",
        )
        assert status is not None
        serving.wait(sentence="makes progress, says the newer one")
    assert (status["admitted"], status["trouble"]) == (True, "")
    assert (set(callers.codes), callers.refused, callers.cut) == ({200}, 0, 0)
    assert serving.status()["timeline"] == before["timeline"]
    assert [path.name for path in serving.manager.parent.iterdir()] == ["manager"]  # the check has written nothing
    metrics = serving.get("/metrics")[1]
    assert "vllm_gate_judge_updates_total 1\n" in metrics
    assert "vllm_gate_judge_restarts_total 0\n" in metrics


def test_a_newer_table_of_signatures_alone_takes_over(serving: Manager) -> None:
    before = serving.status()
    serving.change(TABLE_FILE, '"id": "NoKvCache"', '"id": "NoCacheAtAll"')
    status = until(
        lambda: found if (found := serving.status()).get("program") not in ("", before["program"]) else None,
        what="the newer table",
    )
    assert status is not None
    assert (status["admitted"], status["trouble"]) == (True, "")


def test_a_newer_program_takes_over_while_startup_waits(pod: Manager) -> None:
    pod.change("update.py", "WATCH_SECONDS = 10.0", "WATCH_SECONDS = 0.25")
    pod.environment["STUB_LOAD_SECONDS"] = "600"
    pod.run()
    before = pod.wait(verdict="starting", answered_by="judge")
    pod.change("judge.py", "RESTART_JITTER = 0.25", "RESTART_JITTER = 0.3")
    status = until(
        lambda: found if (found := pod.status()).get("program") not in (None, "", before["program"]) else None,
        what="the newer program",
    )
    assert status is not None
    assert (status["verdict"], status["trouble"]) == ("starting", "")


def test_the_heartbeat_goes_on_while_the_server_answers_nothing(pod: Manager) -> None:
    pod.options += ["--stall-window", "2"]
    pod.run().wait_admitted()
    judge = pod.judge_pid()
    pod.engine.faults(hang_server=True)
    status = pod.wait(ready=False)
    for _ in range(20):
        seen = pod.status()
        assert seen["answered_by"] == "judge"
        time.sleep(0.1)  # each look takes three seconds now
    assert status["cause"] in ("Silent", "ServerBusy")
    assert pod.judge_pid() == judge
    assert pod.status()["trouble"] == ""


def test_an_adapter_that_is_gone_is_loaded_again_and_costs_no_traffic(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    with managed(tmp_path / "pod", "--adapters", json.dumps({"poet": str(adapter)})) as pod:
        pod.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
        pod.flags = ["--enable-lora", "--lora-modules", f"poet={adapter}"]
        pod.run().wait_admitted()
        assert pod.engine.request("POST", "/v1/unload_lora_adapter", {"lora_name": "poet"}).status == 200
        with Callers(pod) as callers:
            until(lambda: "vllm_gate_adapter_loads_total 1\n" in pod.get("/metrics")[1], what="the adapter")
        assert set(callers.codes) == {200}
        assert pod.engine.complete(model="poet").status == 200


def test_an_adapter_that_cannot_be_loaded_costs_the_traffic_and_no_life(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = adapter / "adapter_config.json"
    config.write_text("{}", encoding="utf-8")
    with managed(tmp_path / "pod", "--adapters", json.dumps({"poet": str(adapter)}), "--stall-window", "1") as pod:
        pod.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
        pod.flags = ["--enable-lora", "--lora-modules", f"poet={adapter}"]
        pod.run().wait_admitted()
        config.unlink()
        adapter.rmdir()
        pod.engine.request("POST", "/v1/unload_lora_adapter", {"lora_name": "poet"})
        status = pod.wait(ready=False)
        assert (status["verdict"], status["cause"]) == ("withdrawn", "WrongModel")
        assert "cannot be loaded again" in status["trouble"]


def test_a_state_volume_that_takes_nothing_costs_the_time_line_of_the_next_life_alone(pod: Manager) -> None:
    (pod.state / f"{FILE}.new").mkdir()  # so the file can never be written anew
    status = pod.run().wait_admitted()
    assert "kept in memory alone" in status["trouble"]
    assert [entry["verdict"] for entry in status["timeline"]][-1] == "serving"


def test_without_a_state_folder_the_engine_is_admitted_all_the_same(pod: Manager) -> None:
    pod.state.rmdir()
    assert "kept in memory alone" in pod.run().wait_admitted()["trouble"]


def test_a_judge_that_is_stuck_in_a_look_is_replaced_and_costs_no_traffic(pod: Manager) -> None:
    flag = pod.folder / "stuck"
    pod.change("program.py", "STUCK_SECONDS = 60.0", "STUCK_SECONDS = 2.0")
    stuck = f"        while os.path.exists({str(flag)!r}): time.sleep(0.1)\n"
    pod.change("watch.py", "import sys\n", "import os\nimport sys\n")
    pod.change("watch.py", "        self._faults.clear()\n", f"        self._faults.clear()\n{stuck}")
    pod.constants = {"keeper.SILENT_SECONDS": 2, "keeper.HUNG_SECONDS": 4}
    pod.run().wait_admitted()
    before = pod.judge_pid()
    with Callers(pod) as callers:
        flag.touch()
        pod.wait(answered_by="stem")
        until(lambda: pod.judge_pid() not in (0, before), what="another judge")
        flag.unlink()
        pod.wait(answered_by="judge", ready=True)
    assert (set(callers.codes), callers.refused) == ({200}, 0)


NESTED = """
import json, sys, threading
threading.stack_size(int(sys.argv[1]))
def parse():
    for depth in (900, 9_000, 100_000):
        try:
            json.loads("[" * depth + "]" * depth)
        except RecursionError:
            continue
thread = threading.Thread(target=parse)
thread.start()
thread.join()
"""


def test_what_others_send_cannot_end_the_judge_by_its_nesting() -> None:
    done = subprocess.run([sys.executable, "-c", NESTED, str(program.STACK_BYTES)], check=False, timeout=60)
    assert done.returncode == 0


def test_a_judge_whose_stem_is_gone_ends_itself(serving: Manager) -> None:
    judge, stem = serving.judge_pid(), serving.running.pid
    words = Path(f"/proc/{stem}/task/{stem}/children").read_text(encoding="ascii").split()
    (engine,) = (int(word) for word in words if int(word) != judge)
    serving.running.kill()
    serving.running.wait(30)
    os.killpg(engine, signal.SIGKILL)  # nobody else ends it now

    def ended() -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(judge, 0)
            return False
        return True

    until(ended, what="the judge's end")


def test_an_engine_that_floods_its_log_costs_its_judge_a_fraction_of_a_core_and_no_verdict(serving: Manager) -> None:
    judge = serving.judge_pid()

    def cpu() -> float:
        with open(f"/proc/{judge}/stat", encoding="ascii") as stat:  # noqa: PTH123 # a file of the kernel's
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, began = cpu(), time.monotonic()
    line = "x" * 100_000 + "\n"
    with Callers(serving) as callers:
        while time.monotonic() - began < 5:
            serving.engine.faults(log=line * 50)
    used = (cpu() - before) / (time.monotonic() - began)
    assert serving.judge_pid() == judge
    assert set(callers.codes) == {200}
    assert used < 0.6
