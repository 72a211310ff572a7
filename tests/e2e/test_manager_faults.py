"""Faults of the manager itself and of what it stands on: none of them costs a sound engine its traffic or its life.

All engines are stubs in one namespace, applied together. The tests that replace the manager's program come last: the
operator, which would repair it, does not run meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.configs import PAUSE_IMAGE
from tests.cluster.processes import Process
from tests.e2e.matrix.acts import PATIENT
from tests.e2e.matrix.breaking import Part, processes_of
from tests.e2e.matrix.fleet import Fleet
from tests.support import models
from tests.support.api import Api
from tests.support.namespace import temporary
from tests.support.site import Site, scale_operator
from vllm_operator.api import names
from vllm_operator.api.spec.operations import DEFAULT_GATE_PORT
from vllm_operator.render.manager import STATE_FOLDER
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster import OwnCluster
    from tests.support.models import EngineChoice

pytestmark = pytest.mark.node

HOSTED_GATE, HOSTED_ENGINE = 18480, 18000
"""Ports of the model on the node's own network."""
RANDOM_USER = 1000680000
"""Such as OpenShift gives to a namespace; no user of the image."""
LOAD_SECONDS = 15
"""So long the engines that end load: what is told of their ends can be seen meanwhile."""
TOLD = {
    "zero": ("the engine ended with exit code 0, which nobody had asked for (1 restarts)",),
    "hung": ("ended by its manager: a canary does not complete",),
    "hungry": ("the kernel killed 1 of this container's processes for memory", "raise spec.resources.limits"),
}
"""What the status says of an engine that has ended."""
RESTART_SECONDS = 180.0
"""Of a container on a busy machine, with kubelet's first pause of 10 s."""
KILLING_SECONDS = 15
FLOOD_MEGABYTES, FLOOD_LINE = 100, "INFO the flood goes on and on".ljust(127, ".")
MEMORY, TOO_MUCH_MEGABYTES = "224Mi", 512
ASK = ("--pause", "0.2", *PATIENT)
SYNTAX_ERROR = "\ndef broken(:\n"
RAISES = '\n\ndef observe(*_: object) -> object:\n    raise RuntimeError("broken on purpose")\n'
"""Appended to judge.py: it can be imported, and fails at each look."""

KILL_JUDGES = """
import os, signal, sys, time
until = time.monotonic() + float(sys.argv[1])
killed = 0
while True:
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if b"\\0manager.program\\0" in file.read():
                    os.kill(int(name), signal.SIGKILL)
                    killed += 1
        except (FileNotFoundError, ProcessLookupError):
            pass
    if time.monotonic() >= until:
        break
    time.sleep(0.05)
print(killed)
"""
STORM = """
import os, signal, time
for _ in range(200):
    os.kill(1, signal.SIGTERM)
    time.sleep(0.01)
"""
FILL = f"""
import os
number = os.open("{STATE_FOLDER}/fill", os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(number, bytes(4096))
except OSError as error:
    print(error.strerror)
"""
LISTEN = """
import socket, sys
listener = socket.create_server(("", int(sys.argv[1])))
print("listens", flush=True)
sys.stdin.read()
"""
GET = """
import sys, urllib.request
sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=5).read())
"""


def env(**variables: object) -> dict[str, Any]:
    """Environment of an engine."""
    return {"env": [{"name": name, "value": str(value)} for name, value in variables.items()]}


def fleet_models(stub: EngineChoice) -> list[dict[str, Any]]:
    """The engines: one model for each circumstance."""
    loading = env(STUB_LOAD_SECONDS=LOAD_SECONDS)
    soon = {"restartWindowSeconds": 10}
    network: dict[str, Any] = {"pod": {"patch": {"spec": {"hostNetwork": True}}}, "gates": {"port": HOSTED_GATE}}
    return [
        models.model("fleet", stub, replicas=2, engine=env(GATE_STAGGER_SECONDS=0)),
        models.model("leaving", stub),
        models.model("readonly", stub, pod={"containerSecurityContext": {"readOnlyRootFilesystem": True}}),
        models.model("random", stub, pod={"securityContext": {"runAsUser": RANDOM_USER}}),
        models.model("nopython", stub, engine={"image": PAUSE_IMAGE}),
        models.model("hosted", stub, engine={"port": HOSTED_ENGINE}, **network),
        models.model(
            "shared", stub, engine=env(STUB_LOAD_SECONDS=4), pod={"patch": {"spec": {"shareProcessNamespace": True}}}
        ),
        models.model("zero", stub, engine=loading),
        models.model("hung", stub, engine=loading, gates=soon),
        models.model("hungry", stub, engine=loading, resources={"limits": {"memory": MEMORY}}),
    ]


