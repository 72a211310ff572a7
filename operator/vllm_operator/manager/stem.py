"""Process 1 of an engine's container: starts the engine, relays its output, and keeps the judge alive.

    stem.py --gate-port NUMBER [--leave SECONDS] [--keys VARIABLE,VARIABLE] [--certificate FOLDER]
            [--nodes NUMBER] [--drain SECONDS] [the judge's options] -- COMMAND...

It judges nothing. The engine's life is its own life: it ends as the engine does, but with exit code 0 only if somebody
had asked for the end. What it imports it imports at its start, so that files which change under a running pod do not
matter to it. Nothing here waits for a client, for the judge or for the container's log: those waits are in `relay.py`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ASKING = (signal.SIGTERM, signal.SIGINT)
if __name__ == "__main__":
    # The kernel drops what process 1 has not asked for, for good: held back, it is there when this program can answer.
    # Without that, a pod that is deleted while what follows is imported keeps its GPUs for its whole grace period.
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)

if TYPE_CHECKING or __package__:
    from . import certificate, cgroup, fallback, keeper, keys, relay
else:  # it is run as a file: its folder is where it imports from
    import certificate
    import cgroup
    import fallback
    import keeper
    import keys
    import relay

FOLDER = os.path.dirname(os.path.abspath(__file__))
TERMINATION_LOG = "/dev/termination-log"
MOST_MESSAGE_BYTES = 3000
LEAVE_SECONDS = 5.0
LAST_WORDS_SECONDS = 2.0
"""What the judge has to say why the engine ended."""

LOG_END_SECONDS = 1.0
"""So long after the engine's end the judge's copy of the log ends at the latest, whether the runtime reads or not."""

DRAIN_SECONDS = 10.0
"""A runtime that has read nothing of the log for so long after the engine's end will not read the rest."""

KILL_SECONDS = 30.0
"""A process that is killed and still there after so long is stuck in the kernel: the rest is up to the node."""

LONGEST_WAIT_SECONDS, LONGEST_TURN_SECONDS = 5.0, 7.0
"""A turn of the loop that took longer than the second one proves that this process itself did not run: a suspended
machine, a frozen container."""

USAGE, PORT_TAKEN, NO_KEYS, NO_CERTIFICATE, NOT_EXECUTABLE, NOT_FOUND = 2, 98, 73, 66, 126, 127
"""Exit codes where no engine was started: EADDRINUSE, EX_CANTCREAT, EX_NOINPUT, and the last two as a shell has
them."""

HEADLESS = "--headless"
"""Argument of an engine that is one of several pods, and not the one that serves."""

HANDED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGQUIT)
PR_SET_CHILD_SUBREAPER = 36


class CannotStartError(Exception):
    """The engine cannot be started: an exit code and a sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def main(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the engine to its end; the container's exit code."""
    signals = Signals()
    try:
        stem = Stem(words, environment, signals)
    except CannotStartError as error:
        os.write(2, f"vllm-manager: {error}\n".encode("utf-8", "replace"))
        leave_message(str(error), "", environment)
        return error.code
    return stem.run()


