"""Whether two operators ever wrote at the same time, by the API server's audit log. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.bench.audit import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from tests.bench.audit import Write

LEASES: Final = "leases"


@dataclass(frozen=True, slots=True)
class Term:
    """One operator's time as the holder of the Lease."""

    user: str
    taken: float
    """When the API server got the write that took the Lease, in seconds since the epoch."""
    ended: float
    """When it got the write with which the next one took it; infinite for the last one."""


def writes_of(entries: Iterable[dict[str, Any]], users: Iterable[str]) -> list[Write]:
    """What these users wrote, in the order in which it was answered."""
    known = set(users)
    found = [write for entry in entries if (write := parse(entry)) is not None and write.user in known]
    return sorted(found, key=lambda write: write.answered)


def terms_of(writes: Sequence[Write]) -> list[Term]:
    """Who held the Lease when: each write of it that succeeded is guarded by its version, so they have an order."""
    terms: list[Term] = []
    for write in writes:
        if write.target.resource != LEASES or not write.succeeded or (terms and terms[-1].user == write.user):
            continue
        if terms:
            terms[-1] = Term(terms[-1].user, terms[-1].taken, write.received)
        terms.append(Term(write.user, write.received, float("inf")))
    return terms


def outside(writes: Sequence[Write], terms: Sequence[Term]) -> list[Write]:
    """The writes that came, or ended, while their writer did not hold the Lease, as far as the log can tell.

    One that was refused counts too: it might have been carried out.
    """
    return [
        write
        for write in writes
        if write.target.resource != LEASES
        and not any(
            term.user == write.user and term.taken <= write.received and write.answered <= term.ended for term in terms
        )
    ]
