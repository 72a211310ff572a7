"""The judge: the program that the stem keeps alive beside the engine.

    python3 -S -E -B -m manager.program OPTIONS            (see settings.py; the environment: see keeper.py)
    python3 -S -E -B -m manager.program --check OPTIONS    (what the running judge asks of a newer program)

The main thread looks once a second. Others read the engine's log, answer over HTTP, report to the stem at least once a
second, and wait for the word that the engine is asked to end. A thread that fails ends the whole process: the stem
starts a new judge at once, with what this one has reported last, and answers meanwhile.

GATE_STATE in the environment names another folder for the time line, and GATE_STAGGER_SECONDS another moment for newer
programs than the one by the pod's name: for tests.

Everything that is needed is loaded at the start: what is loaded later could come from a newer program.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback

# the digest of the files is taken before the others are loaded
from . import update

# isort: split
from . import certificate, matching, restarts, status
from .answers import Answers, answer
from .engine import Engine, Sample
from .errands import Errand
from .evidence import ANSWERS, ProcessesLook, RankLook
from .group import HeadlessEngine, Leader, Workers
from .log import Log
from .peers import Peers, own_addresses
from .processes import Processes
from .settings import settings_of
from .timeline import TimeLine
from .watch import Parts, Pod, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

STATE_FOLDER = "/run/vllm-manager"
PERIOD_SECONDS = 1.0
"""From one look to the next, and of the heartbeat."""
STUCK_SECONDS = 60.0
"""Without a look for so long, the heartbeat stops: the stem then replaces a judge that is stuck."""
REPLACED = 75
"""Exit code (EX_TEMPFAIL) of a judge that gives way to a newer program."""
FAILED = 70
"""Exit code (EX_SOFTWARE) of a judge of which a thread has failed."""
STOP_SECONDS = 2.0
"""So long a judge that gives way still answers those who are connected."""
MOST_MEMORY_BYTES = 60_000
"""Of what is handed to the next judge: it has to fit into a pipe."""
LOG_CHUNK_BYTES = 65536
LOG_SHARE = 0.2
"""Of one core, for reading the engine's log: what comes faster is dropped by the stem, so an engine that writes 100 MB
in a second does not cost its own judge."""
STACK_BYTES = 8_388_608
"""Of each thread, whatever the container's limit is: addresses, and no memory. With less, JSON that is nested deeply
enough ends the process (seen with 256 KB on Python 3.9, with 1 MB on 3.13), where Python means to raise
RecursionError."""
LEAVE_SIGNAL = signal.SIGUSR1
RENEWAL_SECONDS = 10.0
"""How often the server's certificate is looked at: kubelet takes a minute to bring a renewed one."""


def table_in(folder: str) -> tuple[matching.Table, str]:
    """The signatures in a folder, and the trouble with them. Without them a judge judges as well."""
    try:
        with open(os.path.join(folder, matching.FILE), encoding="utf-8") as file:
            return matching.table_of(file.read()), ""
    except (OSError, ValueError, matching.TableError) as error:
        return matching.Table(), f"no failure is recognized: {error}"


TABLE, TABLE_TROUBLE = table_in(update.FOLDER)