class Signals:
    """What was sent to this process, by way of a pipe that wakes the loop."""

    def __init__(self) -> None:
        self.wakes, writing = os.pipe()
        for number in (self.wakes, writing):
            os.set_blocking(number, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._received: list[int] = []
        for number in (*ASKING, *HANDED_ON):
            signal.signal(number, self._receive)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only wakes
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)

    def _receive(self, number: int, _frame: object) -> None:
        if number not in self._received:
            self._received.append(number)

    def take(self) -> list[int]:
        """Those since the last call, each once."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.wakes, 4096):
                continue
        taken = []
        while self._received:
            taken.append(self._received.pop(0))
        return taken


class Stem:
    """One engine, from its start to its end."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], signals: Signals) -> None:
        """Start the engine, and have all at hand to keep it company.

        Raises:
            CannotStartError: the engine does not run.
        """
        options, engine = split(words)
        given = dict(zip(options[::2], options[1::2]))  # noqa: B905 # strict= is new in 3.10
        self._environment, self._signals = environment, signals
        self._leave = seconds(given, "--leave", LEAVE_SECONDS)
        if is_worker(given, environment):
            engine.append(HEADLESS)
            self._leave += seconds(given, "--drain", 0.0)  # its leader finishes requests, and says when it has
        self._listener = listening(given)
        engine += key_arguments(given, environment)
        copy_certificate(given, environment)
        self._began = utc()
        self._kills_before = cgroup.oom_kills()
        self._log = relay.Log()
        self._stop_reading, self._stop = os.pipe()
        trouble = become_reaper()
        self._engine = self._start_engine(engine)
        if trouble:
            self._note(f"vllm-manager: {trouble}\n".encode())
        with contextlib.suppress(OSError):  # then no judge starts, which is told, and the engine runs
            os.chdir(os.path.dirname(FOLDER))
        self._listener.set_inheritable(True)  # for judges: the engine runs already
        self._fallback = fallback.Fallback(self._listener)
        command, number = keeper.judge_command(FOLDER, options), self._listener.fileno()
        self._keeper = keeper.Keeper(command, environment, listener=number, log=self._log, note=self._note)
        self._asked_at = self._given_up = ""
        """When the end was asked for (RFC 3339), and why the judge gave the engine up; empty: neither was."""
        self._terminate_at: float | None = None
        self._killed_at: float | None = None
        self._ended_at: float | None = None
        self._log_ended_at: float | None = None
        self._status: int | None = None
        self._last_words: str | None = None
        self._progress = (0, 0.0)
        self._loss_noted = False

    def _start_engine(self, command: Sequence[str]) -> int:
        """The engine, and the threads that carry its output."""
        out_reading, out = os.pipe()
        err_reading, err = os.pipe()
        notes_reading, self._notes = os.pipe()
        os.set_blocking(self._notes, False)
        try:
            engine = keeper.spawn(command, self._environment, stdout=out, stderr=err)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            raise CannotStartError(
                NOT_FOUND if missing else NOT_EXECUTABLE,
                f"{command[0]} cannot be started: {error.strerror}"
                + (
                    f" (PATH is {self._environment.get('PATH')}); or what its first line names is missing"
                    if missing
                    else ""
                ),
            ) from error
        os.close(out)
        os.close(err)
        self._relays = [
            relay.Relay(out_reading, 1, self._stop_reading, self._log),
            relay.Relay(err_reading, 2, self._stop_reading, self._log),
        ]
        self._notes_relay = relay.Relay(notes_reading, 2, None, None)
        for one in (*self._relays, self._notes_relay):
            one.thread.start()
        return engine

    def _note(self, text: bytes) -> None:
        """Say something in the container's log, and not wait for it: nothing is said while nobody reads."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._notes, text)

    def run(self) -> int:
        """Keep everything going until the engine has ended; the container's exit code."""
        before = time.monotonic()
        while not self._finished(before):
            timeout = self._next_at(before) - before
            ready = self._wait(max(0.0, min(timeout, LONGEST_WAIT_SECONDS)))
            now = time.monotonic()
            self._turn(ready, now, gap=max(0.0, now - before - LONGEST_TURN_SECONDS))
            before = now
        return self._end()

    def _turn(self, ready: Mapping[int, int], now: float, gap: float) -> None:
        """One turn of the loop. The gap: how long this process itself did not run, in seconds."""
        self._keeper.read(now)  # before signals: whether the engine serves decides what SIGTERM means
        for number in self._signals.take():
            self._handle_signal(number, now)
        self._reap(now)
        for message in self._keeper.messages:
            self._handle_message(message, now)
        self._keeper.messages.clear()
        self._keeper.check(now, gap)
        if self._status is None:
            self._keeper.start_if_due(now, self._engine, leaving=bool(self._asked_at))
            if self._asked_at:
                self._keeper.notify_leaving()
            if self._terminate_at is not None and now >= self._terminate_at:
                self._terminate_at = None
                os.kill(self._engine, signal.SIGTERM)
        if self._keeper.silent(now):
            self._fallback.accept(now)
        self._fallback.serve(ready, self._state(now), now)
        self._close_log(now)
        for one in self._relays:
            if one.trouble and not self._loss_noted:
                self._loss_noted = True
                self._note(f"vllm-manager: {one.trouble}\n".encode("utf-8", "replace"))

    def _wait(self, timeout: float) -> dict[int, int]:
        """Whoever has something to say, at most so many seconds from now."""
        poll = select.poll()
        for number in (self._signals.wakes, *self._keeper.file_numbers(), *self._fallback.file_numbers()):
            poll.register(number, select.POLLIN)
        if self._keeper.silent(time.monotonic()) and not self._fallback.full:
            poll.register(self._listener.fileno(), select.POLLIN)
        return dict(poll.poll(timeout * 1000))

    def _next_at(self, now: float) -> float:
        """When something is due that no file tells."""
        if self._status is not None:
            return now + 0.05  # the relays do not tell when they are through
        times = [self._keeper.next_at(now), self._fallback.next_at(), self._terminate_at]
        if self._killed_at is not None:
            times.append(self._killed_at + KILL_SECONDS)
        return min(time for time in times if time is not None)

    def _state(self, now: float) -> fallback.State:
        return fallback.State(
            pod=os.uname().nodename,
            since=self._began,
            report=self._keeper.report,
            leaving_since=self._asked_at,
            trouble=self._keeper.why_silent(now),
        )

    # -- what is asked of it

    def _handle_signal(self, number: int, now: float) -> None:
        if self._status is not None:
            return
        if number not in ASKING:
            os.kill(self._engine, number)
        elif not self._asked_at:
            self._asked_at = utc()
            self._keeper.notify_leaving()
            if self._killed_at is None and self._keeper.report.get("serving") is True:
                self._terminate_at = now + self._leave
            else:  # it has nothing to finish, and its GPUs are wanted; vLLM that loads does not hear SIGTERM
                self._kill(now)

    def _handle_message(self, message: Mapping[str, object], now: float) -> None:
        """What the judge says beside its reports. What is not known here is for a later stem."""
        if "last_words" in message:
            self._last_words = str(message["last_words"])
        if "release" in message and self._terminate_at is not None:
            self._terminate_at = now
        if "end" in message and self._status is None and not self._given_up:
            self._given_up = str(message["end"]) or "the judge has given the engine up"
            self._kill(now)

    def _kill(self, now: float) -> None:
        """End the engine with all that it has started."""
        if self._killed_at is None:
            self._killed_at = now
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._engine, signal.SIGKILL)

    def _reap(self, now: float) -> None:
        """Take the exit codes of everybody who has ended: the engine, the judge, and orphans."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._engine and self._status is None:
                    self._status, self._ended_at, self._progress = status, now, (0, now)
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)  # as the kernel does where the engine is process 1
                    os.close(self._stop)
                elif pid == self._keeper.pid:
                    self._keeper.ended(status, now)

    # -- the end

    def _close_log(self, now: float) -> None:
        """Tell the judge that the engine has ended, once it has all of the output."""
        if self._ended_at is None or self._log_ended_at is not None:
            return
        if self._drained(now) or now - self._ended_at >= LOG_END_SECONDS:
            self._log.close()
            self._log_ended_at = now

    def _drained(self, now: float) -> bool:
        """Whether all output is out, or nobody reads it."""
        relayed = sum(one.relayed_bytes for one in self._relays)
        if relayed != self._progress[0]:
            self._progress = (relayed, now)
        return not any(one.thread.is_alive() for one in self._relays) or now - self._progress[1] >= DRAIN_SECONDS

    def _finished(self, now: float) -> bool:
        if self._status is None:
            return self._killed_at is not None and now - self._killed_at >= KILL_SECONDS
        if not self._drained(now):
            return False
        if self._last_words is not None or self._keeper.pid is None or (self._asked_at and self._killed_at is not None):
            return True
        return self._log_ended_at is not None and now - self._log_ended_at >= LAST_WORDS_SECONDS

    def _end(self) -> int:
        code, sentence = self._verdict()
        self._keeper.kill()
        unexplained = code != 0 and not self._given_up
        details = "" if code == 0 else self._last_words or (self._log.tail() if unexplained else "")
        trouble = leave_message(sentence, details, self._environment)
        if code != 0 or trouble:
            self._note(f"vllm-manager: {sentence}\n{trouble}".encode("utf-8", "replace"))
        os.close(self._notes)
        self._notes_relay.thread.join(LAST_WORDS_SECONDS)
        return code

    def _verdict(self) -> tuple[int, str]:
        """The container's exit code, and why."""
        if self._status is None:
            return 1, f"{self._given_up or 'its end was asked for'}; the engine was killed and is still there"
        how = keeper.ending_text(self._status)
        kills = self._kills()
        memory = (
            f"the kernel killed {kills} of this container's processes for memory (cgroup oom_kill): " if kills else ""
        )
        if self._given_up:
            return 1, memory + self._given_up
        if self._asked_at and self._killed_at is not None:
            return 0, "the end was asked for, and the engine had nothing to finish: it was killed"
        code = keeper.exit_code(self._status)
        if self._asked_at:
            return code, f"{memory}the end was asked for, and the engine {how}"
        sentence = f"{memory}the engine {how}, which nobody had asked for"
        return code or 1, sentence

    def _kills(self) -> int:
        now = cgroup.oom_kills()
        return 0 if now is None or self._kills_before is None else now - self._kills_before


