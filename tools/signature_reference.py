"""What derives from the signatures of known failures: the table for the engines' pods, and the one for readers."""

from __future__ import annotations

from typing import Final

from tools.page import cell
from vllm_operator.diagnosis.outside import OutsideCause, explained_example, outside_causes
from vllm_operator.diagnosis.signature_faults import faults
from vllm_operator.diagnosis.signatures import Explanation, Signature, explain, signatures, table, table_json
from vllm_operator.errors import SignaturesError

BEGIN: Final = "<!-- written by make generate -->\n"
END: Final = "<!-- until here -->\n"
BEGIN_OUTSIDE: Final = "<!-- causes outside, written by make generate -->\n"
END_OUTSIDE: Final = "<!-- causes outside, until here -->\n"
_HEAD: Final = "\n| id | what has happened | what to do | known from |\n|---|---|---|---|\n"


def pod_table() -> str:
    """The table that travels into the pods.

    Raises:
        SignaturesError: a signature is not right, and would be wrong in every pod.
    """
    found = faults(signatures())
    if found:
        raise SignaturesError(found)
    return table_json(signatures())


def with_signatures(page: str) -> str:
    """A page whose table of signatures, between its two marks, is that of today."""
    rows = "".join(_row(one, _example(one)) for one in signatures())
    return _with_table(page, BEGIN, rows, END)


def with_outside_causes(page: str) -> str:
    """The same of the causes that are told outside of the engine."""
    rows = "".join(_row(one, _example_outside(one)) for one in outside_causes())
    return _with_table(page, BEGIN_OUTSIDE, rows, END_OUTSIDE)


def _with_table(page: str, begin: str, rows: str, end: str) -> str:
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{_HEAD}{rows}\n{end}{after}"


def _row(one: Signature, told: Explanation) -> str:
    value = f" (try `{told.value}`)" if told.value else ""
    known = f"{one.source}{', reproduced' if one.reproduced else ''}"
    return f"| `{one.id}` | {cell(told.cause)} | {cell(told.advice + value)} | {cell(known)} |\n"


def _example_outside(one: OutsideCause) -> Explanation:
    told = explained_example(one)
    if told is None:
        raise SignaturesError([f"{one.id}: its example or its first sample has no explanation"])
    return told


def _example(one: Signature) -> Explanation:
    """What is said of the first sample, or of the example where no line tells of it."""
    match = table().match(one.samples[0]) if one.samples else None
    told = explain(one.id, match.groups if match else one.example)
    if told is None:
        raise SignaturesError([f"{one.id}: its first sample has no explanation"])
    return told
