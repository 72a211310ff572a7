"""The table of arguments by release: what it says holds together, and agrees with what the fields say by hand."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from tools.flag_reference import OWNED_FACTS
from tools.vllm_flags.table import FILE, RENAMED, written
from vllm_operator.api import vllm_releases
from vllm_operator.api.spec import VLLMModelSpec
from vllm_operator.api.spec.arguments import REMOVED
from vllm_operator.api.spec.flag import FlaggedField, flagged_fields
from vllm_operator.api.vllm_releases import Version, arguments_of, first_with, gone_since, is_covered, releases, renamed

MOST_BYTES = 150_000
OLDEST, NEWEST = releases()[0], releases()[-1]


def version(text: str) -> Version:
    """A version."""
    found = Version.read(text)
    assert found is not None
    return found


def test_the_table_is_small_and_has_a_line_for_each_argument() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert text == (files("vllm_operator.api") / vllm_releases.FILE).read_text(encoding="utf-8")
    assert len(text) < MOST_BYTES
    names = list(json.loads(text)["arguments"])
    assert names == sorted(names)
    assert len(text.splitlines()) == len(names) + len(["{", "releases", "memory", "threads", "arguments", "}", "}"])


def test_releases_are_in_order_and_reach_from_the_first_to_that_of_the_images() -> None:
    assert list(releases()) == sorted(releases())
    assert str(OLDEST) == "0.8.0"
    assert version("0.32.0") in releases()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0.10.2", (0, 10, 2)),
        ("v0.10.2", (0, 10, 2)),
        ("0.8.5.post1", (0, 8, 5, 1)),
        ("0.9.0.1", (0, 9, 0, 1)),
        ("0.10", None),
        ("0.11.0rc1", None),
        ("latest", None),
        ("", None),
    ],
)
def test_a_version_is_a_release(text: str, numbers: tuple[int, ...] | None) -> None:
    found = Version.read(text)
    assert (found and found.numbers) == numbers


def test_a_version_between_releases_is_the_earlier_one_and_one_outside_the_nearest() -> None:
    assert arguments_of(version("0.10.9")) is arguments_of(version("0.10.2"))
    assert arguments_of(version("0.1.0")) is arguments_of(OLDEST)
    assert arguments_of(version("99.0.0")) is arguments_of(NEWEST)
    assert [is_covered(version(text)) for text in ("0.7.3", "0.8.0", "0.10.9", "99.0.0")] == [False, True, True, False]


def test_every_spelling_leads_to_its_argument() -> None:
    known = arguments_of(version("0.32.0"))
    assert known["-tp"] is known["--tensor-parallel-size"]
    assert known["--no-enable-prefix-caching"].name == "--enable-prefix-caching"
    assert known["--no-enable-prefix-caching"].off == ("--no-enable-prefix-caching",)
    assert known["--max-model-len"].type == "integer with unit or auto"


def older_or_same(told: str, name: str) -> bool:
    """Whether what is written by hand is what the table says: for what is older than the table, its own oldest."""
    since = first_with(name)
    return since is not None and (version(told) == since if since != OLDEST else version(told) <= OLDEST)


@pytest.mark.parametrize("found", list(flagged_fields(VLLMModelSpec)), ids=lambda found: found.flag.name)
def test_a_field_says_since_when_as_the_table_does(found: FlaggedField) -> None:
    assert older_or_same(found.flag.since, found.flag.name)


def test_arguments_without_a_field_say_since_when_as_the_table_does() -> None:
    assert [name for name, (_, since) in OWNED_FACTS.items() if not older_or_same(since, name)] == []


@pytest.mark.parametrize("name", REMOVED)
def test_what_is_called_gone_went_with_the_release_that_is_told(name: str) -> None:
    since = version(REMOVED[name][0])
    if since <= OLDEST:
        assert name not in arguments_of(OLDEST)
    else:
        assert gone_since(name, since) == since


@pytest.mark.parametrize("name", RENAMED)
def test_what_has_taken_the_place_of_an_argument_was_there_when_it_went(name: str) -> None:
    assert name in REMOVED
    since = version(REMOVED[name][0])
    assert renamed(name) == RENAMED[name] or since <= OLDEST
    assert RENAMED[name] in arguments_of(max(since, OLDEST))


def test_the_text_of_the_table_tells_what_changed_with_which_release() -> None:
    made = written(
        {
            "0.1.0": {"--a": {"type": "text", "default": "x"}, "--task": {"type": "text"}},
            "0.2.0": {"--a": {"type": "text", "default": "x"}, "--task": {"type": "text"}},
            "0.3.0": {"--a": {"type": "text", "choices": ["x"]}},
            "0.4.0": {"--a": {"type": "text", "choices": ["x"]}, "--task": {"type": "switch"}},
        },
        "0.2.0",
        "0.3.0",
    )
    table = json.loads(made)
    assert table["releases"] == ["0.1.0", "0.2.0", "0.3.0", "0.4.0"]
    assert table["arguments"] == {
        "--a": [
            {"since": "0.1.0", "type": "text", "default": "x"},
            {"since": "0.3.0", "choices": ["x"], "default": None},
        ],
        "--task": [
            {"since": "0.1.0", "type": "text"},
            {"since": "0.3.0", "gone": True, "renamed": "--runner"},
            {"since": "0.4.0", "type": "switch"},
        ],
    }
