"""What is wrong with signatures beyond their form. Pure.

Tests ask, and `make generate` does before it writes their table.

Each sample has to be found, by its own signature before any other; each text has to name the field that it advises to
change, in each language, and to need no more than its patterns capture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.diagnosis.patterns import faults_of
from vllm_operator.diagnosis.signatures import LANGUAGES, explain_with, table_json
from vllm_operator.manager.matching import table_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.diagnosis.signatures import Signature
    from vllm_operator.manager.matching import Table

_BETWEEN_CAUSES: Final = "; "
"""What stands between causes in the message of a condition: a text that holds it would be taken for two."""

_WRAPPERS: Final = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}",
    "Exception: WorkerProc initialization failed due to an exception in a background process.",
    "EngineCore failed to start.",
    "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.",
    "KeyboardInterrupt: terminated",
)
"""What vLLM says when something else has failed."""


def faults(known: Iterable[Signature]) -> list[str]:
    """All faults, each with the signature's id; empty where there are none."""
    one_by_one = list(known)
    found = [f"{one.id}: {fault}" for one in one_by_one for fault in (*_pattern_faults(one), *_text_faults(one))]
    ids = [one.id for one in one_by_one]
    found += [f"{name}: the id is taken twice" for name in dict.fromkeys(ids) if ids.count(name) > 1]
    if found:
        return found
    whole = table_of(table_json(one_by_one))
    return [f"{one.id}: {fault}" for one in one_by_one for fault in _sample_faults(one, whole)]


def _pattern_faults(one: Signature) -> Iterable[str]:
    for pattern in one.patterns:
        yield from (f"pattern {pattern!r} {fault}" for fault in faults_of(pattern))


def _text_faults(one: Signature) -> Iterable[str]:
    for name, texts in (("cause", one.cause), ("advice", one.advice)):
        yield from (f"{name} has no text in {language}" for language in LANGUAGES if language not in texts)
        yield from (f"{name} holds {_BETWEEN_CAUSES!r}" for text in texts.values() if _BETWEEN_CAUSES in text)
    if one.field:
        yield from (
            f"the advice in {name} does not name {one.field}" for name in LANGUAGES if one.field not in one.advice[name]
        )


def _sample_faults(one: Signature, whole: Table) -> Iterable[str]:
    if not one.patterns and not one.example:
        yield "has neither patterns nor an example"
    alone = table_of(table_json([one]))
    for sample in one.samples:
        match = whole.match(sample)
        if alone.match(sample) is None:
            yield f"no pattern finds the sample {sample[:60]!r}"
        elif match is None or match.id != one.id:
            yield f"{match and match.id} is found first in the sample {sample[:60]!r}"
        elif any(explain_with(one, match.groups, language) is None for language in LANGUAGES):
            yield f"its texts want more than is captured of the sample {sample[:60]!r}"
    for pattern in one.patterns:
        single = table_of(table_json([one.model_copy(update={"patterns": (pattern,)})]))
        if not any(single.match(sample) for sample in one.samples):
            yield f"no sample shows the pattern {pattern!r}"
    if one.kind == "cause" and any(alone.match(wrapper) for wrapper in _WRAPPERS):
        yield "a pattern finds what only wraps another failure"