class Engines:
    """The models of this file, and what is asked of their pods."""

    def __init__(self, site: Site, api: Api) -> None:
        self.site = site
        self._api = api
        self._fleets: dict[str, Fleet] = {}

    def __getitem__(self, name: str) -> Fleet:
        """A model's engines, which have been admitted."""
        if name not in self._fleets:
            self.site.wait_ready(name, 150)
            fleet = Fleet(self.site, self._api, name, name)
            self._fleets[name] = fleet
            fleet.wait_serving(len(fleet.pods()))
        return self._fleets[name]

    def close(self) -> None:
        """Watch no more."""
        for fleet in self._fleets.values():
            fleet.diary.close()

    def pod(self, name: str) -> str:
        """The pod of a model that has one."""
        (pod,) = self.site.pods(name)
        found: str = pod["metadata"]["name"]
        return found

    def container(self, pod: str) -> dict[str, Any]:
        """What kubelet says of the engine's container."""
        statuses = self.site.get("pod", pod)["status"].get("containerStatuses", [])
        return next((status for status in statuses if status["name"] == CONTAINER_NAME), {})

    def fetch(self, pod: str, path: str, port: int) -> str:
        """What a port of a pod answers."""
        address = self.site.get("pod", pod)["status"]["podIP"]
        done = self.site.cluster.run_inside([sys.executable, "-S", "-c", GET, f"http://{address}:{port}{path}"])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self, pod: str, port: int = DEFAULT_GATE_PORT) -> dict[str, Any]:
        """The manager's /status."""
        found: dict[str, Any] = json.loads(self.fetch(pod, "/status", port))
        return found

    def run(self, pod: str, program: str, *words: str) -> str:
        """Run a Python program in the engine's container; what it prints."""
        return self.site.kubectl("exec", pod, "-c", CONTAINER_NAME, "--", "python3", "-S", "-E", "-c", program, *words)

    def telling(self, name: str, *texts: str) -> str:
        """The message of a model's status, if it holds these texts."""
        found = str(self.site.condition("Ready", name).get("message", ""))
        return found if all(text in found for text in texts) else ""

    def told(self, name: str, *texts: str) -> str:
        """The message of a model's status, once it holds these texts."""
        return self.site.until(f"{texts} in the status of {name}", lambda: self.telling(name, *texts), RESTART_SECONDS)

    def wait_restarts(self, pod: str, count: int) -> dict[str, Any]:
        """How the engine's container has ended, once it was started anew so often."""

        def terminated() -> dict[str, Any]:
            found = self.container(pod)
            ended: dict[str, Any] = found.get("lastState", {}).get("terminated", {})
            return ended if found.get("restartCount", 0) >= count and "running" in found["state"] else {}

        return self.site.until(f"restart {count} of {pod}", terminated, RESTART_SECONDS)


@pytest.fixture(scope="module")
def taken_port(operated: OwnCluster) -> Iterator[Callable[[], None]]:
    """A process of the node listens where a manager is going to; the function ends it."""
    command = operated.inside([sys.executable, "-S", "-c", LISTEN, str(HOSTED_GATE)])
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "listens\n"

    def end() -> None:
        process.communicate()

    yield end
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        pipe.close()


@pytest.fixture(scope="module")
def engines(operated: OwnCluster, stub: EngineChoice, taken_port: Callable[[], None]) -> Iterator[Engines]:  # noqa: ARG001 # it is taken before the pod comes
    """All of them, on their way."""
    with (
        temporary(Site, operated, f"faults-{os.getpid()}") as site,
        contextlib.closing(Api(operated.kubeconfig)) as api,
    ):
        site.apply(*fleet_models(stub))
        with contextlib.closing(Engines(site, api)) as found:
            yield found


@dataclass(frozen=True)
class Ends:
    """Engines that have ended: their pods, and what the status of each model has said of it, empty if it has not."""

    pods: dict[str, str]
    told: dict[str, str]


