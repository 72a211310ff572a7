"""What the termination message of an engine's container says: why it ended, and the root cause. Pure.

The manager writes one sentence, and below it what the engine's log has for a root cause. Where the manager had no time
to write (the kernel killed it), kubelet puts the end of the container's log there, which begins anywhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.diagnosis.cause import quoted
from vllm_operator.diagnosis.known import unmarked
from vllm_operator.diagnosis.signals import killed_process

if TYPE_CHECKING:
    from collections.abc import Mapping

_KNOWN: Final = re.compile(
    r"ended by its (?:manager|gate): |the engine (?:ended|was)\b|the end was asked for|the kernel killed \d+ "
)
"""How the sentences of a manager begin that say what they are about; `gate` in pods from before there was a manager."""

OUT_OF_MEMORY: Final = "the kernel killed "
"""How the sentence of a manager begins that has seen in its cgroup that memory was short."""

_OWN_ENDS: Final = frozenset({"Error", "Completed"})
"""Kubelet's reasons where a container has ended by itself. A container that could not be started has others, with the
words of the container runtime, and so has one that the kernel ended."""

_KILLED: Final = 137
"""Exit code of a manager that was killed, with the end of the log for its message; else it has left its sentence."""

_NOT_STARTED: Final = frozenset({2, 66, 73, 98, 126, 127})
"""Exit codes of a manager that could not start its engine: no command line, no certificate, no key, port taken, no
program."""

_ERROR: Final = re.compile(r"\b[A-Za-z_.]*(?:Error|Exception|Exit|Interrupt)\b: ")
"""A line of a log that names an exception with its message: the last one is what the process died of."""

_PREFIX: Final = re.compile(r"^\([^()]* pid=\d+\) *(?:(?:[A-Z]+ +\S+ \S+ +)?\[[^][]+:\d+\] *)?")
"""What vLLM puts before a line: process, level, time and place, of which the first and third differ from start to
start."""

_ROUTINE: Final = re.compile(r"(?:\([^()]* pid=\d+\) *)?(?:INFO|DEBUG)\b")
"""How lines of a log begin, vLLM's and its web server's, that tell of nothing wrong."""


def managers_sentence(terminated: Mapping[str, Any], *, managed: bool) -> str:
    """Why a container has ended, in the words of its manager; empty where they are not a manager's.

    Args:
        terminated: How it ended, as kubelet reports it.
        managed: Whether its pod has a manager.
    """
    first = _lines(terminated)[0]
    if _KNOWN.match(first):
        return first
    code = terminated.get("exitCode")
    if not managed or not first or code == _KILLED or terminated.get("reason") not in _OWN_ENDS:
        return ""
    return f"cannot start: {first}" if code in _NOT_STARTED else f"ended by its manager: {first}"


def cause_below(terminated: Mapping[str, Any]) -> str:
    """The root cause, as it stands below a manager's sentence; empty where none does.

    Where the log names no cause, its end stands there: the last answered request is none.
    """
    lines = unmarked(_lines(terminated)[1].splitlines())
    return cause_in("\n".join(line for line in lines if not _ROUTINE.match(line)))


def _lines(terminated: Mapping[str, Any]) -> tuple[str, str]:
    """The first line of a termination message, and the others."""
    first, _, others = str(terminated.get("message") or "").lstrip().partition("\n")
    return first.strip(), others


def cause_in(log: str) -> str:
    """The root cause in a part of a log: a process that a signal ended, else the last exception, else the last line."""
    lines = [_PREFIX.sub("", line.strip()) for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.search(line)]
    return killed_process(log) or quoted((errors or lines or [""])[-1])
