"""What a file means. That kubectl reads it so is shown by tests/contract/test_yaml.py, which asks it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.yaml_texts import FILES, PARTS, REFUSED_WORDS, WORDS, file_of, random_words
from vllm_operator.cli.yaml_documents import NotYAMLError, documents


def meaning(word: str) -> Any:
    """What a word means as a value."""
    (document,) = documents(file_of(f"a: {word}"))
    return document.value["spec"]["pod"]["patch"]["a"]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("y", True),
        ("N", False),
        ("off", False),
        ("1e3", 1000),
        ("12e03", 12000),
        ("0o17", 15),
        ("017", 15),
        ("09", 9),
        ("1_000", 1000),
        ("0x1F", 31),
        ("-0b1", -1),
        ("1.0", 1),
        ("1.5", 1.5),
        ("12:30:45", "12:30:45"),
        ("=", "="),
        ("2026-01-01", "2026-01-01"),
        ("1e999", "1e999"),
        ("1" * 5000, "1" * 5000),
        ("0x" + "f" * 5000, "0x" + "f" * 5000),
        ("~", None),
        ("", None),
        ("'y'", "y"),
        ("!!str 5", "5"),
        ("!!binary aGk=", "hi"),
    ],
)
def test_a_word_means_what_go_makes_of_it(word: str, value: Any) -> None:
    found = meaning(word)
    assert (type(found), found) == (type(value), value)


def refusal(text: str) -> str:
    """Why a file is refused; empty if it is not."""
    try:
        assert all(document.value is not None for document in documents(text))
    except NotYAMLError as error:
        return str(error)
    return ""


def test_every_word_is_read_or_refused_with_its_line() -> None:
    for word in (*WORDS, *random_words(500, 7), *REFUSED_WORDS):
        told = refusal(file_of(f"a: {word}"))
        assert not told or "line 7" in told, word


def test_every_file_is_read_or_refused() -> None:
    for text in (*map(file_of, PARTS.values()), *FILES.values()):
        assert refusal(text).startswith(("is no ", "is nested ")) or not refusal(text)


def test_what_stands_twice_is_told_and_the_last_one_counts() -> None:
    (document,) = documents(file_of("a: 1\nb: {c: 1, c: 2}\na: 2"))
    assert document.value["spec"]["pod"]["patch"] == {"a": 2, "b": {"c": 2}}
    assert document.repeated == ("c", "a")
    assert documents('{"a": 1, "a": 2}')[0].repeated == ("a",)


def test_a_map_takes_from_another_what_stands_before_and_keeps_what_stands_behind() -> None:
    (document,) = documents(file_of("x: &x {a: 1, b: 2}\nz:\n  a: 0\n  <<: *x\n  b: 0"))
    assert document.value["spec"]["pod"]["patch"]["z"] == {"a": 1, "b": 0}


@pytest.mark.parametrize("text", ["[" * 5000, "a: " + "[" * 3000 + "]" * 3000, "{" * 5000, '{"a":' * 5000])
def test_no_depth_ends_in_another_error(text: str) -> None:
    with pytest.raises(NotYAMLError, match="nested more than 100 levels"):
        documents(text)


def test_aliases_make_no_file_larger_than_kubectl_takes() -> None:
    with pytest.raises(NotYAMLError, match="most of it comes from aliases"):
        documents(file_of(PARTS["aliases by the million"]))


def test_a_text_keeps_the_end_of_its_last_line_before_the_next_document() -> None:
    first, second = documents("a: |\n  x\n---\na: |\n  y\n")
    assert (first.value, second.value) == ({"a": "x\n"}, {"a": "y\n"})
