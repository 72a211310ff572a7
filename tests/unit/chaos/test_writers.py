"""The judgement about two writers sees each way in which they can be."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.writers import Term, outside, terms_of, writes_of

A, B = "a", "b"


def entry(user: str, resource: str, received: float, answered: float, code: int = 200) -> dict[str, Any]:
    """One entry of the audit log, at seconds of one minute."""
    return {
        "stage": "ResponseComplete",
        "verb": "patch",
        "user": {"username": user},
        "objectRef": {"resource": resource, "namespace": "n", "name": "x"},
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": f"2026-01-01T00:00:{received:09.6f}Z",
        "stageTimestamp": f"2026-01-01T00:00:{answered:09.6f}Z",
    }


HANDED_OVER = [
    entry(A, "leases", 1.0, 1.1),
    entry(B, "leases", 2.0, 2.1, 409),
    entry(A, "leases", 3.0, 3.1),
    entry(B, "leases", 10.0, 10.1),
    entry(A, "leases", 11.0, 11.1, 409),
]


def judged(*entries: dict[str, Any]) -> list[str]:
    """Who wrote outside of a term."""
    writes = writes_of([*HANDED_OVER, *entries], [A, B])
    return [write.user for write in outside(writes, terms_of(writes))]


def test_terms_are_told_by_the_writes_of_the_lease_that_succeeded() -> None:
    terms = terms_of(writes_of(HANDED_OVER, [A, B]))
    assert [term.user for term in terms] == [A, B]
    assert terms[0].ended == terms[1].taken
    assert terms[1] == Term(B, terms[1].taken, float("inf"))


def test_each_one_may_write_in_its_own_term() -> None:
    assert (
        judged(entry(A, "services", 1.2, 1.3), entry(A, "services", 9.0, 9.9), entry(B, "services", 10.2, 10.3)) == []
    )


@pytest.mark.parametrize(
    ("what", "write"),
    [
        ("after the other one took the Lease", entry(A, "services", 10.5, 10.6)),
        ("sent before, and answered after that", entry(A, "services", 9.5, 10.5)),
        ("refused after that", entry(A, "services", 10.5, 10.6, 409)),
        ("a message", entry(A, "events", 10.5, 10.6)),
        ("before the first term", entry(A, "services", 0.5, 0.6)),
    ],
)
def test_a_write_out_of_term_is_seen(what: str, write: dict[str, Any]) -> None:
    assert judged(write) == [A], what


def test_one_that_stands_by_and_writes_is_seen() -> None:
    assert judged(entry(B, "services", 5.0, 5.1)) == [B]


def test_whoever_else_writes_does_not_matter() -> None:
    assert judged(entry("kubectl", "services", 5.0, 5.1)) == []
