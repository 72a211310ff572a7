"""The judge's HTTP server against real sockets: who asks well is answered at once, whatever others send."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import until
from vllm_operator.manager import answers, tell
from vllm_operator.manager.answers import MOST_CONNECTIONS, Answers
from vllm_operator.manager.evidence import RankLook
from vllm_operator.manager.matching import Diagnosis
from vllm_operator.manager.status import Counts, Status, restored_counts
from vllm_operator.manager.timeline import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = "2026-11-26T12:00:00Z"
SERVES = Status(
    pod="tiny-0",
    verdict="serving",
    cause="Serving",
    sentence="makes steps",
    since=NOON,
    phase="Ready",
    phase_detail="",
    phase_since=NOON,
    admitted=True,
    stall_window=6.0,
    program="cafe",
    serving=True,
)
STARTS = replace(SERVES, verdict="starting", cause="Loading", sentence="nothing listens", admitted=False, serving=False)
LEAVES = replace(SERVES, verdict="leaving", cause="Leaving", sentence="leaving: the engine was asked to end")


class Server:
    """The answers on a port of the loopback address, and callers of all manners."""

    def __init__(self, status: Status) -> None:
        self.status = status
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        self.answers = Answers(self._listener, lambda: self.status)
        self.thread = threading.Thread(target=self.answers.serve, daemon=True)
        self.thread.start()

    def get(self, path: str, timeout: float = 20) -> tuple[int, str, str]:
        """Status, content type and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()

    def raw(self, data: bytes, timeout: float = 20) -> bytes:
        """All that comes back for these bytes, until the server closes."""
        with self.connected(timeout) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def connected(self, timeout: float = 20) -> socket.socket:
        """A connection that has sent nothing yet."""
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def close(self) -> None:
        """End it."""
        if self.thread.is_alive():
            self.answers.stop()
            self.thread.join(10)
        assert not self.thread.is_alive()
        self.answers.close()
        self._listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(SERVES)
    yield running
    running.close()


@pytest.mark.parametrize(
    ("status", "codes"),
    [
        (SERVES, {"/startup": 200, "/ready": 200, "/live": 200}),
        (replace(SERVES, verdict="withdrawn"), {"/startup": 200, "/ready": 503, "/live": 200}),
        (replace(SERVES, verdict="restart"), {"/startup": 200, "/ready": 503, "/live": 200}),
        (replace(SERVES, verdict="restart", overdue=True), {"/startup": 200, "/ready": 503, "/live": 503}),
        (LEAVES, {"/startup": 503, "/ready": 503, "/live": 200}),
        (replace(LEAVES, overdue=True), {"/startup": 503, "/ready": 503, "/live": 200}),
        (replace(STARTS, verdict="restart"), {"/startup": 503, "/ready": 503, "/live": 200}),
        (STARTS, {"/ready": 503, "/live": 200}),
    ],
    ids=["serves", "withdrawn", "given up", "overdue", "leaves", "leaves overdue", "never admitted", "starts"],
)
def test_probes_are_answered_by_the_verdict_with_its_sentence(
    server: Server, status: Status, codes: dict[str, int]
) -> None:
    server.status = status
    for path, code in codes.items():
        assert server.get(path) == (code, "text/plain; charset=utf-8", status.sentence + "\n")


def test_startup_holds_its_answer_until_the_engine_is_admitted(server: Server) -> None:
    server.status = STARTS
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(server.get("/startup")[0])) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert server.get("/ready")[0] == 503  # who waits keeps nobody else waiting
    assert found == []
    server.status = SERVES
    server.answers.wake()
    for thread in threads:
        thread.join(10)
    assert found == [200] * 5


def test_startup_refuses_with_the_sentence_when_its_time_is_over(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "STARTUP_SECONDS", 0.3)
    server.status = STARTS
    assert server.get("/startup") == (503, "text/plain; charset=utf-8", "nothing listens\n")