class Reports:
    """The pipe to the stem, on which a judge writes lines of JSON."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._memory: object = {}

    def write(self, message: Mapping[str, object]) -> None:
        """Write one line. A judge whose stem is gone ends here."""
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except BrokenPipeError:
                os._exit(0)

    def heartbeat(self, report: Mapping[str, object]) -> str:
        """Write a verdict and what the next judge needs, or the last of that which was not too long.

        Returns:
            The trouble with it; empty: there is none.
        """
        size = len(json.dumps(report["memory"]))
        fits = size <= MOST_MEMORY_BYTES
        self._memory = report["memory"] if fits else self._memory
        self.write({**report, "memory": self._memory})
        return "" if fits else f"the judge's memory has {size} bytes: the next judge gets an older one"


def essential(work: Callable[[], None]) -> Callable[[], None]:
    """The work of a thread without which the judge is none: its failure ends the process."""

    def run() -> None:
        try:
            work()
        except BaseException:  # noqa: BLE001 # whatever it is, a new judge is better than half of one
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(FAILED)

    return run


class Judge:
    """The process: its threads, and the pipes to the stem."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        settings = settings_of(words, dict(environment))
        handed, trouble = handed_on(int(environment["GATE_MEMORY"]))
        pod = pod_of(environment, trouble)
        folder = environment.get("GATE_STATE", STATE_FOLDER)
        timeline = TimeLine(folder, f"{environment['GATE_ENGINE']}:{engine_birth(environment):.2f}")
        self._log = int(environment["GATE_LOG"])
        self._reports = Reports(int(environment["GATE_REPORT"]))
        self._changed = threading.Event()
        processes = Processes(int(environment["GATE_ENGINE"]), settings.engine_port)
        self._leader = Leader(settings) if settings.worker else None
        self._asked_leader = Errand("leader", lambda: self._leader is not None and self._leader.has_ended())
        engine = Engine(settings, dict(environment))
        if self._leader is not None:
            own = Processes(int(environment["GATE_ENGINE"]), settings.engine_port)  # looked at by another thread
            engine = HeadlessEngine(self._leader, own, admitted=handed.get("admitted") is True)
        self._parts = Parts(
            engine=engine,
            processes=processes,
            log=Log(environment, table=TABLE),
            peers=Peers(settings, own_addresses(environment)),
            timeline=timeline,
            workers=Workers(settings) if settings.nodes > 1 and not settings.worker else None,
            restarts=restarts.counted(folder, timeline),
        )
        self._watch = Watch(settings, self._parts, pod, handed, self._tell)
        self._watch.tell("signatures", TABLE_TROUBLE)
        listener = socket.socket(fileno=int(environment["GATE_SOCKET"]))
        self._answers = Answers(listener, lambda: self._watch.status)
        wait = environment.get("GATE_STAGGER_SECONDS")
        self._update = update.Update(
            words, wait=update.stagger(pod.name) if wait is None else float(wait), now=time.monotonic()
        )
        self._certificate = certificate.Copies(settings.certificate, environment) if settings.certificate else None
        self._renewal_due = 0.0
        self._answering: threading.Thread | None = None
        if environment.get("GATE_LEAVING") == "1":
            self._watch.leave()

    def run(self) -> int:
        """Look until there is a newer program; the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {LEAVE_SIGNAL})
        threading.stack_size(STACK_BYTES)
        self._reports.heartbeat(self._watch.report())  # what was handed on is not lost if this judge fails soon
        self._answering = self._start("answers", self._answers.serve)
        for name, work in (("log", self._read_log), ("leaving", self._await_leaving), ("reports", self._report)):
            self._start(name, work)
        due = time.monotonic()
        while not self._newer_program():
            end = self._watch.look()
            if end is not None:
                self._reports.write({"end": end})
            self._renew_certificate(time.monotonic())
            self._release(time.monotonic())
            due = max(due + PERIOD_SECONDS, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
        return self._give_way()

    def _start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=essential(work), name=name, daemon=True)
        thread.start()
        return thread

    def _newer_program(self) -> bool:
        wanted = self._update.wanted(time.monotonic(), self._watch.report)
        self._watch.tell("update", self._update.trouble)
        self._watch.tell("answers", self._answers.trouble)
        return wanted

    def _renew_certificate(self, now: float) -> None:
        """Hand a renewed certificate on to the server."""
        if self._certificate is None or now < self._renewal_due:
            return
        self._renewal_due = now + RENEWAL_SECONDS
        trouble = ""
        try:
            self._certificate.renew()
        except certificate.CertificateError as error:
            trouble = str(error)
        self._watch.tell("certificate", trouble)

    def _release(self, now: float) -> None:
        """Let a worker that was asked to end do so once its leader has ended, which needs it for its last requests."""
        if self._leader is None or not self._watch.leaving:
            return
        self._asked_leader.run(now, PERIOD_SECONDS)
        if self._asked_leader.found(now, youth=STOP_SECONDS):
            self._reports.write({"release": True})

    def _give_way(self) -> int:
        self._answers.stop()
        if self._answering is not None:
            self._answering.join(STOP_SECONDS)
        report = self._watch.report()
        memory = report["memory"]
        assert isinstance(memory, dict)  # noqa: S101 # for the type checker
        self._reports.heartbeat({**report, "memory": {**memory, "gives_way": True}})
        return REPLACED

    def _tell(self) -> None:
        """Report at once, and answer those who wait for admission."""
        self._changed.set()
        self._answers.wake()

    def _report(self) -> None:
        while True:
            if time.monotonic() - self._watch.published.looked_at < STUCK_SECONDS:
                self._watch.tell("memory", self._reports.heartbeat(self._watch.report()))
            self._changed.wait(PERIOD_SECONDS)
            self._changed.clear()

    def _await_leaving(self) -> None:
        while True:
            signal.sigwait({LEAVE_SIGNAL})
            self._watch.leave()

    def _read_log(self) -> None:
        """Feed the log until its end, which is the engine's: then say what has ended it."""
        while True:
            data = os.read(self._log, LOG_CHUNK_BYTES)
            if not data:
                break
            began = time.monotonic()
            self._feed(data, began)
            time.sleep((time.monotonic() - began) * (1 / LOG_SHARE - 1))
        self._reports.write({"last_words": self._parts.log.last_words(time.monotonic())})
        os._exit(0)

    def _feed(self, data: bytes, now: float) -> None:
        try:
            self._parts.log.feed(data, now)
        except Exception as error:  # noqa: BLE001 # a log that is not understood is no evidence, and no end
            self._watch.tell("log", f"the log is not understood: {error!r}")


