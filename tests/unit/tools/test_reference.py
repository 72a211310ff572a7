"""The generated pages: they name everything, and every link leads somewhere."""

from __future__ import annotations

import re
from collections import defaultdict
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tools.api_reference import api_page, examples, member_texts
from tools.flag_reference import UNKNOWN, flags_page
from tools.generate import REPOSITORY
from tools.kinds import KINDS, kind_of
from tools.page import anchor
from vllm_operator.api.conditions import ConditionType, Reason
from vllm_operator.api.crd import crd, schema_of
from vllm_operator.api.spec import VLLMModelSpec, parse_spec
from vllm_operator.api.spec.arguments import REMOVED, refused_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

API = api_page()
FLAGS = flags_page()
PAGES = {"api.md": API, "flags.md": FLAGS}
SCHEMA: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def rows(page: str) -> list[list[str]]:
    """Cells of all lines of all tables."""
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    return [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def fields(node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and schemas of all fields, at any depth."""
    for name, field in node.get("properties", {}).items():
        yield name, field
        yield from fields(field)
        yield from fields(field.get("items", {}))


def plain(text: str) -> str:
    """Text as a cell holds it."""
    return text.replace("|", "\\|")


def test_every_field_has_a_line_that_begins_with_its_description() -> None:
    told: dict[str, list[str]] = defaultdict(list)
    for row in rows(API):
        told[row[0].strip("`")].append(row[-1])
    found = [*fields(SCHEMA["properties"]["spec"]), *fields(SCHEMA["properties"]["status"])]
    assert len(found) > 200
    for name, field in found:
        description = plain(field["description"].partition(" Sets --")[0])
        assert any(text.startswith(description) for text in told[name]), name


def test_every_rule_is_told() -> None:
    """That of a single value is told by its kind, whose meaning stands in a table of its own."""
    nodes = [node for _, field in fields(SCHEMA) for node in (field, field.get("items", {}))]
    values = [node for node in nodes if "x-kubernetes-int-or-string" in node]
    assert {kind_of(node) for node in values} <= {kind.name for kind in KINDS}
    rules = [
        rule["message"] for node in nodes if node not in values for rule in node.get("x-kubernetes-validations", [])
    ]
    assert len(rules) > 30
    for message in rules:
        assert f"\n- {message}\n" in API


def test_a_rule_of_the_whole_spec_stands_with_the_group_that_its_field_is_in() -> None:
    group = API.partition("\n### spec.accelerator\n")[2].partition("\n### ")[0]
    assert "- spec.accelerator.count must equal spec.parallelism.tensor" in group


@pytest.mark.parametrize("kind", [ConditionType, Reason])
def test_conditions_and_reasons_are_told_with_what_they_mean(kind: type[StrEnum]) -> None:
    texts = member_texts(kind)
    assert texts.keys() == {member.value for member in kind}
    for value, text in texts.items():
        assert [f"`{value}`", plain(text)] in rows(API)


def test_a_member_that_says_nothing_is_named() -> None:
    class Silent(StrEnum):
        LOUD = "Loud"
        """It speaks."""
        MUTE = "Mute"

    with pytest.raises(ValueError, match="Silent: write below Mute what it means"):
        member_texts(Silent)


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_to_a_heading_or_a_file(name: str) -> None:
    folder = REPOSITORY / "docs" / "reference"
    headings = {
        page: {anchor(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}
        for page, text in PAGES.items()
    }
    links = re.findall(r"\]\(([^)#]*)#?([^)]*)\)", PAGES[name])
    assert len(links) > 50
    for file, fragment in links:
        if fragment:
            assert fragment in headings[file or name], (file, fragment)
        else:
            assert (folder / file).exists(), file


@pytest.mark.parametrize("name", PAGES)
def test_headings_are_not_told_apart_by_punctuation_alone(name: str) -> None:
    anchors = [anchor(line.lstrip("# ")) for line in PAGES[name].splitlines() if line.startswith("#")]
    assert len(anchors) == len(set(anchors))


def test_every_flag_that_extra_args_may_not_hold_has_a_line_with_the_same_number_of_cells() -> None:
    named = [flag for row in rows(FLAGS) for flag in re.findall(r"`(-[^`]+)`", row[0])]
    # the notes tell of the opposites of switches
    assert {name.replace("--no-", "--", 1) for name in refused_arguments(VLLMModelSpec)} <= set(named)
    table = FLAGS.partition("| flag | field |")[2].partition("\n\n")[0]
    assert {len(row) for row in rows(table)} == {4}


def test_the_flags_stand_in_the_order_of_the_alphabet() -> None:
    table = rows(FLAGS.partition("| flag | field |")[2].partition("\n\n")[0])
    first = [row[0].split("`")[1].lstrip("-") for row in table]
    assert first == sorted(first)


def test_each_flag_says_its_default_and_since_when_it_is_there() -> None:
    assert UNKNOWN not in [cell for row in rows(FLAGS) for cell in row], "tools/flag_reference.py: look it up"


def test_every_dropped_flag_says_since_when_it_is_gone() -> None:
    told = {row[0].strip("`"): row[1] for row in rows(FLAGS) if len(row) == 3}
    assert {name: since for name, (since, _) in REMOVED.items()}.items() <= told.items()


@pytest.mark.parametrize("group", examples())
def test_every_example_is_a_spec_of_its_group_and_stands_on_the_page(group: str) -> None:
    text = examples()[group]
    piece = yaml.safe_load(text)
    assert list(piece) == [group]
    assert f"### spec.{group}\n" in API
    assert f"```yaml\n{text}```" in API
    parse_spec({"model": {"source": "org/tiny"}, **piece})


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("replicas", "whole number, 0 to 1000"),
        ("engine.gpuMemoryUtilization", "number, more than 0, up to 1"),
        ("engine.maxModelLen", "tokens"),
        ("engine.dtype", "`auto`, `bfloat16`, `float16`, `half`, `float` or `float32`"),
        ("engine.debug", "true or false"),
        ("engine.image", "image"),
        ("engine.extraArgs", "list (up to 128) of text, up to 4096 characters"),
        ("engine.multimodalLimits", "map (1 to 16) to whole number, 0 to 65536"),
        ("model.servedNames", "list (1 to 16) of word"),
        ("pod.patch", "object"),
        ("resources.limits", "map (up to 16) to quantity"),
    ],
)
def test_bounds_are_told_in_words(path: str, said: str) -> None:
    node = schema_of(VLLMModelSpec)
    for name in path.split("."):
        node = node["properties"][name]
    assert kind_of(node) == said