@pytest.fixture(scope="module")
def ends(engines: Engines) -> Ends:
    """Three engines that end at about the same time: by themselves, hung, and for want of memory.

    Their statuses are watched together until each has told its end: it is told no longer once the next life serves.
    """
    found = Ends({name: engines.pod(name) for name in TOLD}, dict.fromkeys(TOLD, ""))
    for name in TOLD:
        engines[name].wait_serving(1)
    site = engines.site
    site.faults(found.pods["hung"], hang_engine=True)
    site.faults(found.pods["hungry"], allocate=TOO_MUCH_MEGABYTES)
    with contextlib.suppress(AssertionError):  # it ends before it answers
        site.faults(found.pods["zero"], exit=0)

    def all_told() -> bool:
        for name, texts in TOLD.items():
            found.told[name] = found.told[name] or engines.telling(name, *texts)
        return all(found.told.values())

    with contextlib.suppress(AssertionError):  # the test of that engine says so
        site.until("all ends in the statuses", all_told, RESTART_SECONDS)
    return found


@contextlib.contextmanager
def unharmed(fleet: Fleet) -> Iterator[None]:
    """Meanwhile nobody is withdrawn or restarted, and every request is answered."""
    since = time.monotonic()
    with fleet.client(*ASK) as client:
        yield
        requests = client.requests()
    assert requests
    assert [request.trouble for request in requests if request.trouble] == []
    assert fleet.diary.withdrawals(since) == 0, fleet.diary.since(since)
    assert fleet.diary.restarts(since) == 0


# ---------------------------------------------------------------------------------------------- where it has to run


def test_an_image_without_python_is_told_with_the_way_out(engines: Engines) -> None:
    engines.told("nopython", "there is no python3", "the engine's manager needs python3 (3.9 or newer)")
    assert engines.site.condition("Ready", "nopython")["reason"] == "GateCannotRun"


def test_a_gate_port_that_the_node_has_given_away_is_told_and_the_engine_serves_once_it_is_free(
    engines: Engines, taken_port: Callable[[], None]
) -> None:
    engines.told("hosted", f"port {HOSTED_GATE} of the gate is taken", "choose another one by spec.gates.port")
    taken_port()
    engines.site.wait_ready("hosted", RESTART_SECONDS)
    engines.site.wait_endpoints("hosted", 1)


def test_engines_serve_on_a_read_only_root_and_under_a_random_user(engines: Engines) -> None:
    fleets = [engines[name] for name in ("readonly", "random")]
    user = engines.run(engines.pod("random"), "import os; print(os.getuid())")
    assert int(user) == RANDOM_USER
    with pytest.raises(Exception, match="Read-only file system"):
        engines.run(engines.pod("readonly"), "open('/file', 'w')")
    for fleet in fleets:
        with unharmed(fleet):
            status = engines.status(engines.pod(fleet.name))
        assert (status["answered_by"], status["ready"], status["trouble"]) == ("judge", True, "")


def test_a_full_state_volume_costs_no_traffic_and_no_second_life(engines: Engines) -> None:
    fleet, pod = engines["readonly"], engines.pod("readonly")
    with unharmed(fleet):
        assert engines.run(pod, FILL) == "No space left on device\n"
        engines.run(pod, KILL_JUDGES, "0")
        engines.site.until("a new judge", lambda: engines.status(pod)["answered_by"] == "judge")
    since = time.monotonic()
    with contextlib.suppress(AssertionError):  # it ends before it answers
        engines.site.faults(pod, exit=1)
    fleet.wait_restarted(pod, since)
    assert "the time line is kept in memory alone: No space left on device" in engines.status(pod)["trouble"]


# ------------------------------------------------------------------------------------------------ what it has to bear


def test_a_judge_that_is_killed_again_and_again_costs_no_traffic_and_no_answer(engines: Engines) -> None:
    fleet = engines["fleet"]
    pod = fleet.pods()[0]["metadata"]["name"]
    with unharmed(fleet), ThreadPoolExecutor() as beside:
        killed = beside.submit(engines.run, pod, KILL_JUDGES, str(KILLING_SECONDS))
        engines.site.until("the stem", lambda: is_answered_for(engines.status(pod)))
        assert int(killed.result()) > 3
        engines.site.until("a judge", lambda: engines.status(pod)["answered_by"] == "judge")
    assert engines.status(pod)["ready"]


def is_answered_for(status: dict[str, Any]) -> bool:
    """Whether the stem answers in the place of a judge that was killed, as that one would have."""
    answer = (status["verdict"], status["ready"], status["answered_by"])
    return answer == ("serving", True, "stem") and "the judge was ended by SIGKILL" in status["trouble"]


def test_100_megabytes_of_log_at_once_cost_no_traffic_and_reach_the_containers_log(engines: Engines) -> None:
    fleet = engines["fleet"]
    pod = fleet.pods()[1]["metadata"]["name"]
    site = engines.site
    with unharmed(fleet):
        site.faults(pod, flood=FLOOD_MEGABYTES)
        log = site.until("the end of the flood", lambda: log_after_the_flood(site, pod), 120)
        assert {line for line in log if line.startswith("INFO the flood")} == {FLOOD_LINE}, "every line is whole"
        time.sleep(3)  # in which the judge, who has read less than all of it, could be wrong


