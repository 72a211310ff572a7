"""How far an engine has come in a load phase, in its manager's words, and how fast it downloads. Pure.

A rate is told only where two looks at the disk show one. A log shows none: its lines come in bursts, of several files
at a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_PART: Final = re.compile(r"(?P<done>[\d.]+) ?(?P<scale>[kMGT]i?B)? of (?P<total>[\d.]+) ?(?P<unit>[kMGT]i?B|[a-z]+)")
_SCALES: Final = {
    **{f"{letter}B": 1000.0**power for power, letter in enumerate("kMGT", 1)},
    **{f"{letter}iB": 1024.0**power for power, letter in enumerate("kMGT", 1)},
}
BYTES: Final = "bytes"
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP: Final = 1024
_SHORTEST_SECONDS: Final = 0.5
"""Between two looks whose difference is a rate."""


@dataclass(frozen=True, slots=True)
class Progress:
    """So much of so much: shards, files, graphs, or bytes."""

    done: float
    total: float
    unit: str

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return min(1.0, self.done / self.total)


def progress_of(detail: str) -> Progress | None:
    """What a manager's words say, such as `3 of 8 shards` or `1.2 GB of 4.9 GB`; None where they say no such thing."""
    found = _PART.fullmatch(detail.strip())
    if found is None:
        return None
    unit, scale = found["unit"], found["scale"]
    try:
        done, total = float(found["done"]), float(found["total"])
    except ValueError:
        return None
    if unit in _SCALES:
        done, total, unit = done * _SCALES[scale or unit], total * _SCALES[unit], BYTES
    return Progress(done, total, unit) if 0 <= done <= total and total else None


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What one look at the disk of an engine shows."""

    size_bytes: int
    at_seconds: float
    """On the monotonic clock of its node."""


def bytes_per_second(before: Downloaded | None, after: Downloaded | None) -> float | None:
    """How fast the bytes on the disk grow; None where they do not, and where that is not known."""
    if before is None or after is None:
        return None
    seconds, grown = after.at_seconds - before.at_seconds, after.size_bytes - before.size_bytes
    return grown / seconds if seconds >= _SHORTEST_SECONDS and grown > 0 else None


def size(count: float) -> str:
    """A number of bytes as people read it: `12.4 GiB`."""
    place = 0
    while count >= _STEP and place < len(_UNITS) - 1:
        count, place = count / _STEP, place + 1
    return f"{count:.1f} {_UNITS[place]}" if place else f"{count:.0f} B"
