"""Processes that were ended by a signal: named as the signal, with what mostly causes it and the way out.

Kubelet and vLLM tell only numbers. Kubelet: 128 plus the signal, for the first process of a container. vLLM 0.32.0, as
read in its source: the negative signal, for a worker (v1/executor/multiproc_executor.py) and for an engine core that
did not get through its start (v1/engine/utils.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_FIRST_PROCESS: Final = 128
"""What shells, container runtimes and so kubelet add to the signal that ended the first process of a container."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal that ends processes, by its number on Linux."""

    name: str
    meaning: str
    hint: str = ""
    """What it mostly comes from in an engine, and the way out; empty where there are too many causes."""

    def __str__(self) -> str:
        return f"{self.name} ({self.meaning})"


SIGNALS: Final = {
    4: Signal(
        "SIGILL",
        "illegal instruction",
        "the image uses instructions that the processor has not, or that Linux lets nobody use without leave (AMX, in "
        "vLLM's CPU build): set spec.accelerator.profile: cpu where the engine runs on CPU, or use other nodes",
    ),
    6: Signal("SIGABRT", "abort"),
    7: Signal(
        "SIGBUS", "bus error", "mostly /dev/shm is full: raise spec.storage.sharedMemory and the memory limit with it"
    ),
    8: Signal("SIGFPE", "arithmetic error"),
    9: Signal(
        "SIGKILL",
        "killed",
        "mostly by the kernel, out of memory: raise spec.resources.limits.memory, or let the engine use less",
    ),
    11: Signal("SIGSEGV", "segmentation fault"),
    15: Signal("SIGTERM", "asked to end"),
    31: Signal("SIGSYS", "bad system call", "the pod's seccomp profile forbids a system call that the engine makes"),
}
"""Numbers of x86-64 and arm64, which are the same (signal(7))."""

_GRACE_OVER: Final = (
    "kubelet ends so what a probe has given up, or what was deleted, and has not ended within its grace period; "
    "else the kernel does, out of memory"
)

_PROCESSES: Final = (
    ("worker process", re.compile(r"Worker proc (\S+) died unexpectedly \(exit code: -(\d+)\)")),
    ("engine core", re.compile(r"Failed core proc\(s\): \{.*?'([^']+)': -(\d+)")),
)
"""What vLLM says of its processes: the name, and the signal."""


def exit_signal(code: int | None) -> Signal | None:
    """The signal of a container's exit code; None where it ended by itself, or by a signal that is not known here."""
    return SIGNALS.get(code - _FIRST_PROCESS) if code is not None else None


def exit_hint(code: int | None, reason: str) -> str:
    """What mostly ends a container in this way; empty where there are too many causes.

    Args:
        code: Its exit code.
        reason: Kubelet's word for its end: OOMKilled, Error.
    """
    signal = exit_signal(code)
    if signal is SIGNALS[9] and reason != "OOMKilled":
        return _GRACE_OVER
    return signal.hint if signal else ""


def killed_process(log: str) -> str:
    """What the end of an engine's log says of a process that a signal ended, with a hint; empty where nothing."""
    for kind, pattern in _PROCESSES:
        found = pattern.search(log)
        signal = SIGNALS.get(int(found[2])) if found else None
        if found and signal:
            told = f"{kind} {found[1]} was ended by {signal}"
            return f"{told}: {signal.hint}" if signal.hint else told
    return ""
