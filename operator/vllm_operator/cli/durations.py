"""Durations as Go's tools take them: `90s`, `1h30m`, `0`."""

from __future__ import annotations

import re
from typing import Final

import typer

_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


def seconds_of(text: str) -> float:
    """A duration in seconds, as `time.ParseDuration` of Go reads it; none below zero.

    Raises:
        typer.BadParameter: it is none.
    """
    if text == "0":
        return 0.0
    if not _WHOLE.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is no duration: give a number and a unit, such as 30s, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