def utc() -> str:
    """This moment (RFC 3339)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The manager's own words, and the engine's command line after the first `--`.

    Raises:
        CannotStartError: there is no such line.
    """
    end = list(words).index("--") if "--" in words else len(words)
    if not words[end + 1 :]:
        raise CannotStartError(USAGE, "no engine to start: the container's args must be its command line")
    return list(words[:end]), list(words[end + 1 :])


def seconds(given: Mapping[str, str], name: str, default: float) -> float:
    """A number out of the options.

    Raises:
        CannotStartError: it is none.
    """
    try:
        return float(given.get(name, default))
    except ValueError:
        raise CannotStartError(USAGE, f"{name} must be a number of seconds, and is {given[name]}") from None


def is_worker(given: Mapping[str, str], environment: Mapping[str, str]) -> bool:
    """Whether the engine is the part of a larger one that serves nothing: the pod's number in its group says so."""
    return "--nodes" in given and environment.get("LWS_WORKER_INDEX", "0") not in ("", "0")


def key_arguments(given: Mapping[str, str], environment: Mapping[str, str]) -> list[str]:
    """What the engine's command line needs for several API keys.

    Raises:
        CannotStartError: they cannot be handed over.
    """
    if not given.get("--keys"):
        return []
    try:
        return keys.arguments(given["--keys"].split(","), environment, keys.FOLDERS)
    except keys.NoKeysError as error:
        raise CannotStartError(NO_KEYS, str(error)) from error


