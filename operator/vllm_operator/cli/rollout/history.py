"""The revisions of a model: which there are, what each changed, and which one an undo goes back to. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.revisions import RESTARTED_AT, Rollback, is_later, latest, same_pods
from vllm_operator.render.untyped import part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_operator.api.revisions import Revision

LONGEST_VALUE: Final = 40
"""Characters of a value that are shown in a line of changes."""
RFC_3339: Final = "%Y-%m-%dT%H:%M:%SZ"
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


def current(revisions: Sequence[Revision], model: Mapping[str, Any]) -> Revision | None:
    """The revision that the engines are of, or are about to be; None where the operator has not recorded it.

    As the operator chooses it: the newest that asks for the same pods as the spec, or the one of these that a rollback
    asks for which has not been followed yet.
    """
    same = [one for one in revisions if same_pods(one.spec, model["spec"])]
    rollback = Rollback.of(part(model, "metadata", "annotations")) or Rollback()
    if is_later(rollback.at, latest(one.handled_at for one in revisions)):
        same = [one for one in same if one.name == rollback.revision] or same
    return max(same, key=lambda one: one.number, default=None)


def rollback_target(revisions: Sequence[Revision], model: Mapping[str, Any]) -> Revision:
    """What undoes the last change: the newest revision that is not the current one.

    That is the second newest where the operator has recorded the spec, and the newest where it has not: because it
    has not come to it yet, or because it refuses the spec. Where all engines always have the newest pod template, it is
    the newest with another spec.

    Raises:
        UnknownRevisionError: there is none.
    """
    now = current(revisions, model)
    others = [one for one in revisions if one is not now]
    if is_automatic(model):
        others = [one for one in others if not same_pods(one.spec, model["spec"])]
    if not others:
        raise UnknownRevisionError("no rollout history found: there is no revision but the current one")
    return max(others, key=lambda one: one.number)


def is_automatic(model: Mapping[str, Any]) -> bool:
    """Whether the model's engines always have the newest pod template of their spec."""
    return bool(part(model, "spec", "rollout").get("templateUpdates") == "Automatic")


def request(revisions: Sequence[Revision], model: Mapping[str, Any], target: Revision, now: datetime) -> Rollback:
    """What asks the operator for a revision: later than all that was asked for and followed before."""
    return Rollback(request_time(model, now, *(one.handled_at for one in revisions)), target.name)


def request_time(model: Mapping[str, Any], now: datetime, *handled_at: str) -> str:
    """When something is asked of a model, in RFC 3339: now, or where clocks differ after all that was asked before.

    The operator follows the latest request: one of a clock that is behind would be none.
    """
    annotations = part(model, "metadata", "annotations")
    asked = str(annotations.get(RESTARTED_AT, "")), (Rollback.of(annotations) or Rollback()).at
    before = latest([*asked, *handled_at])
    least = datetime.fromisoformat(before) + timedelta(seconds=1) if before else now
    return max(now, least).astimezone(UTC).strftime(RFC_3339)


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
