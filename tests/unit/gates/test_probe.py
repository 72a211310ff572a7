"""The gate program against the stub engine: what it sees, what it says, and what it remembers.

Windows are crossed by making the remembered times older, not by waiting.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.servers import EngineServer, free_port, stub_server
from tests.support.waiting import until
from vllm_operator.gates import engine, judge, looks, memory, probe, processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

KEY = "sesame"
NAME = "tiny"
ONE_RANK = b"""\
vllm:iteration_tokens_total_count{engine="0"} 1
vllm:num_requests_running{engine="0"} 2
vllm:num_requests_waiting{engine="0"} 3
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 3
"""
DEFERRED = b"""\
vllm:num_requests_waiting_by_reason{engine="0",reason="deferred"} 2
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    """A stub with a key, for all tests of this file."""
    flags = ("--served-model-name", NAME, "alias", "--data-parallel-size", "2")
    env = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_SERVER_DEV_MODE": "1"}
    with stub_server(*flags, "--enable-lora", folder=tmp_path_factory.mktemp("stub"), env=env, api_key=KEY) as running:
        yield running


def idle(server: EngineServer) -> bool:
    """Whether no request is in flight; a step makes a core drop what its client has left."""
    server.complete()
    return server.metric("num_requests_running") + server.metric("num_requests_waiting") == 0


