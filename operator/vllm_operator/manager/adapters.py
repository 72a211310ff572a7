"""Which LoRA adapters an engine is to serve, and what to do next so that it does. Pure, but for reading the list.

The list is either part of the manager's options, and then every adapter on it was there at the engine's start; or it is
a file that the operator changes while the engine runs (a ConfigMap, which kubelet replaces as a whole):

    {"version": "5f0c...", "adapters": [{"name": "sql", "path": "/mnt/claims/adapters/sql", "required": true}]}

Only of such a list are adapters taken away again, and only those that stood on it: what others have loaded over the
server's API is theirs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

LOAD, REPLACE, UNLOAD = "load", "replace", "unload"

TRIAL = " (trial)"
"""After the name of an adapter that is loaded to see whether it can be: no name of a list has a blank."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 15.0, 300.0
"""Before an adapter is tried again that could not be loaded: doubled with each time."""
SILENT_PAUSE_SECONDS = 60.0
"""The least after a try that got no answer: while one is on its way, a hang is not told from it."""

REFUSALS = ("Refused", "Failing", "NoEndpoint", "WrongModel")
"""Causes of the server's own answer: a second try would most likely bring the same. Others say nothing of adapters."""


@dataclass(frozen=True)
class Wanted:
    """An adapter of the list."""

    name: str
    path: str
    """Where the engine finds it; empty: not known."""
    required: bool = True
    """Whether the engine may take no traffic without it, whatever stands in its way."""


@dataclass(frozen=True)
class AdapterList:
    """What an engine is to serve."""

    adapters: tuple[Wanted, ...] = ()
    version: str = ""
    """By which the operator knows which list is followed; empty for one that never changes."""

    def named(self, name: str) -> Wanted | None:
        """The adapter of that name."""
        return next((one for one in self.adapters if one.name == name), None)


@dataclass(frozen=True)
class Failure:
    """An adapter that could not be loaded, replaced or unloaded."""

    path: str
    sentence: str
    refused: bool
    """Whether the server itself has said no."""
    tries: int
    due_at: float
    """When it is tried again, on the monotonic clock."""


@dataclass(frozen=True)
class Step:
    """One request to the server."""

    kind: str
    """LOAD, REPLACE or UNLOAD."""
    name: str
    path: str = ""


def read_list(path: str) -> AdapterList:
    """The list in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such list.
    """
    with open(path, encoding="utf-8") as file:
        return list_of(file.read())


def list_of(text: str) -> AdapterList:
    """Read a list; what is not known of an adapter is passed over.

    Raises:
        ValueError: it is none.
    """
    try:
        document = json.loads(text)
        found = [_wanted(one) for one in document["adapters"]]
        return AdapterList(tuple(found), str(document["version"]))
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"it is no list of adapters: {error!r}") from None


def _wanted(one: Mapping[str, Any]) -> Wanted:
    return Wanted(str(one["name"]), str(one["path"]), one.get("required") is True)


def steps(
    wanted: AdapterList,
    served: Mapping[str, str],
    ours: Collection[str],
    failures: Mapping[str, Failure],
    now: float,
) -> tuple[Step, ...]:
    """What is to be asked of the server now: first what goes, then what comes.

    Args:
        wanted: The list, of a file.
        served: Path of each adapter that the server has, by name; empty where it does not say the path.
        ours: Names of adapters that stood on the list while the server had them.
        failures: What could not be done before, by name.
        now: The monotonic clock.
    """
    gone = [
        Step(UNLOAD, name) for name in served if name.endswith(TRIAL) or (name in ours and wanted.named(name) is None)
    ]
    come = [Step(LOAD, one.name, one.path) for one in wanted.adapters if one.name not in served]
    moved = [
        Step(REPLACE, one.name, one.path) for one in wanted.adapters if served.get(one.name) not in (None, "", one.path)
    ]
    return tuple(step for step in (*gone, *moved, *come) if _due(step, failures.get(step.name), now))


def _due(step: Step, failure: Failure | None, now: float) -> bool:
    return failure is None or failure.path != step.path or now >= failure.due_at


def failed(step: Step, before: Failure | None, cause: str, sentence: str, now: float) -> Failure:
    """What is remembered of a step that failed."""
    tries = before.tries + 1 if before is not None and before.path == step.path else 1
    pause = min(FIRST_PAUSE_SECONDS * 2 ** min(tries - 1, 8), LONGEST_PAUSE_SECONDS)
    refused = cause in REFUSALS
    due_at = now + (pause if refused else max(pause, SILENT_PAUSE_SECONDS))
    return Failure(step.path, sentence, refused, tries, due_at)


def kept(failures: Mapping[str, Failure], wanted: AdapterList, served: Mapping[str, str]) -> dict[str, Failure]:
    """The failures that still stand: of what is wanted and not served so, and of what is to go and is still there."""
    found = {}
    for name, failure in failures.items():
        one = wanted.named(name)
        path = "" if one is None else one.path
        done = name not in served if one is None else served.get(name) in (path, "")
        if failure.path == path and not done:
            found[name] = failure
    return found


def missing(
    wanted: AdapterList,
    served: Collection[str],
    ours: Collection[str],
    failures: Mapping[str, Failure],
    *,
    admitted: bool,
) -> list[str]:
    """Names without which the engine may take no traffic.

    Before its first prompt those are all but the ones that the server itself refuses and not every other engine has.
    Afterwards those that it had and has lost, and those that every other one has: what comes newly on the list is
    loaded while it serves.
    """
    found = []
    for one in wanted.adapters:
        if one.name in served:
            continue
        failure = failures.get(one.name)
        refused = failure is not None and failure.refused
        if one.required or (one.name in ours if admitted else not refused):
            found.append(one.name)
    return found
