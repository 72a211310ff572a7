"""Probe of a vLLM engine, run by kubelet in its container.

    probe.py startup|ready|live --port NUMBER --model NAME --state FOLDER [--canary completions|pooling|...]
        [--adapters "NAME NAME ..."]
        [--canary-interval SECONDS|never] [--stall-window SECONDS] [--restart-window SECONDS] [--restart never]

The exit code is the verdict (0 passes, 1 does not) and the sentence on standard output appears in the pod's Events.
Options that are not known are ignored, and those that are not there have their default, so that pods of any age run
with the program of the day.

Only what is cheap to import is imported: an http.client, an argparse or a dataclass would cost more time at the start
of the interpreter than everything that is done here. This file is compiled at every run and therefore short.
"""

from __future__ import annotations

import contextlib  # noqa: F401 # as the next three: loaded here, so that only our own files are compiled anew
import fcntl  # noqa: F401
import json  # noqa: F401
import os
import socket  # noqa: F401
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from vllm_operator.gates import judge, looks, memory, processes
    from vllm_operator.gates.engine import Engine
else:  # in the pod the files lie side by side in one folder that cannot be written
    if "--state" in sys.argv[:-1]:  # so the compiled ones are kept beside the state
        sys.pycache_prefix = os.path.join(sys.argv[sys.argv.index("--state") + 1], "compiled")
    try:
        import judge
        import looks
        import memory
        import processes
        from engine import Engine
    except Exception as error:  # noqa: BLE001 # as in main: a mistake of ours takes away no engine that was admitted
        sys.stdout.write(f"the gate itself failed: {error!r}\n")
        sys.exit(1 if "startup" in sys.argv[1:2] else 0)


class Clock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let time pass, and a little more than asked: sums of times are not exact."""
        time.sleep(seconds + 0.01)


def run(mode: str, engine: Engine, folder: str, settings: judge.Settings) -> judge.Verdict:
    """One run of the program. Runs of the same pod wait for each other: they share the state."""
    began = time.monotonic()
    path = os.path.join(folder, memory.STATE_FILE)
    birth = processes.container_birth()
    with memory.locked(path) as alone:
        state = memory.load_state(path, birth)
        if mode == "startup" and state.admitted and not looks.listens(engine):
            state = judge.State()  # another server will have to prove itself
            memory.save_state(path, birth, state)
        if mode == "startup" and state.admitted:
            # kubelet was restarted and asks everything anew: a saturated engine would not complete a prompt in time
            verdict = judge.Verdict(judge.SERVING, "Proven", "has completed a prompt since its start")
        elif mode != "live" and not state.admitted:
            verdict = looks.awaited(engine, Clock()) if mode == "startup" else looks.admit(engine)
            if verdict.kind == judge.ADMITTED:
                memory.save_state(path, birth, judge.State(admitted=True, proven_at=time.monotonic()))
        else:
            if alone:  # otherwise another run is just looking: its last word counts
                state = looks.judged(engine, state, settings, Clock(), patient=mode == "ready", began=began)
                memory.save_state(path, birth, state)
            verdict = judge.verdict(state, settings)
        memory.record(folder, birth, verdict)
    return verdict


def options(words: list[str]) -> dict[str, str]:
    """`--name value` pairs. The operator writes them, so anything else is a mistake in its rendering.

    Raises:
        KeyError: an option that has no default is missing, found where it is used.
    """
    return dict(zip((word.lstrip("-") for word in words[::2]), words[1::2]))  # noqa: B905 # strict= is new in 3.10


def settings_of(given: dict[str, str], pod: str) -> judge.Settings:
    """Windows of a pod of that name.

    Raises:
        ValueError: one is no number.
    """
    interval = given.get("canary-interval", judge.CANARY_INTERVAL_SECONDS)
    restart = float(given.get("restart-window", judge.RESTART_WINDOW_SECONDS))
    return judge.Settings(
        canary_interval=None if interval == "never" else float(interval),
        stall_window=float(given.get("stall-window", judge.STALL_WINDOW_SECONDS)),
        restart_window=None if given.get("restart") == "never" else judge.spread(restart, pod),
    )


def main(words: list[str]) -> int:
    """Run one probe and return its exit code.

    A mistake in this program must not take engines away that have proved themselves: only the startup probe fails on
    an unexpected error. Kubelet runs the other two only after that one has passed.
    """
    mode = words[0]
    try:
        given = options(words[1:])
        key, canary = os.environ.get("VLLM_API_KEY"), given.get("canary", "completions")
        adapters = tuple(given.get("adapters", "").split())
        development = os.environ.get("VLLM_SERVER_DEV_MODE", "") not in ("", "0")
        engine = Engine(int(given["port"]), given["model"], key, canary, adapters, development=development)
        verdict = run(mode, engine, given["state"], settings_of(given, os.uname().nodename))
    except Exception as error:  # noqa: BLE001 # the last line of defence, see above
        kind = judge.STARTING if mode == "startup" else judge.SERVING
        verdict = judge.Verdict(kind, "Mistake", f"the gate itself failed: {error!r}")
    sys.stdout.write(verdict.sentence + "\n")
    return 0 if verdict.passes(mode) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