@pytest.fixture(autouse=True)
def _sound(server: EngineServer) -> Iterator[None]:
    """Every test starts and ends with an engine that nothing is wrong with."""
    yield
    server.request("DELETE", "/stub/faults")
    server.request("POST", "/wake_up")
    until(lambda: idle(server), what="an idle engine")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The container has the server's key."""
    monkeypatch.setenv("VLLM_API_KEY", KEY)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run looks by itself, and waits for no end of a window, but where a test is about that."""
    monkeypatch.setattr(judge, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(looks, "PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(judge, "STARTUP_SECONDS", 0.0)


@pytest.fixture
def development(monkeypatch: pytest.MonkeyPatch) -> None:
    """The container's environment puts the server into its development mode."""
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that are never answered are given up soon."""
    monkeypatch.setattr(engine, "METRICS_SECONDS", 0.3)
    monkeypatch.setattr(engine, "HEALTH_SECONDS", 0.3)
    for name in ("METRICS_SECONDS", "ADMISSION_SECONDS", "GLANCE_SECONDS"):
        monkeypatch.setattr(looks, name, 0.3)
    monkeypatch.setattr(judge, "CANARY_SECONDS", 0.3)


class Pod:
    """Runs the program as kubelet would, and reads what it prints and remembers."""

    def __init__(self, port: int, folder: Path, capture: pytest.CaptureFixture[str], *more: str) -> None:
        self.port = port
        self.folder = folder
        self.capture = capture
        self.more = more

    def run(self, mode: str, *, model: str = NAME) -> tuple[bool, str]:
        """Whether a probe passes, and its sentence."""
        code = probe.main([mode, "--port", str(self.port), "--model", model, "--state", str(self.folder), *self.more])
        assert code in (0, 1)
        sentence = self.capture.readouterr().out
        assert sentence.endswith("\n")
        assert sentence.count("\n") == 1
        return code == 0, sentence.rstrip("\n")

    def state(self) -> dict[str, Any]:
        """What it remembers."""
        found: dict[str, Any] = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        return found

    def grow_older(self, seconds: float) -> None:
        """Have everything that it remembers happened earlier."""
        state = self.state()
        state["stalled_since"] = {rank: since - seconds for rank, since in state["stalled_since"].items()}
        for name in judge.MOMENTS:
            seconds_here = min(seconds, 10) if name == "looked_at" else seconds  # longer would count as a pause
            state[name] = None if state[name] is None else state[name] - seconds_here
        (self.folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


@pytest.fixture
def pod(server: EngineServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Pod:
    """A pod that has not been admitted yet."""
    return Pod(server.port, tmp_path, capsys)


@pytest.fixture
def admitted(pod: Pod) -> Pod:
    """A pod whose engine has completed its first prompt."""
    assert pod.run("startup") == (True, "completed its first prompt")
    return pod


def asked(server: EngineServer, **prompt: object) -> socket.socket:
    """The connection of a request that has been sent, and whose answer nobody reads."""
    body = json.dumps(prompt).encode()
    lines = ["POST /v1/completions HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection


@contextlib.contextmanager
def work(server: EngineServer, requests: int = 2) -> Iterator[None]:
    """Requests in flight that nobody waits for; each rank gets one."""
    with contextlib.ExitStack() as connections:
        for _ in range(requests):
            connections.enter_context(asked(server, prompt="a", max_tokens=100000, ignore_eos=True))
        until(lambda: server.metric("num_requests_running") == requests, what="work for every rank")
        yield


@contextlib.contextmanager
def put_off(server: EngineServer) -> Iterator[None]:
    """A request in flight whose grammar is compiled for a minute."""
    server.faults(grammar_seconds=60.0)
    with asked(server, prompt="a", max_tokens=1, response_format={"type": "json_object"}):
        until(lambda: deferred(server) == (1, 1), what="a deferred request")
        yield


def deferred(server: EngineServer) -> tuple[float, float]:
    """Requests that wait, and those of them that the scheduler has put off."""
    return (
        server.metric("num_requests_waiting"),
        server.metric("num_requests_waiting_by_reason", reason="deferred"),
    )


def stepped(pod: Pod, server: EngineServer) -> bool:
    """Whether every rank has made a step since the last look: a fast machine may look twice between two steps."""
    marks = pod.state()["marks"]
    ranks = engine.read_ranks(server.request("GET", "/metrics").body)
    return all(rank.marks != marks.get(name) for name, rank in ranks.items())


# --- admission


@pytest.mark.parametrize("mode", ["startup", "ready"])
def test_an_engine_is_admitted_by_completing_a_prompt(pod: Pod, server: EngineServer, mode: str) -> None:
    before = server.metric("request_success_total")
    assert pod.run(mode) == (True, "completed its first prompt")
    assert server.metric("request_success_total") == before + 1
    assert pod.state()["admitted"] is True


def test_an_engine_that_loads_is_not_admitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    passes, sentence = Pod(port, tmp_path, capsys).run("startup")
    assert (passes, sentence) == (False, f"nothing listens on port {port} yet: the model is still loading")


def test_a_wrong_name_is_told_with_the_names_that_are_served(pod: Pod) -> None:
    assert pod.run("startup", model="other") == (False, "serves tiny, alias, not other")


def test_an_alias_is_a_name_too(pod: Pod) -> None:
    assert pod.run("startup", model="alias")[0]


@pytest.mark.parametrize("key", ["wrong", None])
def test_a_wrong_or_missing_key_is_told_as_such(pod: Pod, monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    if key is None:
        monkeypatch.delenv("VLLM_API_KEY")
    else:
        monkeypatch.setenv("VLLM_API_KEY", key)
    passes, sentence = pod.run("startup")
    assert not passes
    assert sentence.startswith("/v1/models: 401 Unauthorized: VLLM_API_KEY of this container")


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ({"fail": {"status": 500, "message": "no chat template", "path": "/v1/completions"}}, "HTTP 500: "),
        ({"fail": {"status": 500, "message": "no chat template", "path": "/v1/completions"}}, "no chat template"),
        ({"fail": {"status": 400, "message": "bad", "path": "/v1/completions"}}, "/v1/completions: HTTP 400: "),
        ({"answer": ""}, "a completion came back empty"),
        ({"hang_engine": True}, "/v1/completions does not answer within"),
        ({"hang_server": True}, "/v1/models does not answer within"),
        ({"served_names": ["renamed"]}, "serves renamed, not tiny"),
        ({"fail": {"status": 200, "body": "not what vLLM says"}}, "/v1/completions does not answer as vLLM does: "),
        ({"fail": {"status": 200, "body": {"choices": []}}}, "a completion came back empty"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("hasty")
def test_an_engine_that_does_not_complete_is_not_admitted_and_its_cause_is_told(
    pod: Pod, server: EngineServer, faults: dict[str, Any], told: str
) -> None:
    server.faults(**faults)
    for mode in ("startup", "ready"):
        passes, sentence = pod.run(mode)
        assert not passes
        assert told in sentence
    assert not (pod.folder / "state.json").exists()


def test_a_long_error_is_cut(pod: Pod, server: EngineServer) -> None:
    server.faults(fail={"status": 500, "message": "x" * 5000})
    assert len(pod.run("startup")[1]) < 300


class Starting:
    """An engine that says one thing after another, in a time that passes at once."""

    adapters: tuple[str, ...] = ()

    def __init__(self, *causes: str) -> None:
        self.causes = list(causes)
        self.time = 0.0

    def now(self) -> float:
        """Seconds."""
        return self.time

    def sleep(self, seconds: float) -> None:
        """Let them pass."""
        self.time += seconds

    def check_names(self, timeout: float) -> None:  # noqa: ARG002 # what is asked says it
        """Whatever comes next."""
        cause = self.causes.pop(0) if len(self.causes) > 1 else self.causes[0]
        if cause:
            raise engine.ProbeError(cause, cause)

    def complete(self, timeout: float, ranks: Sequence[str | None] = (None,)) -> None:  # what is asked says it
        """It does."""

    def ranks(self, timeout: float) -> dict[str, judge.Rank]:  # noqa: ARG002 # as above
        """None."""
        return {}

    def health(self) -> None:
        """Good."""

    def paused(self) -> bool | None:
        """Unknown."""

    def callers(self) -> int | None:
        """Unknown."""


def patiently_admitted(monkeypatch: pytest.MonkeyPatch, *causes: str) -> tuple[judge.Verdict, float]:
    """What a startup probe with all its patience comes to, and after which time."""
    monkeypatch.setattr(judge, "STARTUP_SECONDS", 25.0)
    starting = Starting(*causes)
    return looks.awaited(starting, starting), starting.time


def test_a_startup_probe_waits_for_an_engine_that_comes_up_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict, seconds = patiently_admitted(monkeypatch, "Loading", "Loading", "Failing", "")
    assert (verdict.kind, seconds) == (judge.ADMITTED, 5.0)


@pytest.mark.parametrize("cause", ["Loading", "WrongModel"])
def test_a_startup_probe_fails_with_what_it_was_told_last(monkeypatch: pytest.MonkeyPatch, cause: str) -> None:
    verdict, seconds = patiently_admitted(monkeypatch, "Failing", cause)
    assert (verdict.kind, verdict.cause) == (judge.STARTING, cause)
    assert 20 < seconds <= 25


@pytest.mark.usefixtures("hasty")
def test_a_saturated_engine_passes_the_startup_probe_of_a_kubelet_that_was_restarted(
    admitted: Pod, server: EngineServer
) -> None:
    with work(server):
        server.faults(fail={"status": 503, "message": "full"})
        assert admitted.run("startup") == (True, "has completed a prompt since its start")
        assert admitted.run("ready")[0]


# --- after admission


@pytest.mark.parametrize("mode", ["ready", "live"])
def test_a_sound_engine_passes_again_and_again(admitted: Pod, mode: str) -> None:
    for _ in range(3):
        admitted.grow_older(judge.CANARY_INTERVAL_SECONDS)
        assert admitted.run(mode) == (True, "makes progress, or completed its last prompt")


def test_a_working_engine_is_not_sent_canaries(admitted: Pod, server: EngineServer) -> None:
    admitted.run("ready")
    with work(server):
        before = server.metric("request_success_total")
        for _ in range(3):
            admitted.grow_older(100)
            until(lambda: stepped(admitted, server), what="a step of every rank")
            assert admitted.run("ready")[0]
        assert server.metric("request_success_total") == before


def test_a_core_that_hangs_at_work_loses_its_traffic_and_later_its_life(admitted: Pod, server: EngineServer) -> None:
    with work(server):
        server.faults(hang_engine=True)
        assert all(admitted.run("ready")[0] for _ in range(2))
        admitted.grow_older(judge.STALL_WINDOW_SECONDS)
        passes, sentence = admitted.run("ready")
        assert not passes
        assert sentence.startswith("no progress for ")
        assert "requests in flight (engine" in sentence
        assert admitted.run("live")[0]
        admitted.grow_older(judge.spread(judge.RESTART_WINDOW_SECONDS, os.uname().nodename))
        assert not admitted.run("live")[0]
        server.faults(hang_engine=False)
        until(lambda: admitted.run("live")[0], what="life")
        until(lambda: admitted.run("ready")[0], what="traffic")


@pytest.mark.usefixtures("hasty")
def test_a_rank_that_hangs_while_it_is_idle_is_asked_by_itself(admitted: Pod, server: EngineServer) -> None:
    admitted.run("ready")
    server.faults(hang_engine=[1])
    for _ in range(4):  # in turns, every other one would come to the rank that works
        admitted.grow_older(judge.CANARY_INTERVAL_SECONDS)
        admitted.run("live")
        assert admitted.state()["canary_outcome"] == judge.SILENT
    assert not admitted.run("ready")[0]
    server.faults(hang_engine=False)
    assert admitted.run("ready")[0]


def test_one_hung_rank_of_two_loses_the_traffic(admitted: Pod, server: EngineServer) -> None:
    with work(server):
        server.faults(hang_engine=[1])
        assert all(admitted.run("ready")[0] for _ in range(2))
        admitted.grow_older(judge.STALL_WINDOW_SECONDS)
        passes, sentence = admitted.run("ready")
        assert not passes
        assert sentence.endswith("(engine 1)")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("fault", "told"), [("hang_engine", "/v1/completions does not answer within"), ("hang_server", "no answer for ")]
)
def test_an_idle_engine_that_hangs_is_found(admitted: Pod, server: EngineServer, fault: str, told: str) -> None:
    admitted.run("ready")
    server.faults(**{fault: True})
    admitted.grow_older(judge.CANARY_INTERVAL_SECONDS)
    assert admitted.run("ready")[0]
    admitted.grow_older(judge.STALL_WINDOW_SECONDS)
    passes, sentence = admitted.run("ready")
    assert not passes
    assert told in sentence
    assert admitted.run("live")[0]
    admitted.grow_older(judge.spread(judge.RESTART_WINDOW_SECONDS, os.uname().nodename))
    assert not admitted.run("live")[0]
    server.faults(**{fault: False})
    until(lambda: admitted.run("ready")[0], what="traffic")


@pytest.mark.parametrize(
    "faults",
    [{"metrics_seconds": 60.0}, {"metrics_status": 500}, {"metrics_prefix": "vllm2:"}],
    ids=["slow", "failing", "renamed"],
)
def test_metrics_that_tell_nothing_evict_nobody(
    admitted: Pod, server: EngineServer, faults: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "METRICS_SECONDS", 1.0)
    server.faults(**faults)
    for _ in range(2 if "metrics_seconds" not in faults else 1):
        admitted.grow_older(1000)
        for mode in ("ready", "live"):
            assert admitted.run(mode) == (True, "makes progress, or completed its last prompt")


def test_a_failing_engine_is_told_by_its_error(admitted: Pod, server: EngineServer) -> None:
    admitted.run("ready")
    server.faults(fail={"status": 500, "message": "EngineDeadError"})
    admitted.grow_older(judge.CANARY_INTERVAL_SECONDS)
    admitted.run("ready")
    admitted.grow_older(judge.STALL_WINDOW_SECONDS)
    passes, sentence = admitted.run("ready")
    assert not passes
    assert "EngineDeadError" in sentence


def test_an_engine_core_that_dies_costs_the_traffic_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stub_server("--served-model-name", NAME, folder=tmp_path, api_key=KEY) as server:
        pod = Pod(server.port, tmp_path, capsys)
        pod.run("startup")
        pod.run("ready")
        server.request("POST", "/stub/faults", {"kill_engine": True})
        passes, sentence = pod.run("ready")
        assert not passes
        assert sentence.startswith("the engine is dead: /v1/completions: HTTP 500")
        assert pod.run("live")[0]
        until(lambda: pod.run("ready")[1].startswith("nothing listens on port"), what="the end of the server")
        assert not pod.run("ready")[0]


def test_a_server_that_says_503_and_completes_prompts_is_believed_the_prompts(
    admitted: Pod, server: EngineServer
) -> None:
    admitted.run("ready")
    server.faults(health_status=503)
    assert admitted.run("ready")[0]


@pytest.mark.usefixtures("hasty")
def test_a_queue_that_cannot_be_seen_evicts_nobody(admitted: Pod, server: EngineServer) -> None:
    admitted.run("ready")
    with work(server):
        server.faults(metrics_status=500, hang_engine=True)
        for _ in range(5):
            admitted.grow_older(10)
            assert [admitted.run(mode)[0] for mode in ("ready", "live")] == [True, True]


@pytest.mark.usefixtures("hasty")
def test_a_readiness_probe_waits_for_a_window_that_ends_soon(
    admitted: Pod, server: EngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "PATIENCE_SECONDS", 4.0)
    began, waits = time.monotonic(), [0.0]
    monkeypatch.setattr(probe.Clock, "now", lambda _: began + sum(waits))
    monkeypatch.setattr(probe.Clock, "sleep", lambda _, seconds: waits.append(seconds + 0.01))
    admitted.run("ready")
    server.faults(hang_engine=True)
    admitted.grow_older(judge.CANARY_INTERVAL_SECONDS)
    assert admitted.run("live")[0]
    assert sum(waits) == 0
    admitted.grow_older(judge.STALL_WINDOW_SECONDS - 3)
    assert not admitted.run("ready")[0]
    assert 0 < sum(waits) < 3


def test_a_run_that_cannot_look_takes_the_word_of_the_one_that_does(
    admitted: Pod, server: EngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LOCK_SECONDS", 0.1)
    server.faults(fail={"status": 500})
    with open(admitted.folder / "state.json.lock", "w", encoding="ascii") as lock:  # noqa: PTH123 # flock takes a file
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert admitted.run("ready")[0]


def test_other_connections_are_counted() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        found = engine.Engine(port, NAME, None, "completions")
        assert found.callers() == 0
        with socket.create_connection(("127.0.0.1", port)):
            assert found.callers() == 1


def test_a_startup_probe_does_not_pass_on_the_proof_of_a_server_that_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stub_server("--served-model-name", NAME, folder=tmp_path, api_key=KEY) as server:
        pod = Pod(server.port, tmp_path, capsys)
        pod.run("startup")
        assert pod.run("startup") == (True, "has completed a prompt since its start")
    passes, sentence = pod.run("startup")
    assert not passes
    assert sentence.startswith("nothing listens on port")
    pod.run("live")
    pod.grow_older(10_000)
    assert pod.run("live") == (True, "has not completed a prompt yet")


# --- odd, and sound


def test_a_request_that_waits_for_its_grammar_is_no_stall_however_long(admitted: Pod, server: EngineServer) -> None:
    with put_off(server):
        for _ in range(3):
            assert admitted.run("ready") == (True, "makes progress, or completed its last prompt")
            admitted.grow_older(judge.STALL_WINDOW_SECONDS)
            assert admitted.run("live")[0]
            admitted.grow_older(1000)


@pytest.mark.usefixtures("hasty")
def test_an_engine_that_hangs_with_a_deferred_request_is_found_by_its_canary(
    admitted: Pod, server: EngineServer
) -> None:
    with put_off(server):
        admitted.run("ready")
        server.faults(hang_engine=True)
        admitted.grow_older(judge.CANARY_INTERVAL_SECONDS)
        assert admitted.run("ready")[0]
        admitted.grow_older(judge.STALL_WINDOW_SECONDS)
        assert not admitted.run("ready")[0]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/sleep?level=1", judge.ASLEEP),
        ("/sleep?level=2", judge.ASLEEP),
        ("/sleep?level=0", judge.ASLEEP),
        ("/pause?mode=keep", judge.PAUSED),
        ("/pause", judge.PAUSED),
    ],
)
@pytest.mark.usefixtures("development")
def test_a_sleeping_or_paused_engine_gets_no_traffic_is_never_restarted_and_admitted_anew(
    admitted: Pod, server: EngineServer, path: str, sentence: str
) -> None:
    admitted.run("ready")
    assert server.request("POST", path).status == 200
    completed = server.metric("request_success_total")
    for _ in range(3):
        assert admitted.run("ready") == (False, sentence)
        assert admitted.run("live") == (True, sentence)
        admitted.grow_older(10_000)
    assert admitted.run("startup") == (True, "has completed a prompt since its start")
    assert timeline(admitted)[-2]["cause"] == "Asleep"
    server.request("POST", "/wake_up" if sentence == judge.ASLEEP else "/resume")
    assert server.metric("request_success_total") == completed
    until(lambda: admitted.run("ready")[0], what="traffic")
    assert server.metric("request_success_total") > completed


@pytest.mark.usefixtures("hasty")
def test_an_engine_that_does_not_work_after_its_sleep_gets_no_traffic_and_is_restarted(
    admitted: Pod, server: EngineServer
) -> None:
    admitted.run("ready")
    server.request("POST", "/sleep")
    admitted.run("ready")
    server.request("POST", "/wake_up")
    server.faults(hang_engine=True)
    for _ in range(3):
        passes, sentence = admitted.run("ready")
        assert not passes
        assert sentence.startswith(judge.WOKEN)
    admitted.grow_older(judge.spread(judge.RESTART_WINDOW_SECONDS, os.uname().nodename))
    assert not admitted.run("live")[0]


@pytest.mark.usefixtures("development")
def test_a_paused_engine_that_has_no_time_to_say_so_stays_paused(
    admitted: Pod, server: EngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PAUSED_SECONDS", 0.1)
    server.request("POST", "/pause")
    admitted.run("ready")
    assert admitted.run("ready") == (False, judge.PAUSED)
    server.faults(hang_engine=True)
    assert admitted.run("ready") == (False, judge.PAUSED)
    server.faults(hang_engine=False)
    server.request("POST", "/resume")
    until(lambda: admitted.run("ready")[0], what="traffic")


# --- the time line


def timeline(pod: Pod) -> list[dict[str, str]]:
    """What it tells."""
    lines = (pod.folder / memory.TIMELINE_FILE).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.usefixtures("hasty")
def test_the_time_line_has_each_transition_once(pod: Pod, server: EngineServer) -> None:
    for name in ("other", "other", NAME):
        pod.run("startup", model=name)
    server.faults(hang_engine=True)
    for _ in range(3):
        pod.run("ready")
        pod.grow_older(judge.STALL_WINDOW_SECONDS)
    server.faults(hang_engine=False)
    until(lambda: pod.run("ready")[0], what="traffic")
    found = timeline(pod)
    assert [entry["verdict"] for entry in found] == ["starting", "admitted", "serving", "withdrawn", "serving"]
    assert (found[0]["cause"], found[0]["sentence"]) == ("WrongModel", "serves tiny, alias, not other")
    assert {entry["container"] for entry in found} == {processes.container_birth()}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["time"]) for entry in found)


@pytest.mark.parametrize("before", ["", "not JSON\n", "[]\n"])
def test_the_time_line_keeps_the_latest_transitions_whatever_it_held(tmp_path: Path, before: str) -> None:
    (tmp_path / memory.TIMELINE_FILE).write_text(before, encoding="utf-8")
    for number in range(3 * memory.TIMELINE_LINES):
        memory.record(str(tmp_path), "1", judge.Verdict(f"kind {number}", "Cause", "x" * 300))
    lines = (tmp_path / memory.TIMELINE_FILE).read_text(encoding="utf-8").splitlines()
    assert len(lines) == memory.TIMELINE_LINES
    assert json.loads(lines[-1])["verdict"] == f"kind {3 * memory.TIMELINE_LINES - 1}"


def test_a_time_line_that_cannot_be_written_changes_no_verdict(pod: Pod) -> None:
    (pod.folder / memory.TIMELINE_FILE).mkdir()
    assert pod.run("startup") == (True, "completed its first prompt")


# --- models that pool

KINDS = [("embed", "pooling"), ("embed", "embeddings"), ("classify", "pooling"), ("classify", "classify")]
PATHS = {"pooling": "/pooling", "embeddings": "/v1/embeddings", "classify": "/classify"}


@pytest.fixture(scope="module")
def poolers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EngineServer]]:
    """Stubs with a key that do not generate, by what they do instead."""
    flags = ("--served-model-name", NAME, "--runner", "pooling", "--convert")
    with contextlib.ExitStack() as running:
        yield {
            kind: running.enter_context(
                stub_server(*flags, kind, folder=tmp_path_factory.mktemp("stub"), api_key=KEY),
            )
            for kind in ("embed", "classify")
        }


@pytest.fixture
def pooler(poolers: dict[str, EngineServer], kind: str) -> Iterator[EngineServer]:
    """The stub of the test's kind, with nothing wrong with it afterwards."""
    found = poolers[kind]
    yield found
    found.request("DELETE", "/stub/faults")


