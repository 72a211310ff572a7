"""The judge, as the stem sees it: a process that is lent the gate's socket, reports, and may end at any time.

What passes between the two never changes incompatibly, since a stem lives as long as its engine and meets judges of
later versions. A judge gets these, each the number of an open file in its environment:

    GATE_SOCKET  the listening socket. It does not wait (O_NONBLOCK), and must stay so: it is shared.
    GATE_LOG     a pipe with a copy of the engine's output, at first the end of what came before; end of file: the
                 engine has ended
    GATE_REPORT  a pipe that takes lines of JSON, at least one a second:
                 {"verdict": {"kind", "cause", "sentence", "since"}, "startup": bool, "ready": bool, "live": bool,
                  "serving": bool, "memory": anything}    the last one is kept; what it leaves out stays as it was
                 {"end": "sentence"}                      the engine is given up
                 {"last_words": "text"}                   why it ended, after the end of the log
    GATE_MEMORY  a pipe with {"memory", "verdict"} of the last report, at most 60 KB; empty for the first judge

and GATE_ENGINE, the engine's process id; GATE_LEAVING=1 if its end was asked for already (SIGUSR1 says it later, and
not before the first report); GATE_TROUBLE, why earlier judges ended. One that exits with 75 wants to be replaced by the
program that now lies on the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from .relay import Log
SILENT_SECONDS = 5.0
"""Without a report for so long, the stem answers as well."""

FIRST_REPORT_SECONDS = 2.0
"""The same for a judge that has not reported at all: kubelet waits 5 s for /ready."""

HUNG_SECONDS = 30.0
"""Without a report for so long, a judge is killed."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 30.0
"""Between the end of a judge and the start of the next one: doubled from fault to fault."""

PROVEN_SECONDS = 60.0
"""A judge that has lived so long was sound: the pauses begin anew."""

REPLACED_SECONDS = 5.0
"""One that wants to be replaced before it is so old is a fault: it would go on for ever."""

REPLACE = 75  # EX_TEMPFAIL
MOST_MEMORY_BYTES = 60_000
MOST_LINE_BYTES = 1_000_000
MOST_READS = 16
"""From one pipe in a turn: the rest of the stem's work must not wait for a judge that talks without end."""

MOST_TROUBLE = 1000
"""Characters."""


def exit_code(status: int) -> int:
    """As a shell tells it: 128 and the signal's number for a process that a signal has ended."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def ending_text(status: int) -> str:
    """How a process has ended, for people."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"


