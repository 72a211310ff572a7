"""When two messages tell the same: causes without what differs from pod to pod and from look to look. Pure."""

from __future__ import annotations

import re
from typing import Final

_SUFFIX: Final = "bcdfghjklmnpqrstvwxz2456789"
"""The characters of generated names (apimachinery pkg/util/rand)."""

_CHANGING: Final = (
    (re.compile(r"\bheld by [^:;]+"), "held by HOLDERS"),
    (re.compile(r" \(at most \d+ on one node\)"), ""),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(rf"\b[a-z0-9][-a-z0-9.]*-[{_SUFFIX}]{{4,10}}-[{_SUFFIX}]{{5}}\b"), "POD"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{12,}\b"), "ID"),
    (re.compile(r"(?<!exit code )(?<!HTTP )\b\d+(?:\.\d+)*(?:[smh]\b)?"), "N"),
)
"""Who holds what an engine waits for, and times, names of pods, ids and numbers; an exit code and an HTTP status are
causes, not numbers."""

_MORE: Final = re.compile(r"and N more")


def causes_in(message: str) -> frozenset[str]:
    """The causes that a condition's message tells, each once, in a form that is the same for every pod and moment."""
    for pattern, name in _CHANGING:
        message = pattern.sub(name, message)
    return frozenset(clause for clause in message.split("; ") if clause and not _MORE.fullmatch(clause))