@pytest.fixture
def pooling_pod(pooler: EngineServer, canary: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Pod:
    """A pod of such a model that has not been admitted yet."""
    return Pod(pooler.port, tmp_path, capsys, "--canary", canary)


@pytest.mark.parametrize(("kind", "canary"), KINDS)
def test_a_model_that_pools_is_admitted_and_believed_by_its_canary(pooling_pod: Pod, pooler: EngineServer) -> None:
    before = pooler.metric("request_success_total")
    assert pooling_pod.run("startup") == (True, "completed its first prompt")
    pooling_pod.run("ready")
    for mode in ("ready", "live"):
        pooling_pod.grow_older(judge.CANARY_INTERVAL_SECONDS)
        assert pooling_pod.run(mode) == (True, "makes progress, or completed its last prompt")
    assert pooler.metric("request_success_total") > before + 1


@pytest.mark.parametrize(("kind", "canary"), KINDS)
@pytest.mark.parametrize(
    "faults",
    [
        {"answer": ""},
        {"fail": {"status": 200, "body": {}}},
        {"fail": {"status": 200, "body": {"data": []}}},
        {"fail": {"status": 200, "body": {"data": ["a"]}}},
        {"fail": {"status": 200, "body": {"data": {"data": "a"}}}},
    ],
    ids=str,
)
def test_a_pooling_answer_without_numbers_admits_nobody(
    pooling_pod: Pod, pooler: EngineServer, canary: str, faults: dict[str, Any]
) -> None:
    pooler.faults(**faults)
    assert pooling_pod.run("startup") == (False, f"{PATHS[canary]}: a completion came back empty")


@pytest.mark.parametrize(("kind", "canary"), KINDS)
@pytest.mark.usefixtures("hasty")
def test_an_idle_engine_that_pools_no_longer_is_found_by_its_canary(
    pooling_pod: Pod, pooler: EngineServer, canary: str
) -> None:
    pooling_pod.run("startup")
    pooling_pod.run("ready")
    pooler.faults(hang_engine=True)
    pooling_pod.grow_older(judge.CANARY_INTERVAL_SECONDS)
    pooling_pod.run("ready")
    pooling_pod.grow_older(judge.STALL_WINDOW_SECONDS)
    passes, sentence = pooling_pod.run("ready")
    assert not passes
    assert f"{PATHS[canary]} does not answer within" in sentence


@pytest.mark.parametrize(
    ("kind", "canary"), [("embed", "completions"), ("embed", "classify"), ("classify", "embeddings")]
)
def test_a_canary_of_another_kind_of_model_is_told_as_such(pooling_pod: Pod, canary: str) -> None:
    path = {**PATHS, "completions": "/v1/completions"}[canary]
    told = f"{path}: the server has no such endpoint: does spec.model.runner say what this model does?"
    assert pooling_pod.run("startup") == (False, told)


def test_a_model_that_generates_is_not_admitted_by_pooling(
    server: EngineServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passes, sentence = Pod(server.port, tmp_path, capsys, "--canary", "pooling").run("startup")
    assert not passes
    assert sentence.startswith("/pooling: the server has no such endpoint")


def test_an_unknown_canary_admits_nobody(
    server: EngineServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passes, sentence = Pod(server.port, tmp_path, capsys, "--canary", "parrot").run("startup")
    assert (passes, sentence) == (False, "the gate itself failed: KeyError('parrot')")


# --- adapters


@pytest.fixture
def adapter(server: EngineServer) -> Iterator[str]:
    """The name of an adapter that the engine serves beside its model."""
    server.request("POST", "/v1/load_lora_adapter", {"lora_name": "sql", "lora_path": "org/sql"})
    yield "sql"
    server.request("POST", "/v1/unload_lora_adapter", {"lora_name": "sql"})


@pytest.mark.usefixtures("adapter")
def test_an_engine_that_serves_model_and_adapters_is_admitted_and_goes_on_serving(pod: Pod) -> None:
    pod.more = ("--adapters", "sql")
    assert pod.run("startup") == (True, "completed its first prompt")
    assert all(pod.run("ready")[0] for _ in range(3))


def test_an_engine_without_its_adapter_is_not_admitted(pod: Pod) -> None:
    pod.more = ("--adapters", "sql other")
    assert pod.run("startup") == (False, "serves tiny, alias, not sql, other")


def test_an_engine_that_loses_an_adapter_loses_its_traffic_until_it_has_it_again(
    pod: Pod, server: EngineServer, adapter: str
) -> None:
    pod.more = ("--adapters", adapter)
    pod.run("startup")
    server.request("POST", "/v1/unload_lora_adapter", {"lora_name": adapter})
    assert pod.run("ready")[0]
    pod.grow_older(judge.STALL_WINDOW_SECONDS)
    passes, sentence = pod.run("ready")
    assert not passes
    assert sentence.startswith("serves tiny, alias, not sql for ")
    assert pod.run("live")[0]
    server.request("POST", "/v1/load_lora_adapter", {"lora_name": adapter, "lora_path": "org/sql"})
    assert pod.run("ready")[0]


# --- what it remembers


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"birth": "0", "admitted": true}',
        '{"admitted": true}',
        '{"birth": "HERE", "unknown": 1}',
    ],
    ids=["empty", "cut off", "list", "null", "older life", "no life", "another version"],
)
def test_without_a_proof_of_this_life_it_has_to_be_given_again(pod: Pod, server: EngineServer, content: str) -> None:
    server.faults(fail={"status": 500})
    (pod.folder / "state.json").write_text(content.replace("HERE", processes.container_birth()), encoding="utf-8")
    assert not pod.run("ready")[0]
    server.faults(fail=None)
    assert pod.run("ready") == (True, "completed its first prompt")


