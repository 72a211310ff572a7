"""Signatures of known failures: each sample becomes a cause and advice, and the table holds what it must hold."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.processor import processor_seconds
from vllm_operator.api.crd import crd
from vllm_operator.diagnosis.patterns import faults_of, literal_of
from vllm_operator.diagnosis.signature_faults import faults
from vllm_operator.diagnosis.signatures import (
    LANGUAGES,
    Signature,
    explain,
    explained,
    load,
    signatures,
    table,
    table_json,
)
from vllm_operator.errors import SignaturesError
from vllm_operator.manager.matching import LONGEST_LINE, table_of

SPEC: Final[dict[str, Any]] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
QUANTITIES: Final = {"spec.resources.limits.memory"}
"""What stands in a map, whose keys the schema does not name."""

ONE: Final = """
- id: Disk
  patterns: ['No space left on (?P<what>\\w{1,20})']
  samples: ['OSError: No space left on device']
  field: spec.storage.cache
  source: a test
  cause: {en: 'the {{ what }} is full', zh-TW: '{{ what }} 已滿'}
  advice: {en: 'free spec.storage.cache', zh-TW: '清理 spec.storage.cache'}
"""


def samples() -> list[tuple[str, str]]:
    return [(one.id, sample) for one in signatures() for sample in one.samples]


def by_id(name: str) -> Signature:
    return next(one for one in signatures() if one.id == name)


def test_the_signatures_have_no_faults() -> None:
    assert faults(signatures()) == []


def test_there_are_those_that_were_asked_for() -> None:
    assert len(signatures()) >= 80


@pytest.mark.parametrize(("name", "sample"), samples(), ids=lambda value: str(value)[:40])
def test_a_sample_is_told_as_cause_and_advice_in_each_language(name: str, sample: str) -> None:
    match = table().match(sample)
    assert match is not None
    assert match.id == name
    for language in LANGUAGES:
        told = explain(match.id, match.groups, language)
        assert told is not None
        assert told.cause
        assert told.field in told.advice
        assert "{" not in told.cause + told.advice.replace("{{", "")
        assert "\n" not in told.sentence


@pytest.mark.parametrize(
    ("name", "cause", "value"),
    [
        ("KvCacheTooSmall", "one request of 40960 tokens needs 5.62 GiB of KV cache, and 1.29 GiB are left", "9392"),
        (
            "GpuShared",
            "another process holds memory of the GPU, 31.35 of 79.14 GiB are free and 72.81 GiB are wanted",
            "0.39",
        ),
        ("TensorParallelSize", "the model has 14 attention heads, which 4 GPUs cannot share evenly", "2"),
        ("LoraRank", "an adapter has rank 64, and the engine takes up to 16", "64"),
        ("TooFewGpus", "the engine wants 4 GPUs, and its container has 2", "2"),
        ("DroppedArchitecture", "vLLM 0.10.2 was the last one to serve MotifForCausalLM", "vllm/vllm-openai:v0.10.2"),
    ],
)
def test_captured_numbers_become_the_value_to_try(name: str, cause: str, value: str) -> None:
    told = explained([by_id(name).samples[0]])
    assert told is not None
    assert (told.cause, told.value) == (cause, value)


@pytest.mark.parametrize("one", signatures(), ids=lambda one: one.id)
def test_the_field_to_change_is_one_of_the_resource(one: Signature) -> None:
    if one.field is None or one.field in QUANTITIES:
        return
    node = SPEC
    for name in one.field.split(".")[1:]:
        node = node["properties"][name]


def test_two_failures_in_one_log_are_told_by_the_root_cause() -> None:
    """Whatever their order, and whatever wraps them."""
    cause = by_id("NoKvCache").samples[0]
    consequence = by_id("ReadyTimeout").samples[0]
    wrapper = by_id("EngineDied").samples[1]
    for lines in ([consequence, wrapper, cause], [wrapper, cause, consequence], [cause, consequence, wrapper]):
        match = table().root(lines)
        assert match is not None
        assert match.id == "NoKvCache"
    match = table().root([wrapper, consequence])
    assert match is not None
    assert match.id == "ReadyTimeout"
    match = table().root([wrapper])
    assert match is not None
    assert match.id == "EngineDied"


def test_of_two_causes_the_first_one_is_the_root() -> None:
    first, second = by_id("DiskFull").samples[1], by_id("GpuOutOfMemory").samples[0]
    match = table().root(["loading", first, second])
    assert match is not None
    assert match.id == "DiskFull"


def test_within_one_error_the_more_specific_signature_counts() -> None:
    """A chain of exceptions: that the whole model does not fit is said after the allocation that failed."""
    chain = [by_id("GpuOutOfMemory").samples[0], "During handling", by_id("WeightsDoNotFit").samples[0]]
    match = table().root_of_one(chain)
    assert match is not None
    assert match.id == "WeightsDoNotFit"


def test_what_an_engine_says_while_it_is_well_is_no_failure() -> None:
    assert table().root([by_id("QueueGrows").samples[0]]) is None
    assert table().match("Engine 000: Running: 3 reqs, Waiting: 0 reqs, GPU KV cache usage: 12.0%") is None
    assert table().match("(APIServer pid=1) INFO:     Application startup complete.") is None


# ------------------------------------------------------------------------------------- what is wrong with signatures


def test_signatures_of_another_form_are_refused_with_the_place() -> None:
    with pytest.raises(SignaturesError, match=r"(?s)0\.patterns.*0\.advice"):
        load("- {id: Disk, patterns: [], samples: [x], source: x, cause: {en: x}, advice: [x]}")
    with pytest.raises(SignaturesError, match=r"signatures\.yaml"):
        load("- [")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("(?P<what>\\w{1,20})", "\\w+"), "repeats without bounds"),
        (("(?P<what>\\w{1,20})", "(?:a|b){1,9}"), "repeats a group"),
        (("(?P<what>\\w{1,20})", ".{0,999}"), "repeats more than"),
        (("No space left on (?P<what>\\w{1,20})", "(?P<what>\\w{1,20})"), "no fixed text"),
        (("No space left on (?P<what>\\w{1,20})", "(?=No) (?P<what>x)No space left on"), "neither"),
        (("OSError: No space left on device", "OSError: all is well"), "no pattern finds the sample"),
        (("the {{ what }} is full", "{{ where }} is full"), "want more than is captured"),
        (("free spec.storage.cache", "free the disk"), "does not name spec.storage.cache"),
        (("is full', zh-TW: '{{ what }} 已滿'", "is full'"), "no text in zh-TW"),
        (("is full'", "is full; really'"), "holds '; '"),
        (
            ("No space left on (?P<what>\\w{1,20})'", "No space left on (?P<what>\\w{1,20})', 'never said'"),
            "no sample shows",
        ),
        (
            (
                "No space left on (?P<what>\\w{1,20})'",
                "No space left on (?P<what>\\w{1,20})', 'core (?P<what>initialization) failed'",
            ),
            "only wraps",
        ),
    ],
)
def test_each_fault_of_a_signature_is_told(change: tuple[str, str], fault: str) -> None:
    assert faults(load(ONE)) == []
    text = ONE.replace(*change)
    assert text != ONE
    found = faults(load(text))
    assert any(fault in one for one in found), found
    assert all(one.startswith("Disk: ") for one in found)


def test_an_id_that_is_taken_twice_is_told() -> None:
    assert faults(load(ONE + ONE)) == ["Disk: the id is taken twice"]


# ------------------------------------------------------------------------------------- what a pod may say


@given(st.sampled_from([one.id for one in signatures()] + ["Unknown"]), st.dictionaries(st.text(), st.text()))
def test_whatever_a_pod_says_of_a_signature_is_explained_or_passed_over(name: str, groups: dict[str, str]) -> None:
    """A manager may be of another version, and what stands in a pod may have been written by anybody."""
    explain(name, groups)


@pytest.mark.parametrize("one", signatures(), ids=lambda one: one.id)
def test_captured_texts_of_any_size_cost_no_more_than_a_short_one(one: Signature) -> None:
    names = {name for pattern in one.patterns for name in re.compile(pattern).groupindex}
    started = time.process_time()
    told = explain(one.id, dict.fromkeys(names, "9" * 1_000_000))
    assert told is None or len(told.sentence) < 3000
    assert time.process_time() - started < 2.0


def test_what_was_captured_cannot_pass_for_two_causes_nor_for_a_template() -> None:
    told = explain("UnknownModel", {"model": "a; b {{ 7 * 7 }}\nc"})
    assert told is not None
    assert told.cause.startswith("the hub has no model a, b {{ 7 * 7 }} c, or")


# ------------------------------------------------------------------------------------- what lines may do to patterns


def hostile(one: Signature, size: int) -> list[str]:
    """Lines that nearly fit, again and again: beginnings of what fits, and what their gaps take."""
    found = []
    for sample in one.samples:
        match = table_of(table_json([one])).match(sample)
        assert match is not None
        for share in (0.3, 0.6, 0.9):
            part = sample[: max(1, int(len(sample) * share))]
            found.append((part * (size // len(part) + 1))[:size])
    return [*found, "9" * size, "a" * size, "(" * size, ". " * (size // 2)]


SMALL, LARGE = 8_000, 64_000


@pytest.mark.parametrize("one", signatures(), ids=lambda one: one.id)
def test_a_pattern_takes_time_that_grows_with_a_hostile_line_and_no_faster(one: Signature) -> None:
    """Eight times the line takes about eight times as long; a pattern that backtracks takes 64 times as long."""
    for small, large in zip(hostile(one, SMALL), hostile(one, LARGE), strict=True):
        for pattern in one.patterns:
            seconds = seconds_of(pattern, small)
            assert seconds_of(pattern, large) < 24 * seconds + 0.005, (pattern, large[:80])


def seconds_of(pattern: str, line: str) -> float:
    """Of a processor, for a search."""
    search = re.compile(pattern).search
    return processor_seconds(lambda: search(line))


def test_a_line_of_a_megabyte_costs_the_matcher_no_more_than_its_first_characters() -> None:
    """Nothing of a line is read but so much: what stands behind cannot be found, whatever it is."""
    cause = by_id("NoKvCache").samples[0]
    assert table().match("x" * 1_000_000 + cause) is None
    assert table().match("x" * (LONGEST_LINE - 200) + cause[:200]) is not None


@given(st.text(max_size=200))
def test_the_fixed_text_of_a_pattern_is_in_all_that_it_finds(text: str) -> None:
    """It is looked for first: a pattern whose fixed text is wrong would find nothing."""
    for one in signatures():
        for pattern in one.patterns:
            found = re.search(pattern, text)
            assert found is None or literal_of(pattern) in text


def test_fixed_texts_of_patterns() -> None:
    assert literal_of(r"ab(?:c|d)efg\.h") == "efg.h"
    assert literal_of(r"ab?cdef{2}g") == "cde"
    assert literal_of(r"abc|def") == ""
    assert literal_of(r"[abc]de\d") == "de"
    assert faults_of(r"a{2,}bcdef") == ["repeats without bounds: write {0,N} for * and {1,N} for +"]
    assert faults_of(r"abcdef(") == ["is no regular expression: missing ), unterminated subpattern at position 6"]