@pytest.mark.parametrize("then", [LEAVES, replace(STARTS, verdict="restart", sentence="over its budget")])
def test_startup_does_not_wait_for_an_engine_that_will_not_come(server: Server, then: Status) -> None:
    server.status = STARTS
    with server.connected() as caller:
        caller.sendall(b"GET /startup HTTP/1.1\r\n\r\n")
        assert server.get("/live")[0] == 200
        server.status = then
        server.answers.wake()
        assert caller.recv(4096).startswith(b"HTTP/1.1 503 ")


STATUS_KEYS = {
    "pod": str,
    "verdict": str,
    "cause": str,
    "sentence": str,
    "since": str,
    "phase": dict,
    "admitted": bool,
    "ready": bool,
    "suspected": bool,
    "restarting": bool,
    "in_flight": float,
    "longest_step_seconds": float,
    "stall_window_seconds": float,
    "ranks": dict,
    "timeline": list,
    "excerpt": str,
    "diagnosis": dict,
    "symptoms": list,
    "trouble": str,
    "capacity": dict,
    "adapters": dict,
    "program": str,
    "answered_by": str,
}


def test_status_has_the_fields_that_operator_and_command_line_read(server: Server) -> None:
    entry = Entry(NOON, "starting", "Loading", "nothing listens", "life")
    ranks = {"0": RankLook(steps=7.0, running=1.0, waiting=2.0, deferred=3.0)}
    server.status = replace(SERVES, ranks=ranks, in_flight=3.0, longest_step=0.5, timeline=(entry,))
    server.status = replace(server.status, diagnosis=Diagnosis("NoKvCache", {}), symptoms=(Diagnosis("A", {"n": "1"}),))
    code, kind, body = server.get("/status")
    document = json.loads(body)
    assert (code, kind) == (200, "application/json")
    assert {name: type(value) for name, value in document.items()} == STATUS_KEYS
    assert document["diagnosis"] == {"id": "NoKvCache", "groups": {}}
    assert document["symptoms"] == [{"id": "A", "groups": {"n": "1"}}]
    assert document["phase"] == {"name": "Ready", "detail": "", "since": NOON}
    assert document["ranks"] == {"0": {"steps": 7, "running": 1, "waiting": 2, "deferred": 3, "asleep": False}}
    assert document["timeline"] == [
        {"time": NOON, "verdict": "starting", "cause": "Loading", "sentence": "nothing listens"}
    ]
    assert document["answered_by"] == "judge"


def test_what_is_not_known_is_null_in_status(server: Server) -> None:
    server.status = STARTS
    document = json.loads(server.get("/status")[2])
    assert (document["in_flight"], document["longest_step_seconds"], document["ranks"]) == (None, None, {})


def test_metrics_are_prometheus_text(server: Server) -> None:
    counts = Counts(looks=7, canaries={"completed": 2, 'un"an\\swe\nred': 1}, withdrawals={"Stalled": 1})
    server.status = replace(SERVES, counts=counts, longest_step=0.25)
    code, kind, body = server.get("/metrics")
    assert (code, kind.partition(";")[0]) == (200, "text/plain")
    names = set()
    for line in body.splitlines():
        if line.startswith("# TYPE "):
            assert line.split()[3] in ("gauge", "counter")
        elif not line.startswith("# HELP "):
            found = re.fullmatch(r'(vllm_gate_\w+)(\{\w+="(?:[^"\\]|\\.)*"(,\w+="(?:[^"\\]|\\.)*")*\})? (\S+)', line)
            assert found, line
            float(found[4])
            names.add(found[1].removeprefix("vllm_gate_"))
    assert names >= {"ready", "verdict", "looks_total", "look_seconds_total", "canaries_total", "longest_step_seconds"}
    assert names >= {"stall_window_seconds", "withdrawals_total", "judge_restarts_total"}
    assert 'vllm_gate_verdict{verdict="serving",cause="Serving"} 1' in body


@pytest.mark.parametrize("stored", [None, [], "x", {"looks": "x", "canaries": 3}, {"looks": -1, "canaries": {"a": []}}])
def test_counts_that_are_not_understood_begin_anew(stored: object) -> None:
    assert restored_counts(stored) == Counts()


def test_counts_go_over_to_the_next_judge() -> None:
    counts = Counts(looks=7, look_seconds=0.5, canaries={"completed": 2}, withdrawals={"Stalled": 1}, faults=3)
    assert restored_counts(json.loads(json.dumps({**counts.as_dict(), "of_a_later_day": 1}))) == counts