def test_a_restarted_container_is_not_ready_on_the_proof_of_the_one_before(
    admitted: Pod, server: EngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "container_birth", lambda: "another")
    server.faults(fail={"status": 500})
    assert not admitted.run("ready")[0]
    assert admitted.run("live")[0]


# --- mistakes of its own


@pytest.mark.parametrize(("mode", "passes"), [("startup", False), ("ready", True), ("live", True)])
def test_a_mistake_of_its_own_takes_no_engine_away_but_admits_none(admitted: Pod, mode: str, *, passes: bool) -> None:
    admitted.folder = admitted.folder / "missing"
    told = admitted.run(mode)
    assert told[0] is passes
    assert told[1].startswith("the gate itself failed: FileNotFoundError")


def test_a_missing_option_is_a_mistake_and_not_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main(["live", "--port", "8000"]) == 0
    assert "KeyError('model')" in capsys.readouterr().out


# --- metrics


def test_the_metrics_are_read_by_rank(server: EngineServer) -> None:
    with work(server):
        found = engine.read_ranks(server.request("GET", "/metrics").body)
    assert set(found) == {"0", "1"}
    assert all(rank.in_flight == 1 and len(rank.marks) == 2 for rank in found.values())


def _four_marks(server: EngineServer, seen: list[list[float]]) -> bool:
    metrics = engine.read_ranks(server.request("GET", "/metrics").body)
    seen += [rank.marks for rank in metrics.values() if rank.in_flight and rank.marks not in seen]
    return len(seen) >= 4


