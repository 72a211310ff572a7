"""An engine over several pods: what the leader's judge makes of its workers, and the workers' of their leader."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.unit.manager.looks import Watch
from vllm_operator.manager import group
from vllm_operator.manager.engine import EngineError
from vllm_operator.manager.evidence import (
    ALIVE,
    FAULTY,
    GONE,
    LEAVING,
    SILENT_WORKER,
    ProcessesLook,
    WorkerLook,
)
from vllm_operator.manager.judge import RESTART, SERVING, WITHDRAWN
from vllm_operator.manager.processes import Processes
from vllm_operator.manager.settings import Settings, settings_of
from vllm_operator.manager.stem import is_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = ("--gate-port", "8480", "--nodes", "2", "--service", "wide-engines.team.svc")


class Manager:
    """A manager on loopback that answers as it is told."""

    def __init__(self) -> None:
        self.status: dict[str, object] = {}
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                body = json.dumps(self.status).encode()
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def close(self) -> None:
        """End it: connections are refused from now on."""
        with contextlib.suppress(OSError):  # it may be closed already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A manager to which every name of the group leads."""
    found = Manager()
    there = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", found.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: there)
    yield found
    found.close()


def settings(port: int, worker: int = 0) -> Settings:
    """Those of a pod of a group of two."""
    environment = {"LWS_LEADER_ADDRESS": "wide-0.wide-0.team", "LWS_WORKER_INDEX": str(worker)}
    return settings_of(("--gate-port", str(port), *WORDS[2:]), environment)


def one(state: str) -> WorkerLook:
    """The first worker, in a state."""
    return WorkerLook(1, state, "worker 1 of the group does something")


# --- what the leader's judge makes of it


@pytest.mark.parametrize(
    ("state", "cause"), [(GONE, "WorkerGone"), (FAULTY, "WorkerFaulty"), (LEAVING, "WorkerLeaving")]
)
def test_a_leader_whose_worker_is_known_not_to_work_is_out_at_once_though_it_is_the_last_engine(
    state: str, cause: str
) -> None:
    watch = Watch().admit()
    assert watch.look(workers=(one(ALIVE),)).kind == SERVING
    verdict = watch.look(workers=(one(state),))
    assert (verdict.kind, verdict.cause) == (WITHDRAWN, cause)
    assert verdict.sentence == "worker 1 of the group does something"
    assert watch.look(workers=(one(ALIVE),)).kind == SERVING


def test_a_leader_ends_where_nobody_makes_the_group_of_a_worker_anew_that_has_ended() -> None:
    watch = Watch(step_rate=1.0).admit()
    kinds = [watch.look(workers=(one(GONE),)).kind for _ in range(40)]
    assert kinds[0] == WITHDRAWN
    assert kinds[-1] == RESTART
    lasting = Watch(step_rate=1.0).admit()
    assert {lasting.look(workers=(one(LEAVING),)).kind for _ in range(40)} == {WITHDRAWN}


def test_silence_of_a_worker_takes_nothing_while_steps_are_made_and_the_traffic_once_none_is() -> None:
    watch = Watch(step_rate=3.0).admit()
    for _ in range(30):
        assert watch.look(workers=(one(SILENT_WORKER),)).kind == SERVING
    watch.step_rate = 0.0
    kinds = [watch.look(workers=(one(SILENT_WORKER),)).kind for _ in range(9)]
    assert kinds[0] == SERVING
    assert kinds[-1] == WITHDRAWN
    assert watch.verdict.cause in ("WorkerSilent", "Failing")


# --- how the pods know of each other


def test_a_leader_sees_what_its_workers_managers_say(manager: Manager) -> None:
    workers = group.Workers(settings(manager.port))

    def state(**status: object) -> str:
        manager.status = {"ready": False, **status}
        (found,) = workers.look()
        return found.state

    assert state(verdict="starting") == ALIVE, "it has not been ready yet"
    assert state(ready=True, verdict="serving") == ALIVE
    assert state(verdict="withdrawn", sentence="stopped") == FAULTY
    assert state(verdict="leaving") == LEAVING
    assert state(verdict="starting") == GONE, "its container is another one"
    manager.close()
    (found,) = workers.look()
    assert (found.state, found.sentence) == (GONE, "worker 1 of the group has ended: nothing listens in its pod")


def test_a_worker_whose_name_nobody_knows_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    (found,) = group.Workers(settings(1)).look()
    assert found.state == SILENT_WORKER


def test_names_of_workers_are_made_of_their_leaders() -> None:
    members = group.Workers(settings_of((*WORDS[:2], "--nodes", "3"), {"LWS_LEADER_ADDRESS": "a-0.a-0.team"}))._members  # noqa: SLF001 # names
    assert [one._host for one in members.values()] == ["a-0-1.a-0.team", "a-0-2.a-0.team"]  # noqa: SLF001 # as above


class Still(Processes):
    """Processes, some of which are stopped."""

    def __init__(self) -> None:
        self.stopped: tuple[str, ...] = ()

    def look(self, now: float) -> ProcessesLook:  # noqa: ARG002 # always the same
        """What there is."""
        return ProcessesLook(server_cpu_seconds=0.0, core_cpu_seconds=0.0, stopped=self.stopped)


def test_a_worker_works_once_its_leader_has_completed_a_prompt_and_fails_while_it_is_stopped(manager: Manager) -> None:
    processes = Still()
    worker = group.HeadlessEngine(group.Leader(settings(manager.port, 1)), processes)
    manager.status = {"ready": False, "admitted": False, "phase": {"name": "LoadingWeights"}}
    with pytest.raises(EngineError, match=r"waits for the leader .*\(LoadingWeights\)"):
        worker.complete(1.0)
    manager.status = {"ready": True, "admitted": True}
    worker.complete(1.0)
    manager.close()
    worker.complete(1.0)  # the leader's end is the leader's matter
    processes.stopped = ("vllm",)
    with pytest.raises(EngineError, match="processes of this worker are stopped: vllm"):
        worker.complete(1.0)


def test_a_leader_has_ended_when_it_does_not_answer_twice(manager: Manager) -> None:
    leader = group.Leader(settings(manager.port, 1))
    manager.status = {"ready": False}
    assert not leader.has_ended()
    manager.close()
    assert not leader.has_ended()
    assert leader.has_ended()


def test_a_pod_knows_its_place_and_a_pod_of_no_group_has_none() -> None:
    assert is_worker({"--nodes": "2"}, {"LWS_WORKER_INDEX": "1"})
    assert not is_worker({"--nodes": "2"}, {"LWS_WORKER_INDEX": "0"})
    assert not is_worker({}, {"LWS_WORKER_INDEX": "1"})
    assert settings(1, 1).service == "", "a worker has no peers"
    assert settings_of(("--gate-port", "1"), {"LWS_WORKER_INDEX": "1"}).worker == 0