def log_after_the_flood(site: Site, pod: str) -> list[str]:
    """The last lines of the container's log; none before the flood is over."""
    lines = site.kubectl("logs", pod, "--tail", "2000").splitlines()
    return lines if "the flood is over" in lines else []


def test_a_storm_of_sigterm_ends_no_request_that_is_under_way(engines: Engines) -> None:
    fleet, pod = engines["leaving"], engines.pod("leaving")
    engines.site.faults(pod, step_seconds=0.2)
    load = ("--seconds", "1", "--prompt-words", "60", "--tokens", "50", "--deadline", "60", "--pause", "2")
    with fleet.client(*load) as client:
        engines.site.until("a request", lambda: engines.status(pod)["in_flight"])
        since = time.monotonic()
        engines.run(pod, STORM)
        (request,) = client.all_requests()
    assert request.trouble == ""
    assert request.ended > since + 3, "it was under way for long after the storm had begun"
    ended = engines.wait_restarts(pod, 1)
    assert (ended["exitCode"], ended["message"].splitlines()[0]) == (
        0,
        "the end was asked for, and the engine ended with exit code 0",
    )
    fleet.wait_restarted(pod, since)


def test_engines_that_are_killed_twice_where_the_pod_shares_its_processes_leave_nothing_and_prove_themselves_anew(
    engines: Engines,
) -> None:
    site, fleet, pod = engines.site, engines["shared"], engines.pod("shared")
    for life in (1, 2):
        since = time.monotonic()
        (core,) = processes_of(site.get("pod", pod), Part.CORE)
        with contextlib.ExitStack() as stack:
            # A core of vLLM outlives its API server, and keeps the GPUs; one that is stopped cannot end by itself.
            stack.enter_context(stopped_for_good(core))
            parent_of(core).kill()
            assert core.wait(RESTART_SECONDS), "the core of an earlier life is still there"
        engines.wait_restarts(pod, life)
        site.until("a life that is not admitted", lambda: not engines.container(pod)["started"], 5)
        fleet.wait_restarted(pod, since)
        assert 'vllm:request_success_total{engine="0",finished_reason="length"' in engines.fetch(pod, "/metrics", 8000)
        assert engines.status(pod)["admitted"]


@contextlib.contextmanager
def stopped_for_good(process: Process) -> Iterator[None]:
    """A process that is stopped, and ended after the block if it is still there."""
    process.kill(signal.SIGSTOP)
    yield
    process.kill()


def parent_of(process: Process) -> Process:
    """The process that has started it."""
    text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    (pid,) = [int(line.split()[1]) for line in text.splitlines() if line.startswith("PPid:")]
    found = Process.of(pid)
    assert found is not None
    return found


# ------------------------------------------------------------------------------------------------------------ the ends


def test_an_engine_that_ends_by_itself_with_0_has_crashed(engines: Engines, ends: Ends) -> None:
    ended = engines.wait_restarts(ends.pods["zero"], 1)
    assert (ended["exitCode"], ended["reason"]) == (1, "Error")
    assert ended["message"].splitlines()[0] == "the engine ended with exit code 0, which nobody had asked for"
    assert ends.told["zero"]
    assert "200 OK" not in ends.told["zero"], "an answered request is no cause"


def test_an_engine_that_the_kernel_has_killed_for_memory_is_told_as_that(engines: Engines, ends: Ends) -> None:
    ended = engines.wait_restarts(ends.pods["hungry"], 1)
    assert ended["exitCode"] == 1
    first = ended["message"].splitlines()[0]
    assert first.startswith(
        "the kernel killed 1 of this container's processes for memory (cgroup oom_kill): the engine"
    )
    assert ends.told["hungry"]


def test_a_hung_engine_is_ended_by_its_manager_with_its_reason(engines: Engines, ends: Ends) -> None:
    ended = engines.wait_restarts(ends.pods["hung"], 1)
    assert (ended["exitCode"], ended["reason"]) == (1, "Error")
    assert ended["message"].splitlines()[0] == "a canary does not complete"
    assert ends.told["hung"]


# --------------------------------------------------------------------------------------------------------- its program