def test_the_cache_in_use_moves_while_a_long_prompt_is_read(server: EngineServer) -> None:
    server.faults(step_seconds=0.3)
    seen: list[list[float]] = []
    with asked(server, prompt="x" * 100000, max_tokens=1):
        until(lambda: _four_marks(server, seen), what="four chunks of the prompt")
    assert len({steps for steps, _ in seen}) == 1
    assert len({cache for _, cache in seen}) >= 4


@pytest.mark.parametrize(
    ("metrics", "ranks"),
    [
        (b"vllm:iteration_tokens_total_count 3.0\n", {"0": ([3.0, 0.0], 0.0)}),
        (b'vllm:iteration_tokens_total_count{engine="1",model_name="a b"} 3e2\n', {"1": ([300.0, 0.0], 0.0)}),
        (ONE_RANK, {"0": ([1.0, 0.5], 5.0)}),
        (ONE_RANK + DEFERRED, {"0": ([1.0, 0.5], 3.0)}),
        (
            b'vllm:prompt_tokens_total{engine="0"} 5\nvllm:generation_tokens_total{engine="0"} 2\n',
            {"0": ([7.0, 0.0], 0.0)},
        ),
    ],
)
def test_the_lines_that_matter_are_understood(metrics: bytes, ranks: dict[str, tuple[list[float], float]]) -> None:
    assert {name: (rank.marks, rank.in_flight) for name, rank in engine.read_ranks(metrics).items()} == ranks


@pytest.mark.parametrize(
    "metrics",
    [b"", b"# HELP vllm:iteration_tokens_total_count x\n", b"vllm:other 1\n", b"vllm:prompt_tokens_total x\n"],
)
def test_metrics_without_a_step_counter_are_not_understood(metrics: bytes) -> None:
    with pytest.raises(engine.ProbeError):
        engine.read_ranks(metrics)
