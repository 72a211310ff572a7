"""How often the container was started again, by what ended the life before: counted over all lives of a pod.

A judge that gives an engine up ends with it, so nobody could read its count. It stands in a file of the pod's memory
volume, which outlives the container; the first judge of each life adds what the time line tells of the one before.
"""

from __future__ import annotations

import contextlib
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .timeline import Entry, TimeLine

FILE = "restarts.json"
KUBELET, ENGINE_ENDED, OTHER = "Kubelet", "EngineEnded", "Other"
CAUSES = (
    *("Gone", "Silent", "ServerBusy", "Stalled", "Failing", "StartupBudget", "WorkerLost"),
    *(KUBELET, ENGINE_ENDED, OTHER),
)
"""Causes of the judge's verdict `restart`, and three more: kubelet ended the container, the engine ended by itself, and
what a judge of another version says. All of them are counted from 0 on, so that the first one is an increase."""
MOST_BYTES = 4096
SAME_LIFE_SECONDS = 1.0
"""The birth of an engine is reckoned from two clocks, by each judge anew: such a difference is none."""


def counted(folder: str, timeline: TimeLine) -> dict[str, int]:
    """The restarts of the pod by cause, with the one that began this life. A file that cannot be kept is no fault.

    Args:
        folder: Where the file is.
        timeline: Tells which life this is, and how the one before ended.
    """
    path = os.path.join(folder, FILE)
    stored = _read(path)
    counts = _counts(stored.get("counts"))
    if _is_same(stored.get("life"), timeline.life):
        return counts
    if stored or timeline.before is not None:
        cause = cause_of(timeline.before)
        counts[cause] += 1
    _write(path, {"life": timeline.life, "counts": counts})
    return counts


def cause_of(last: Entry | None) -> str:
    """What ended a life, by the last that its judge has said: one of CAUSES."""
    if last is not None and last.verdict == "restart":
        return last.cause if last.cause in CAUSES else OTHER
    return KUBELET if last is not None and last.verdict == "leaving" else ENGINE_ENDED


def _counts(stored: object) -> dict[str, int]:
    given = stored if isinstance(stored, dict) else {}
    return {cause: _number(given.get(cause)) for cause in CAUSES}


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _is_same(stored: object, life: str) -> bool:
    """Whether two lives (`PID:BIRTH`) are one."""
    if not isinstance(stored, str) or stored == life:
        return stored == life
    (number, _, birth), (other, _, born) = stored.partition(":"), life.partition(":")
    try:
        return number == other and abs(float(birth) - float(born)) < SAME_LIFE_SECONDS
    except ValueError:
        return False


def _read(path: str) -> Mapping[str, Any]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name would wait for a writer
        try:
            stored = json.loads(os.read(descriptor, MOST_BYTES))
        finally:
            os.close(descriptor)
    except (OSError, ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _write(path: str, document: Mapping[str, object]) -> None:
    """Write the file anew, whole or not at all. Where it cannot be, the restart before this life is all that counts."""
    new = f"{path}.new"
    try:
        with open(new, "w", encoding="utf-8") as file:
            json.dump(document, file)
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)