def copy_certificate(given: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """Make the files with which the server speaks https, where it does.

    Raises:
        CannotStartError: no server could use them. The engine would find out once it had loaded its model.
    """
    if not given.get("--certificate"):
        return
    try:
        certificate.Copies(given["--certificate"], environment).make()
    except certificate.CertificateError as error:
        raise CannotStartError(NO_CERTIFICATE, str(error)) from error


def listening(given: Mapping[str, str]) -> socket.socket:
    """The gate's socket: for both IP families where the machine has both.

    Raises:
        CannotStartError: the port cannot be had.
    """
    text = given.get("--gate-port", "")
    try:
        port = int(text)
    except ValueError:
        raise CannotStartError(USAGE, f"--gate-port must be a number, and is {text!r}") from None
    try:
        listener = bound(port)
    except (OSError, OverflowError) as error:
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        why = (
            "is taken by another process of this pod, or of this node with hostNetwork"
            if taken
            else f"cannot be opened: {error}"
        )
        raise CannotStartError(
            PORT_TAKEN, f"port {port} of the gate {why}; choose another one by spec.gates.port"
        ) from None
    listener.settimeout(0)
    return listener


def bound(port: int) -> socket.socket:
    """A socket that listens on all addresses.

    Raises:
        OSError: the port is taken or forbidden.
    """
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=128, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
    return socket.create_server(("", port), backlog=128)


def become_reaper() -> str:
    """Have orphans come to this process where it is not process 1; what stands in the way."""
    if os.getpid() == 1:
        return ""
    try:
        import ctypes  # noqa: PLC0415 # costs memory, and process 1 needs it not

        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0:
            return ""
    except (ImportError, OSError, AttributeError) as error:
        return f"orphans are left to process 1 of the pod: {error!r}"
    return "orphans are left to process 1 of the pod: prctl failed"


def leave_message(sentence: str, details: str, environment: Mapping[str, str]) -> str:
    """Write the container's termination message: a sentence, then what is known beside; what stood in the way."""
    path = environment.get("GATE_TERMINATION_LOG", TERMINATION_LOG)
    head = (sentence.strip()[:1000] + "\n").encode("utf-8", "replace")
    message = head + last_lines(details.encode("utf-8", "replace"), MOST_MESSAGE_BYTES - len(head))
    try:
        with open(path, "wb") as file:
            file.write(message)
    except OSError as error:
        return f"vllm-manager: no termination message: {path}: {error.strerror}\n"
    return ""


def last_lines(text: bytes, most_bytes: int) -> bytes:
    """The end of a text, from the beginning of a line on where it is cut."""
    if len(text) <= most_bytes:
        return text
    end = text[-most_bytes:]
    return end[end.index(b"\n") + 1 :] if b"\n" in end[:-1] else end.decode("utf-8", "ignore").encode()


if __name__ == "__main__":
    ended = main(sys.argv[1:], os.environ)
    os._exit(ended)  # threads that still wait for the container's log must not hold it up