class Program:
    """The manager's program in the namespace's ConfigMap, while no operator repairs it."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._site = engines.site
        self._number = 0
        data = self._site.get("configmap", names.MANAGER_CONFIG_MAP)["data"]
        self.sources: dict[str, str] = {name: data[name] for name in ("judge.py", "policies.py")}
        (self.digest,) = {engines.status(pod["metadata"]["name"])["program"] for pod in engines["fleet"].pods()}

    def write(self, **appended: str) -> None:
        """Have the program as it was, but for what is appended to some of its files."""
        data = {name: text + appended.get(name.removesuffix(".py"), "") for name, text in self.sources.items()}
        patch = json.dumps({"data": data})
        self._site.kubectl("patch", "configmap", names.MANAGER_CONFIG_MAP, "--type", "merge", "--patch", patch)
        # A change of the pod has kubelet look after its volumes at once.
        self._number += 1
        self._site.kubectl("annotate", "pods", "--all", "--overwrite", f"example.com/program={self._number}")

    def wait(self, what: str, look: Callable[[dict[str, Any]], object]) -> None:
        """Until the /status of each engine of the fleet shows it."""
        fleet = self._engines["fleet"]
        for pod in fleet.pods():
            name = pod["metadata"]["name"]
            self._site.until(f"{what} of {name}", functools.partial(self._seen, look, name), 180)

    def _seen(self, look: Callable[[dict[str, Any]], object], pod: str) -> bool:
        return bool(look(self._engines.status(pod)))

    def is_sound(self, status: dict[str, Any]) -> bool:
        """Whether a judge of the program as it was comes to verdicts, and knows of no other one."""
        runs = (status["program"], status["cause"]) == (self.digest, "Progress")
        return runs and "is refused" not in status["trouble"]

    def kill_judges(self) -> None:
        """End the judges of the fleet; the next ones come from the program that is there now."""
        for pod in self._engines["fleet"].pods():
            self._engines.run(pod["metadata"]["name"], KILL_JUDGES, "0")


@pytest.fixture(scope="module")
def unrepaired(engines: Engines) -> Iterator[Program]:
    """The program of the namespace; the operator is back after the tests."""
    engines["fleet"].wait_serving(2)
    scale_operator(engines.site.cluster, 0)
    yield Program(engines)
    scale_operator(engines.site.cluster, 2)


@pytest.fixture
def program(unrepaired: Program) -> Iterator[Program]:
    """The program, which every judge of the fleet runs as it was before and after each test.

    A judge gives way to what its check has passed. One that starts while the next program is being written has nobody
    who could check that one for it.
    """
    yield unrepaired
    unrepaired.write()
    unrepaired.wait("the program as it was", unrepaired.is_sound)


def test_running_engines_get_a_newer_program_without_leaving_the_endpoints(engines: Engines, program: Program) -> None:
    fleet = engines["fleet"]
    with unharmed(fleet):
        program.write(policies="# Newer by this line.\n")
        program.wait("a newer program", lambda status: status["program"] != program.digest and status["ready"])
    for pod in fleet.pods():
        status = engines.status(pod["metadata"]["name"])
        assert status["trouble"] == "", "the judges that were killed are long overcome"


def test_a_program_with_a_syntax_error_is_refused_and_even_without_a_judge_nobody_leaves(
    engines: Engines, program: Program
) -> None:
    with unharmed(engines["fleet"]):
        program.write(policies=SYNTAX_ERROR)
        program.wait("the refusal", lambda status: "is refused: SyntaxError" in status["trouble"])
        program.kill_judges()
        program.wait("the stem", lambda status: status["answered_by"] == "stem" and "SyntaxError" in status["trouble"])
        program.wait("readiness", lambda status: status["ready"])
        time.sleep(5)  # kubelet's probes meet stems alone
        program.write()
        program.wait("a judge", lambda status: status["answered_by"] == "judge" and status["ready"])
        program.wait("no refusal", lambda status: "is refused" not in status["trouble"])


def test_a_program_that_fails_at_each_look_is_refused_and_costs_nobody_its_traffic_where_it_runs(
    engines: Engines, program: Program
) -> None:
    with unharmed(engines["fleet"]):
        program.write(judge=RAISES)
        program.wait("the refusal", lambda status: "is refused: judge: RuntimeError" in status["trouble"])
        program.kill_judges()

        def fails(status: dict[str, Any]) -> bool:
            return bool(status["answered_by"] == "judge" and "broken on purpose" in status["trouble"])

        program.wait("a judge that fails", fails)
        program.wait("readiness", lambda status: status["ready"])
        time.sleep(5)  # so many looks fail
        program.write()
        program.wait("the right program", lambda status: "broken on purpose" not in status["trouble"])
        program.wait("a verdict", lambda status: status["cause"] == "Progress")
