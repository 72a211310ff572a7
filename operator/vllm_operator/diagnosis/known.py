"""Known failures of one engine: out of what its manager says, or of its container's termination message. Pure.

A manager says which failure it has recognized in the whole of the log. Where it says none, since it is of an earlier
version or was killed before it could, the words that there are are looked through here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.diagnosis.cause import quoted
from vllm_operator.diagnosis.signatures import explain, table
from vllm_operator.manager.matching import CAUSE, KINDS, MARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vllm_operator.diagnosis.signatures import Explanation

MOST_GROUPS: Final = 16
_LONGEST_NAME: Final = 64
_OOM_KILLED: Final = "OOMKilled"
"""Kubelet's reason where the kernel has ended the container's first process for memory."""
_MEMORY_LIMIT: Final = "HostMemoryLimit"


@dataclass(frozen=True, slots=True)
class Recognized:
    """What a manager says that it has recognized: the id of a signature, and what its pattern has captured."""

    id: str
    groups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A known failure of an engine, with the words that show it."""

    explanation: Explanation
    excerpt: str
    """The line that tells of it, without secrets and bounded; empty where only its id is known."""

    @property
    def sentence(self) -> str:
        """What has happened and what to do, on one line."""
        return self.explanation.sentence

    @property
    def is_cause(self) -> bool:
        """Whether it is known not to follow from something else."""
        return self.explanation.kind == CAUSE


def recognized(document: object) -> Recognized | None:
    """Read what a manager says of a failure; None where it says nothing, or something odd."""
    if not isinstance(document, Mapping) or not isinstance(document.get("id"), str):
        return None
    groups = document.get("groups")
    pairs = groups.items() if isinstance(groups, Mapping) else ()
    texts = [(str(name)[:_LONGEST_NAME], quoted(value)) for name, value in pairs if isinstance(value, str)]
    return Recognized(document["id"][:_LONGEST_NAME], tuple(sorted(texts)[:MOST_GROUPS]))


def marked(lines: Sequence[str]) -> Recognized | None:
    """What the last line of a manager's last words says; None where it says nothing."""
    if not lines or not lines[-1].startswith(MARK):
        return None
    try:
        return recognized(json.loads(lines[-1].removeprefix(MARK)))
    except (ValueError, RecursionError):
        return None


def unmarked(lines: Iterable[str]) -> list[str]:
    """The lines that are for people."""
    return [line for line in lines if not line.startswith(MARK)]


def diagnosed(known: Recognized | None, lines: Iterable[str]) -> Diagnosis | None:
    """The failure that a manager has recognized, or that the words tell of; None where neither is known here.

    Of two, what weighs more counts, and else what the manager says: it has seen the whole log.

    Args:
        known: What the manager has recognized.
        lines: Words about the failure, such as a part of the log.
    """
    text = list(lines)
    match = table().root(text)
    explanation = explain(known.id, dict(known.groups)) if known else None
    own = explain(match.id, match.groups) if match else None
    if explanation is None or (own and KINDS.index(own.kind) < KINDS.index(explanation.kind)):
        return Diagnosis(own, quoted(match.line)) if match and own else None
    shows = match.line if match and match.id == explanation.id else next(iter(text), "")
    return Diagnosis(explanation, quoted(shows))


def symptom(ids: Iterable[str]) -> Diagnosis | None:
    """The first of what an engine serves with that is known here, without its numbers, which move from look to look."""
    explanations = (explain(one, {}) for one in ids)
    return next((Diagnosis(one, "") for one in explanations if one is not None), None)


def diagnosed_end(terminated: Mapping[str, Any]) -> Diagnosis | None:
    """The known failure by which a container has ended, as kubelet and its termination message say.

    What the kernel has done, and what the manager has seen itself, needs no log to be known.
    """
    lines = [line.strip() for line in str(terminated.get("message") or "").splitlines() if line.strip()]
    if terminated.get("reason") == _OOM_KILLED:
        explanation = explain(_MEMORY_LIMIT, {})
        return Diagnosis(explanation, "") if explanation else None
    first = table().match(lines[0]) if lines else None
    if first and first.kind == CAUSE:
        return diagnosed(None, lines[:1])
    return diagnosed(marked(lines), unmarked(lines))
