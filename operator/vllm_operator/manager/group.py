"""An engine over several pods, as their managers know each other: the leader asks the workers, and they the leader.

The leader's engine serves; those of the workers have no server (`--headless`). A LeaderWorkerSet's controller gives
each pod the leader's address, `LEADER.SERVICE.NAMESPACE`, and its own number; a worker's host has the number behind the
leader's (sigs.k8s.io/lws v0.8.0, pkg/utils/pod/pod_utils.go). Addresses stay as long as the group: a pod that is
replaced, or a container that is restarted, has the whole group made anew.
"""

from __future__ import annotations

import socket
import threading
import time

from .engine import Engine, EngineError, Sample
from .evidence import ALIVE, ANSWERS, FAULTY, GONE, LEAVING, SILENT_WORKER, RankLook, WorkerLook
from .peers import status_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .processes import Processes
    from .settings import Settings

ASK_SECONDS = 1.0
"""A manager of the group is given so long for all of its answer; all are asked side by side."""
SLACK_SECONDS = 0.5
MISSES = 2
"""Questions to the leader in a row that nobody answers: it has ended, and not only been slow once."""


class Member:
    """Another pod of the group.

    Args:
        host: Its name, as DNS has it.
        port: The port of its manager.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._address = ""

    def ask(self) -> dict[str, object] | None:
        """What its manager says; None where it does not in time.

        Raises:
            ConnectionRefusedError: nothing listens there: its process 1 has ended.
        """
        until = time.monotonic() + ASK_SECONDS
        try:
            if not self._address:
                found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                self._address = str(found[0][4][0])
            return status_from(self._address, self._port, until)
        except ConnectionRefusedError:
            raise
        except (OSError, UnicodeError, IndexError):
            self._address = ""  # another pod may have the name by now
            return None


class Workers:
    """The workers of a leader."""

    def __init__(self, settings: Settings) -> None:
        name, _, domain = settings.leader.partition(".")
        numbers = range(1, settings.nodes)
        self._members = {number: Member(f"{name}-{number}.{domain}", settings.gate_port) for number in numbers}
        self._seen_ready: set[int] = set()

    def look(self) -> tuple[WorkerLook, ...]:
        """What is known of each, by number. It takes at most 1.5 s, but for DNS."""
        found: dict[int, WorkerLook] = {}

        def ask(number: int) -> None:
            found[number] = self._look_at(number)

        threads = [threading.Thread(target=ask, args=(one,), name="worker", daemon=True) for one in self._members]
        until = time.monotonic() + ASK_SECONDS + SLACK_SECONDS
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        late = {one: WorkerLook(one, SILENT_WORKER, _silent(one)) for one in self._members}
        return tuple({**late, **found}[one] for one in sorted(self._members))

    def _look_at(self, number: int) -> WorkerLook:
        try:
            status = self._members[number].ask()
        except ConnectionRefusedError:
            return WorkerLook(number, GONE, f"worker {number} of the group has ended: nothing listens in its pod")
        if status is None:
            return WorkerLook(number, SILENT_WORKER, _silent(number))
        return self._judged(number, status)

    def _judged(self, number: int, status: Mapping[str, object]) -> WorkerLook:
        verdict, worker = status.get("verdict"), f"worker {number} of the group"
        if status.get("ready") is True:
            self._seen_ready.add(number)
            return WorkerLook(number, ALIVE)
        if verdict == "leaving":
            return WorkerLook(number, LEAVING, f"{worker} was asked to end")
        if verdict == "starting" and number not in self._seen_ready:
            return WorkerLook(number, ALIVE)
        if verdict == "starting":
            return WorkerLook(number, GONE, f"{worker} was started anew")
        return WorkerLook(number, FAULTY, f"{worker}: {status.get('sentence') or verdict}")


def _silent(number: int) -> str:
    return f"worker {number} of the group does not answer"


class Leader:
    """The leader of a worker."""

    def __init__(self, settings: Settings) -> None:
        self._member = Member(settings.leader, settings.gate_port)
        self._misses = 0

    def check_admitted(self) -> None:
        """See that the group works.

        Raises:
            EngineError: it does not yet, or nobody says.
        """
        try:
            status = self._member.ask()
        except ConnectionRefusedError:
            status = None
        if status is None:
            raise EngineError("WaitsForLeader", "waits for the leader of its group, which does not answer yet")
        if status.get("admitted") is not True:
            phase = status.get("phase")
            name = phase.get("name") if isinstance(phase, dict) else ""
            raise EngineError("WaitsForLeader", f"waits for the leader of its group to complete a prompt ({name})")

    def has_ended(self) -> bool:
        """Whether it has not answered for some questions in a row."""
        try:
            status = self._member.ask()
        except ConnectionRefusedError:
            status = None
        self._misses = 0 if status is not None else self._misses + 1
        return self._misses >= MISSES


class HeadlessEngine(Engine):
    """A worker's engine: it lives as long as its processes do, and works once its leader has completed a prompt.

    That it makes progress shows in the leader alone, each of whose steps needs all workers.
    """

    def __init__(self, leader: Leader, processes: Processes, *, admitted: bool = False) -> None:
        """`admitted`: an earlier judge has seen the leader complete a prompt."""
        self._leader, self._processes = leader, processes
        self._admitted = admitted

    def sample(self, deadline_seconds: float) -> Sample:  # noqa: ARG002 # there is nothing to ask
        """It has no server that could refuse: the manager ends with the first of its processes."""
        return Sample(ANSWERS, {"0": RankLook(steps=0.0)}, paused=False, connections=0)

    def check_names(self, timeout: float, adapters: Iterable[str] | None = None) -> None:
        """The leader serves them."""

    def missing_adapters(self, timeout: float) -> tuple[str, ...]:  # noqa: ARG002 # as above
        """None: the leader serves them."""
        return ()

    def complete(self, timeout: float, rank: str | None = None) -> None:  # noqa: ARG002 # it answers at once
        """In place of a canary: the leader completes those.

        Raises:
            EngineError: processes are stopped; or, at first, the leader has not completed a prompt yet.
        """
        look = self._processes.look(time.monotonic())
        if look is not None and look.stopped:
            raise EngineError("Stopped", f"processes of this worker are stopped: {', '.join(look.stopped)}")
        if not self._admitted:
            self._leader.check_admitted()
            self._admitted = True

    @property
    def completes_texts(self) -> bool:
        """It is asked for no chat."""
        return False
