"""The end of a vLLM engine, run by kubelet in its container before it sends SIGTERM (preStop).

    stop.py --state FOLDER --leave SECONDS [--restart-window SECONDS] [--restart never]

An engine that serves gets time to leave the endpoints, since a server that drains refuses new requests. One that has
not completed a prompt yet, or that the gate has given up, has nothing to finish, and its GPUs are wanted: vLLM ignores
SIGTERM while it loads, so its processes are killed and the first one is interrupted, for which Python always has a
handler (measured on vLLM 0.32 at any moment of its start: gone after 0.5 to 2 s; never, if SIGTERM comes before or
meanwhile).

Why it was ended is left where kubelet looks for a container's last words.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from vllm_operator.gates import judge, memory, probe, processes
else:  # in the pod the files lie side by side in one folder
    import judge
    import memory
    import probe
    import processes

LAST_WORDS = "/dev/termination-log"
LEAVE_SECONDS = 5.0
"""What an engine gets where its own figure cannot be read."""


def main(words: list[str]) -> int:
    """End the engine, or give it its time. Whatever goes wrong here must not cost requests: then it gets its time."""
    leave = LEAVE_SECONDS
    try:
        given = probe.options(words)
        leave = float(given["leave"])
        verdict = last_verdict(given["state"], probe.settings_of(given, os.uname().nodename))
        if verdict.kind in (judge.STARTING, judge.RESTART):
            leave_words(f"{judge.ENDED}: {verdict.sentence}")
            # which most often ends this program as well: until then kubelet's SIGTERM would only disturb it
            end(processes.first())
    except Exception as error:  # noqa: BLE001 # see above
        sys.stdout.write(f"the gate itself failed: {error!r}\n")
    time.sleep(leave)
    return 0


def last_verdict(folder: str, settings: judge.Settings) -> judge.Verdict:
    """What the probes' last look has come to.

    Raises:
        OSError: the container's first process cannot be seen.
    """
    state = memory.load_state(os.path.join(folder, memory.STATE_FILE), processes.container_birth())
    return judge.verdict(state, settings)


def leave_words(text: str) -> None:
    """Have kubelet tell it as the message of the container's end."""
    with contextlib.suppress(OSError), open(LAST_WORDS, "w", encoding="utf-8") as file:
        file.write(text)


def end(first: int) -> None:
    """Interrupt the first process and kill all others of this container, but not this one."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(first, signal.SIGINT)
    for number in neighbours(first):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(number, signal.SIGKILL)


def neighbours(first: int) -> list[int]:
    """The other processes of this container, but for this one."""
    return [number for number in processes.own() if number not in (first, os.getpid())]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