def test_an_unknown_path_is_not_found_and_a_query_is_no_part_of_it(server: Server) -> None:
    assert server.get("/")[0] == 404
    assert server.get("/ready/")[0] == 404
    assert server.get("/ready?verbose=1")[0] == 200


def test_both_versions_of_http_are_spoken(server: Server) -> None:
    for request in (
        b"GET /ready HTTP/1.0\r\n\r\n",
        b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /ready HTTP/1.0\n\n",
    ):
        assert server.raw(request).startswith(b"HTTP/1.1 200 OK\r\n")
    head, _, body = server.raw(b"HEAD /status HTTP/1.1\r\nHost: x\r\n\r\n").partition(b"\r\n\r\n")
    assert b"Content-Length: " in head
    assert body == b""


def test_a_request_may_come_in_pieces(server: Server) -> None:
    with server.connected() as caller:
        for piece in (b"GE", b"T /re", b"ady HTTP/1.1\r", b"\nHost: x\r\n", b"\r"):
            caller.sendall(piece)
            assert server.get("/live")[0] == 200  # the piece has arrived by then
        caller.sendall(b"\n")
        assert caller.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", b"HTTP/1.1 400 "),
        (b"GET\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET /ready\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET /ready HTTP/2.0\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET / a b c HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
        (b"\r\n\r\n", b"HTTP/1.1 400 "),
        (b"\xff\xfe /\xff HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 "),
        (b"POST /ready HTTP/1.1\r\nContent-Length: 9\r\n\r\n{}{}{}{}{", b"HTTP/1.1 405 "),
        (b"DELETE /status HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 "),
        (b"GET /" + b"a" * 20_000, b"HTTP/1.1 431 "),
        (b"GET /ready HTTP/1.1\r\n" + b"x: y\r\n" * 3_000 + b"\r\n", b"HTTP/1.1 431 "),
        (b"GET /%00%ff\x00 HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 "),
    ],
    ids=[
        "tls", "no path", "0.9", "2.0", "words", "empty", "bytes", "post", "delete", "path", "headers", "nul",
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_disturbs_nobody(server: Server, data: bytes, start: bytes) -> None:
    with contextlib.suppress(ConnectionResetError):  # it need not be read to its end
        assert server.raw(data).startswith(start)
    assert server.get("/ready")[0] == 200
    assert server.answers.trouble == ""


def test_random_bytes_never_end_the_server(server: Server) -> None:
    source = random.Random(12)  # noqa: S311 # the same bytes in each run
    for _ in range(200):
        with server.connected() as caller, contextlib.suppress(OSError):
            caller.sendall(source.randbytes(source.randrange(1, 300)) + source.choice([b"", b"\r\n\r\n"]))
            if source.random() < 0.5:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
    assert server.get("/ready")[0] == 200


def test_callers_who_send_nothing_are_dropped_and_keep_nobody_waiting(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "REQUEST_SECONDS", 3.0)
    silent = [server.connected() for _ in range(100)]
    began = time.monotonic()
    assert server.get("/ready")[0] == 200
    assert time.monotonic() - began < 2.5
    for caller in silent:
        with caller:
            assert caller.recv(1) == b""


def test_more_callers_than_there_is_room_for_keep_nobody_out(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS + 20):
            stack.enter_context(server.connected()).sendall(b"GET /rea")
        assert server.get("/ready")[0] == 200


def test_two_hundred_callers_at_once_are_all_answered(server: Server) -> None:
    gate = threading.Barrier(200)
    found: list[int] = []

    def call() -> None:
        gate.wait()
        found.append(server.get("/status")[0])

    threads = [threading.Thread(target=call) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [200] * 200


def test_a_caller_that_does_not_take_its_answer_keeps_nobody_waiting(server: Server) -> None:
    entries = tuple(Entry(NOON, "serving", "x", "s" * 500, "life") for _ in range(50))
    server.status = replace(SERVES, timeline=entries * 400)  # 10 MB: more than the kernel takes
    with server.connected() as caller:
        caller.sendall(b"GET /status HTTP/1.1\r\n\r\n")
        assert caller.recv(10) == b"HTTP/1.1 2"
        assert server.get("/ready")[0] == 200
        taken = sum(map(len, iter(lambda: caller.recv(1 << 20), b"")))
    assert taken > 10_000_000


def test_a_mistake_in_an_answer_costs_that_answer_alone_and_is_told(server: Server) -> None:
    server.status = replace(SERVES, ranks={"0": object()})  # type: ignore[dict-item] # the mistake
    with pytest.raises(http.client.RemoteDisconnected):
        server.get("/status")
    assert server.get("/ready")[0] == 200
    assert "an answer failed" in server.answers.trouble


def test_a_server_that_stops_answers_who_is_connected_and_leaves_others_to_its_successor() -> None:
    server = Server(STARTS)
    with server.connected() as waiting, server.connected() as late:
        waiting.sendall(b"GET /startup HTTP/1.1\r\n\r\n")
        assert server.get("/live")[0] == 200
        server.answers.stop()
        late.sendall(b"GET /live HTTP/1.1\r\n\r\n")
        assert waiting.recv(4096).startswith(b"HTTP/1.1 503 ")
        assert late.recv(4096).startswith(b"HTTP/1.1 200 ")
        server.thread.join(10)
        assert not server.thread.is_alive()
        with server.connected() as next_one:  # in the backlog
            next_one.sendall(b"GET /live HTTP/1.1\r\n\r\n")
            successor = Answers(server._listener, lambda: SERVES)  # noqa: SLF001 # as the stem lends it to the next one
            thread = threading.Thread(target=successor.serve, daemon=True)
            thread.start()
            assert next_one.recv(4096).startswith(b"HTTP/1.1 200 ")
        successor.stop()
        thread.join(10)
        successor.close()
    server.close()


def test_without_file_descriptors_connections_wait_and_nothing_spins(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = server._listener  # noqa: SLF001 # the failure is the kernel's
    fails = [True] * 3

    class Refusing:
        """The listening socket of a process that has too many files open, three times."""

        def accept(self) -> tuple[socket.socket, object]:
            if fails:
                fails.pop()
                raise OSError(24, os.strerror(24))
            return listener.accept()

        def fileno(self) -> int:
            return listener.fileno()

        def settimeout(self, seconds: float) -> None:
            listener.settimeout(seconds)

    monkeypatch.setattr(answers, "PAUSE_SECONDS", 0.1)
    server.answers.stop()
    server.thread.join(10)
    second = Answers(Refusing(), lambda: SERVES)  # type: ignore[arg-type] # it has what is used of a socket
    thread = threading.Thread(target=second.serve, daemon=True)
    thread.start()
    assert server.get("/ready")[0] == 200
    assert fails == []
    assert "Too many open files" in second.trouble
    second.stop()
    thread.join(10)
    second.close()


def told(port: int) -> subprocess.CompletedProcess[str]:
    """What `kubectl exec` runs."""
    command = [sys.executable, "-S", "-E", str(Path(tell.__file__)), str(port)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_status_is_told_without_network_to_the_pod(server: Server) -> None:
    done = told(server.port)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["pod"] == "tiny-0"


def test_the_status_is_told_in_a_pod_that_has_ipv6_alone() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        running = Answers(listener, lambda: SERVES)
        thread = threading.Thread(target=running.serve, daemon=True)
        thread.start()
        done = told(listener.getsockname()[1])
        running.stop()
        thread.join(10)
        running.close()
    assert json.loads(done.stdout)["pod"] == "tiny-0"


def test_a_manager_that_does_not_answer_is_told_with_exit_code_1() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        done = told(port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"no manager answers on port {port} of this pod: ")


def test_the_server_waits_without_using_the_processor(server: Server) -> None:
    server.status = STARTS
    with server.connected() as silent, server.connected() as waiting:
        waiting.sendall(b"GET /startup HTTP/1.1\r\n\r\n")
        silent.sendall(b"GET")
        until(lambda: server.get("/live")[0] == 200)
        before = time.process_time()
        time.sleep(1.0)  # what is measured is what happens in a second
        assert time.process_time() - before < 0.3
