"""The words of `kubectl vllm diagnose`."""

from __future__ import annotations

import string

import pytest

from vllm_operator.api.conditions import Reason
from vllm_operator.api.status import EngineState
from vllm_operator.cli.diagnose.command import Lang
from vllm_operator.cli.diagnose.texts import text, texts
from vllm_operator.diagnosis.signatures import LANGUAGES
from vllm_operator.manager.signatures import PHASES

ALL = [(kind, name) for kind, found in texts().items() for name in found]
NOTHING_TO_DO = {Reason.ALL_ENGINES_SERVE, Reason.ENGINES_SERVE, Reason.NO_ENGINE_SERVES, Reason.AS_DESIRED}
NOT_OF_READY = {
    Reason.NEWER_TEMPLATE,
    *(Reason.AUTOSCALER_WORKS, Reason.AUTOSCALER_MISSING, Reason.AUTOSCALER_FAILS, Reason.AUTOSCALER_PAUSED),
    *(Reason.ENGINE_STARTED, Reason.ESTIMATED_TO_FIT, Reason.TIGHT),
    *(Reason.GPU_MEMORY_TOO_SMALL, Reason.GPU_MEMORY_UNKNOWN, Reason.SIZES_UNKNOWN),
}
"""Reasons of TemplateUpdatePending, Autoscaled and Fits, whose messages say what to do."""


def names_in(words: str) -> set[str]:
    """The values that a text wants."""
    return {name for _, name, _, _ in string.Formatter().parse(words) if name}


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_each_text_is_there_in_each_language_and_wants_the_same_values(kind: str, name: str) -> None:
    found = texts()[kind][name]
    assert tuple(found) == LANGUAGES
    first, *others = map(names_in, found.values())
    assert all(one == first for one in others)
    assert all(found.values())


def test_each_reason_state_and_phase_that_there_is_has_a_text() -> None:
    """Add what is new to cli/diagnose/texts.yaml."""
    assert {*Reason} - NOTHING_TO_DO - NOT_OF_READY <= texts()["advice"].keys()
    assert texts()["advice"].keys() - {"NoStatus", "Behind"} <= {*Reason}
    assert {state.value for state in EngineState} <= texts()["states"].keys()
    assert {*PHASES} == texts()["phases"].keys()


def test_the_languages_are_those_of_the_known_failures() -> None:
    assert tuple(lang.value for lang in Lang) == LANGUAGES


def test_values_are_filled_in() -> None:
    assert "kubectl vllm gates qwen" in text("advice", "EnginesWithdrawn", "zh-TW", name="qwen")
