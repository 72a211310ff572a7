"""The table of signatures in the pod: what it takes for a table, and that a broken one harms nobody."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.paths import REPOSITORY
from vllm_operator.diagnosis.signatures import signatures, table_json
from vllm_operator.manager.matching import FILE, Table, TableError, table_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["signatures", "id", "kind"]), inner),
    max_leaves=8,
)


def test_the_table_that_travels_is_that_of_the_signatures() -> None:
    text = (REPOSITORY / "operator" / "vllm_operator" / "manager" / FILE).read_text(encoding="utf-8")
    assert text == table_json(signatures()), "run `make generate`"
    table_of(text).check()


def test_it_leaves_room_in_the_config_map() -> None:
    """All files of the ConfigMap together may have 1 MiB."""
    assert len(table_json(signatures()).encode()) < 64 * 1024


@given(JSON)
def test_what_is_no_table_is_told_as_that(document: object) -> None:
    with contextlib.suppress(TableError):
        assert table_of(json.dumps(document)).match("a line") is None


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", '{"signatures": [{"id": "A", "kind": "cause"}]}'])
def test_half_a_table_is_told_as_none(text: str) -> None:
    with pytest.raises(TableError, match=FILE):
        table_of(text)


def test_a_pattern_that_is_none_is_found_by_the_check() -> None:
    with pytest.raises(TableError, match=r"A: .*unterminated"):
        table_of('{"signatures": [{"id": "A", "kind": "cause", "patterns": [["a", "a("]]}]}').check()


def test_signatures_of_a_later_kind_are_passed_over() -> None:
    later = {"id": "A", "kind": "omen", "patterns": [["abcd", "abcd"]]}
    known = {"id": "B", "kind": "cause", "patterns": [["abcd", "abcd(?P<n>e)?"]], "more": 1}
    match = table_of(json.dumps({"signatures": [later, known], "format": 2})).match("xabcd")
    assert match is not None
    assert (match.id, match.groups) == ("B", {})


def test_without_a_table_nothing_is_found() -> None:
    assert Table().match("CUDA out of memory") is None
    assert Table().root(["CUDA out of memory"]) is None
