"""The revisions of a model: which there are, what each changed, and which one an undo goes back to. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.revisions import same_pods

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_operator.api.revisions import Revision

LONGEST_VALUE: Final = 40
"""Characters of a value that are shown in a line of changes."""
ONLY_TEMPLATE: Final = "the pod template alone"


class UnknownRevisionError(Exception):
    """There is no such revision to go back to; the text says which there are."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One revision beside the one before it."""

    revision: Revision
    is_current: bool
    """Whether the engines are, or are about to be, of this one: it has the greatest number."""
    changes: tuple[str, ...]
    """What it changed: paths in the spec with their values; empty for the first one that is known."""


def entries(revisions: Sequence[Revision]) -> list[Entry]:
    """The revisions by number, each with what it changed. A revision that came back has a new number."""
    ordered = sorted(revisions, key=lambda one: one.number)
    found = []
    for place, revision in enumerate(ordered):
        before = ordered[place - 1] if place else None
        changes = tuple(changed(before.spec, revision.spec)) or (ONLY_TEMPLATE,) if before else ()
        found.append(Entry(revision, revision is ordered[-1], changes))
    return found


def numbered(revisions: Sequence[Revision], number: int) -> Revision:
    """The revision with this number.

    Raises:
        UnknownRevisionError: there is none.
    """
    for revision in revisions:
        if revision.number == number:
            return revision
    known = ", ".join(str(one.number) for one in sorted(revisions, key=lambda one: one.number)) or "none"
    raise UnknownRevisionError(f"unable to find specified revision {number} in history (there are: {known})")


def rollback_target(revisions: Sequence[Revision], spec: Mapping[str, Any]) -> Revision:
    """What undoes the last change: the newest revision that is not what the spec says now.

    That is the second newest where the operator has recorded the spec, and the newest where it has not: because it
    has not come to it yet, or because it refuses the spec.

    Raises:
        UnknownRevisionError: there is none.
    """
    others = [one for one in revisions if not same_pods(one.spec, spec)]
    if not others:
        raise UnknownRevisionError("no rollout history found: there is no revision but the current one")
    return max(others, key=lambda one: one.number)


def changed(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The fields that differ, as `engine.maxModelLen: 1024 -> 2048`; of long values their paths alone."""
    for name in sorted(before.keys() | after.keys()):
        here = f"{path}{name}"
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from changed(old, new, f"{here}.")
        else:
            text = f"{_shown(old)} -> {_shown(new)}"
            yield f"{here}: {text}" if len(text) <= LONGEST_VALUE else here


def _shown(value: Any) -> str:
    return "unset" if value is None else json.dumps(value)