def handed_on(descriptor: int) -> tuple[dict[str, Any], str]:
    """What the judge before has left in the pipe, and the trouble with it."""
    with os.fdopen(descriptor, "rb") as pipe:
        text = pipe.read()
    if not text.strip():
        return {}, ""
    try:
        memory = json.loads(text).get("memory")
    except (ValueError, AttributeError) as error:
        return {}, f"what the judge before has left is not understood: {error}"
    if not isinstance(memory, dict):
        return {}, ""
    counts = status.restored_counts(memory.get("counts"))
    counted = "judge_updates" if memory.pop("gives_way", False) else "judge_restarts"
    return {**memory, "counts": {**counts.as_dict(), counted: getattr(counts, counted) + 1}}, ""


def pod_of(environment: Mapping[str, str], trouble: str) -> Pod:
    """What stays the same about this engine."""
    return Pod(
        name=os.uname().nodename,
        program=update.LOADED,
        born_at=engine_birth(environment),
        loads_adapters=environment.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "").lower() in ("1", "true"),
        trouble="; ".join(part for part in (environment.get("GATE_TROUBLE", ""), trouble) if part),
    )


def engine_birth(environment: Mapping[str, str]) -> float:
    """When the engine was started, on the monotonic clock; now, where the kernel does not say."""
    try:
        with open(f"/proc/{environment['GATE_ENGINE']}/stat", encoding="ascii", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return time.monotonic()
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - max(0.0, age)


# --------------------------------------------------------------------------------------------------- the check


class CannedEngine(Engine):
    """An engine that has made a step since the last look, for the check of a newer program."""

    def __init__(self, ranks: Mapping[str, float]) -> None:
        self._canned = {name: RankLook(steps=steps + 1) for name, steps in (ranks or {"0": 0.0}).items()}

    def sample(self, deadline_seconds: float) -> Sample:  # noqa: ARG002 # it answers at once
        """All is well."""
        return Sample(server=ANSWERS, ranks=self._canned, paused=False, connections=0, trouble="")

    def check_names(self, timeout: float, adapters: Iterable[str] | None = None) -> None:
        """All are served."""

    def served_adapters(self, timeout: float) -> dict[str, str]:  # noqa: ARG002 # it answers at once
        """None: those of the list are to be loaded."""
        return {}

    def load_adapter(self, name: str, path: str, timeout: float) -> None:
        """Done."""

    def complete(self, timeout: float, rank: str | None = None) -> None:
        """Done."""

    @property
    def completes_texts(self) -> bool:
        """It is asked for no chat: a check begins nothing that goes on beside it."""
        return False


class CannedProcesses(Processes):
    """Processes that do nothing."""

    def __init__(self) -> None:
        """Nothing is asked of the kernel."""

    def look(self, now: float) -> ProcessesLook:  # noqa: ARG002 # always the same
        """They live."""
        return ProcessesLook(server_cpu_seconds=1.0, core_cpu_seconds=1.0)


def check(words: Sequence[str], environment: Mapping[str, str], handed: Mapping[str, Any]) -> int:
    """Come to a verdict on what the running judge remembers and one look at an engine that makes steps.

    Prints the verdict for the running judge; the exit code is 1 where a part of this program failed.
    """
    settings = settings_of(words, dict(environment))
    log = Log(table=TABLE)
    log.feed(b"INFO: Application startup complete.\n", time.monotonic())
    engine, peers = CannedEngine(handed.get("ranks") or {}), Peers(settings, ())
    parts = Parts(engine, CannedProcesses(), log, peers, TimeLine(os.devnull, ""))  # nothing is written there
    watch = Watch(settings, parts, pod_of({**environment, "GATE_ENGINE": "self"}, ""), handed.get("memory") or {})
    faults = dict(watch.faults)
    watch.look()
    faults.update(watch.faults)
    faults.update(table_faults())
    for path in ("/startup", "/ready", "/live", "/status", "/metrics"):
        answer(path, watch.status)
    if faults:
        sys.stderr.write("; ".join(faults.values()) + "\n")
        return 1
    sys.stdout.write(json.dumps({"admitted": watch.status.started, "ready": watch.status.ready}) + "\n")
    return 0


def table_faults() -> dict[str, str]:
    """What is wrong with the signatures: a program with broken ones would know less than the one that runs."""
    if TABLE_TROUBLE:
        return {"signatures": TABLE_TROUBLE}
    try:
        TABLE.check()
    except matching.TableError as error:
        return {"signatures": str(error)}
    return {}


def main(words: list[str]) -> int:
    """Run the judge, or the check; the exit code."""
    if words[:1] == ["--check"]:
        return check(words[1:], os.environ, json.load(sys.stdin))
    code = REPLACED if update.replaced_meanwhile() else Judge(words, os.environ).run()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