class Keeper:
    """Keeps one judge alive, and what the last one has reported."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        listener: int,
        log: Log,
        note: Callable[[bytes], None],
    ) -> None:
        self._command, self._environment = list(command), environment
        self._listener, self._log, self._note = listener, log, note
        self.pid: int | None = None
        self.report: dict[str, Any] = {}
        self.trouble = ""
        self.messages: list[dict[str, Any]] = []
        """What was said beside the reports, and not taken yet."""
        self._reports: int | None = None
        self._output: int | None = None
        self._line = b""
        self._last_output = b""
        self._started_at = self._heard_at = self._start_at = 0.0
        self._reported = self._leaving_sent = False
        self._pause = FIRST_PAUSE_SECONDS
        self._faults = 0
        self._killed_for = ""

    # -- the life of one judge

    def start_if_due(self, now: float, engine: int, *, leaving: bool) -> None:
        """Start a judge if none runs and one is due."""
        if self.pid is not None or now < self._start_at:
            return
        self._started_at = self._heard_at = now
        self._reported, self._leaving_sent, self._line, self._last_output = False, leaving, b"", b""
        lent: list[int] = []
        try:
            self._reports, report = _pipe_from_judge(lent)
            self._output, output = _pipe_from_judge(lent)
            lent.append(self._log.reopen())
            lent.append(self._memory())
            for number in (report, *lent[2:]):
                os.set_inheritable(number, True)  # noqa: FBT003 # it takes no keyword
            environment = {
                **self._environment,
                "GATE_SOCKET": str(self._listener),
                "GATE_LOG": str(lent[2]),
                "GATE_REPORT": str(report),
                "GATE_MEMORY": str(lent[3]),
                "GATE_ENGINE": str(engine),
                "GATE_LEAVING": "1" if leaving else "",
                "GATE_TROUBLE": self.trouble.encode("ascii", "replace").decode(),  # whatever the locale
            }
            self.pid = spawn(self._command, environment, stdin=os.devnull, stdout=output, stderr=output)
        except (OSError, RuntimeError) as error:  # no room for files, processes or threads: the engine goes on
            self._close()
            self._fault(f"the judge cannot be started: {error}", now)
        finally:
            for number in lent:
                os.close(number)

    def _memory(self) -> int:
        """What the last judge knew, to read from.

        A thread writes it: a pipe may be small, and no judge need read it.
        """
        reading, writing = os.pipe()
        known = {name: self.report[name] for name in ("memory", "verdict") if name in self.report}
        data = json.dumps(known).encode() if known else b""
        if len(data) > MOST_MEMORY_BYTES:
            self._trouble(f"the judge's memory is too large to be handed over ({len(data)} bytes)")
            data = json.dumps({"verdict": known.get("verdict")}).encode()
        threading.Thread(target=write_all, args=(writing, data), daemon=True).start()
        return reading

    def ended(self, status: int, now: float) -> None:
        """The judge has ended: hear what it said last, and let the next one be due."""
        self.read(now)
        self.kill()  # what it had started
        self.pid = None
        self._close()
        lived = now - self._started_at
        if lived >= PROVEN_SECONDS and self._reported:
            self._pause, self.trouble = FIRST_PAUSE_SECONDS, ""
        if exit_code(status) == REPLACE and self._reported and lived >= REPLACED_SECONDS:
            self._start_at = now
            return
        how, self._killed_for = self._killed_for or ending_text(status), ""
        last = self._last_output.decode("utf-8", "replace").strip().rpartition("\n")[2]
        self._fault(f"the judge {how}" + (f": {last}" if last else ""), now)

    def _fault(self, sentence: str, now: float) -> None:
        self._faults += 1
        times = f" (fault {self._faults} of the gate in this container)" if self._faults > 1 else ""
        self._trouble(sentence + times)
        self._start_at = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _trouble(self, sentence: str) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.trouble = f"{at} {sentence}".replace("\0", "")[:MOST_TROUBLE]
        self._note(f"vllm-manager: {self.trouble}\n".encode())

    def _close(self) -> None:
        for number in (self._reports, self._output):
            if number is not None:
                os.close(number)
        self._reports = self._output = None

    def kill(self) -> None:
        """End the judge and what it has started."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    # -- what it says

    def file_numbers(self) -> list[int]:
        """Where it says something."""
        return [number for number in (self._reports, self._output) if number is not None]

    def read(self, now: float) -> None:
        """Take what it has said: its reports, and what it has printed, which goes into the container's log."""
        self._output, printed = _drained(self._output)
        if printed:
            self._last_output = (self._last_output + printed)[-4096:]
            self._note(printed)
        self._reports, said = _drained(self._reports)
        *lines, self._line = (self._line + said).split(b"\n")
        for line in lines:
            self._handle_line(line, now)
        if len(self._line) > MOST_LINE_BYTES:
            self._line = b""
            self._trouble("the judge's report has no end")

    def _handle_line(self, line: bytes, now: float) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self._trouble(f"the judge's report cannot be read: {line[:200].decode('utf-8', 'replace')}")
            return
        if "verdict" in message:
            self.report = {**self.report, **message}
            self._heard_at, self._reported = now, True
        if "end" in message or "last_words" in message:
            self.messages.append(message)

    # -- time

    def check(self, now: float, gap: float) -> None:
        """Kill a judge that hangs. A gap in the stem's own time (seconds) says nothing about the judge."""
        self._heard_at += gap
        if self.pid is not None and now - self._heard_at >= HUNG_SECONDS:
            self._killed_for = f"did not report for {HUNG_SECONDS:.0f} s and was killed"
            self._heard_at = now  # it may take a moment to end
            self.kill()

    def silent(self, now: float) -> bool:
        """Whether somebody else has to answer."""
        return self.pid is None or now - self._heard_at >= self._patience

    @property
    def _patience(self) -> float:
        return SILENT_SECONDS if self._reported else FIRST_REPORT_SECONDS

    def why_silent(self, now: float) -> str:
        """Why the stem has to answer, for people."""
        hangs = "the judge runs and does not report" if self.pid is not None and self.silent(now) else ""
        return "; ".join(part for part in (hangs, self.trouble) if part)

    def next_at(self, now: float) -> float:
        """When something is due if nobody says anything."""
        if self.pid is None:
            return self._start_at
        return self._heard_at + (HUNG_SECONDS if self.silent(now) else self._patience)

    def notify_leaving(self) -> None:
        """Say once that the engine's end was asked for, to a judge that has reported: it can take the signal then."""
        if self.pid is not None and self._reported and not self._leaving_sent:
            self._leaving_sent = True
            os.kill(self.pid, signal.SIGUSR1)


def spawn(
    command: Sequence[str], environment: Mapping[str, str], *, stdout: int, stderr: int, stdin: str | None = None
) -> int:
    """Start a process in a group of its own, with the signals as a fresh one has them; its id.

    Between fork and exec no Python runs here, so other threads do no harm.

    Raises:
        OSError: the command does not exist (ENOENT), or cannot be executed.
    """
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stderr, 2)]
    if stdin is not None:
        actions.append((os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0))
    defaults = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    words = list(command)
    return os.posix_spawnp(
        words[0], words, environment, file_actions=actions, setpgroup=0, setsigmask=(), setsigdef=defaults
    )


def write_all(writing: int, data: bytes) -> None:
    """Write and close, however long that takes."""
    with os.fdopen(writing, "wb", buffering=0) as file:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except BrokenPipeError:  # nobody wants it
            return


def _pipe_from_judge(lent: list[int]) -> tuple[int, int]:
    """Both ends of a pipe on which a judge says something; the one that is lent to it is added to the list."""
    reading, writing = os.pipe()
    lent.append(writing)
    os.set_blocking(reading, False)  # it takes no keyword
    return reading, writing


def _drained(number: int | None) -> tuple[int | None, bytes]:
    """What there is to read at the moment; and the file, or None after its end, closed."""
    data = b""
    for _ in range(MOST_READS):
        if number is None:
            break
        try:
            more = os.read(number, 65536)
        except BlockingIOError:
            break
        if not more:
            os.close(number)
            number = None
        data += more
    return number, data


def judge_command(folder: str, words: Sequence[str]) -> list[str]:
    """The command line of a judge out of this folder, to be run in the folder above."""
    python = sys.executable or os.readlink("/proc/self/exe")
    return [python, "-S", "-E", "-B", "-m", f"{os.path.basename(folder)}.program", *words]
