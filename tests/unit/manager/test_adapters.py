"""What is to be done so that an engine serves the adapters of its list, and which of them it may not be without."""

from __future__ import annotations

import pytest

from vllm_operator.manager.adapters import (
    FIRST_PAUSE_SECONDS,
    LOAD,
    LONGEST_PAUSE_SECONDS,
    REPLACE,
    SILENT_PAUSE_SECONDS,
    UNLOAD,
    AdapterList,
    Failure,
    Step,
    Wanted,
    failed,
    kept,
    list_of,
    missing,
    steps,
)

SQL, LEGAL = Wanted("sql", "/a/sql", required=False), Wanted("legal", "/a/legal", required=False)
BOTH = AdapterList((SQL, LEGAL), "v1")
STEP = Step(LOAD, "sql", "/a/sql")
REFUSED = Failure("/a/sql", "No adapter found", refused=True, tries=1, due_at=100.0)
SILENT = Failure("/a/sql", "no answer", refused=False, tries=1, due_at=100.0)


def test_a_list_is_read_as_the_operator_writes_it() -> None:
    text = (
        '{"version": "v1", "later": 1, "adapters": [{"name": "sql", "path": "/a/sql", "required": true, "new": 1},'
        '{"name": "legal", "path": "org/legal"}]}'
    )
    assert list_of(text) == AdapterList(
        (Wanted("sql", "/a/sql", required=True), Wanted("legal", "org/legal", required=False)), "v1"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": "v1", "adapters": [{"name": "sql"}]}', "[" * 99999])
def test_what_is_no_list_is_told_as_that(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 # JSON's own error is one as well
        list_of(text)


def test_what_goes_is_unloaded_before_what_comes_is_loaded_and_what_moved_is_replaced() -> None:
    served = {"old": "/a/old", "legal": "/elsewhere", "of-others": "/b", "legal (trial)": "/a/legal"}
    assert steps(BOTH, served, {"old", "legal"}, {}, 0) == (
        Step(UNLOAD, "old"),
        Step(UNLOAD, "legal (trial)"),
        Step(REPLACE, "legal", "/a/legal"),
        Step(LOAD, "sql", "/a/sql"),
    )


def test_an_engine_that_serves_the_list_is_asked_for_nothing_also_where_it_says_no_paths() -> None:
    assert steps(BOTH, {"sql": "/a/sql", "legal": "/a/legal"}, {"sql", "legal"}, {}, 0) == ()
    assert steps(BOTH, {"sql": "", "legal": ""}, {"sql", "legal"}, {}, 0) == ()


def test_what_failed_is_tried_again_after_a_while_and_at_once_from_another_place() -> None:
    one = AdapterList((SQL,), "v1")
    assert steps(one, {}, (), {"sql": REFUSED}, 99) == ()
    assert steps(one, {}, (), {"sql": REFUSED}, 100) == (STEP,)
    moved = AdapterList((Wanted("sql", "/b/sql", required=False),), "v2")
    assert steps(moved, {}, (), {"sql": REFUSED}, 0) == (Step(LOAD, "sql", "/b/sql"),)


def test_pauses_double_up_to_a_longest_and_a_silence_has_a_longer_one() -> None:
    failure, pauses = None, []
    for _ in range(8):
        failure = failed(STEP, failure, "Refused", "no", 0)
        pauses.append(failure.due_at)
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    silent = failed(STEP, None, "Silent", "no answer", 0)
    assert (silent.due_at, silent.refused) == (SILENT_PAUSE_SECONDS, False)
    assert failed(Step(LOAD, "sql", "/b"), REFUSED, "Refused", "no", 0).tries == 1


def test_a_failure_stands_until_the_adapter_is_served_moved_or_off_the_list() -> None:
    assert kept({"sql": REFUSED}, BOTH, {}) == {"sql": REFUSED}
    assert kept({"sql": REFUSED}, BOTH, {"sql": "/a/sql"}) == {}
    assert kept({"sql": REFUSED}, BOTH, {"sql": "/elsewhere"}) == {"sql": REFUSED}, "the one before is served still"
    assert kept({"sql": REFUSED}, AdapterList((Wanted("sql", "/b/sql"),)), {}) == {}
    assert kept({"sql": REFUSED}, AdapterList((LEGAL,)), {}) == {}
    stays = Failure("", "HTTP 500", refused=True, tries=1, due_at=0)
    assert kept({"old": stays}, BOTH, {"old": "/a/old"}) == {"old": stays}
    assert kept({"old": stays}, BOTH, {}) == {}


@pytest.mark.parametrize(
    ("admitted", "ours", "failures", "required", "expected"),
    [
        (False, (), {}, False, ["sql"]),
        (False, (), {"sql": REFUSED}, False, []),
        (False, (), {"sql": SILENT}, False, ["sql"]),
        (False, (), {"sql": REFUSED}, True, ["sql"]),
        (True, (), {}, False, []),
        (True, (), {"sql": SILENT}, False, []),
        (True, ("sql",), {"sql": REFUSED}, False, ["sql"]),
        (True, (), {}, True, ["sql"]),
    ],
)
def test_which_names_an_engine_may_not_be_without(
    *, admitted: bool, ours: tuple[str, ...], failures: dict[str, Failure], required: bool, expected: list[str]
) -> None:
    wanted = AdapterList((Wanted("sql", "/a/sql", required=required), LEGAL), "v1")
    assert missing(wanted, {"legal"}, ours, failures, admitted=admitted) == expected
