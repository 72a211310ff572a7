"""What derives from the signatures of known failures: the table for the engines' pods, and the one for readers."""

from __future__ import annotations

from typing import Final

from tools.page import cell
from vllm_operator.diagnosis.signature_faults import faults
from vllm_operator.diagnosis.signatures import Explanation, Signature, explain, signatures, table, table_json
from vllm_operator.errors import SignaturesError

BEGIN: Final = "<!-- written by make generate -->\n"
END: Final = "<!-- until here -->\n"
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
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = "".join(_row(one) for one in signatures())
    return f"{before}{BEGIN}{_HEAD}{rows}\n{END}{after}"


def _row(one: Signature) -> str:
    told = _example(one)
    value = f" (try `{told.value}`)" if told.value else ""
    known = f"{one.source}{', reproduced' if one.reproduced else ''}"
    return f"| `{one.id}` | {cell(told.cause)} | {cell(told.advice + value)} | {cell(known)} |\n"


def _example(one: Signature) -> Explanation:
    """What is said of the first sample."""
    match = table().match(one.samples[0])
    told = explain(one.id, match.groups) if match else None
    if told is None:
        raise SignaturesError([f"{one.id}: its first sample has no explanation"])
    return told
