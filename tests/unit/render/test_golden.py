"""Whole resources against the children that are expected of them; see tests/support/golden.py."""

from __future__ import annotations

import pytest
import yaml

from tests.support import golden
from vllm_operator.api.resource import parse_resource
from vllm_operator.render.children import child_names, children


def test_there_are_cases_and_each_has_its_expected_file() -> None:
    assert {"minimal", "everything", "cpu-scaled-to-zero"} <= set(golden.cases())
    files = {path.name.removesuffix(golden.EXPECTED) for path in golden.FOLDER.glob(f"*{golden.EXPECTED}")}
    assert files == set(golden.cases())


@pytest.mark.parametrize("case", golden.cases())
def test_the_children_are_as_expected(case: str) -> None:
    assert list(yaml.safe_load_all(golden.rendered(case))) == list(yaml.safe_load_all(golden.expected(case)))


@pytest.mark.parametrize("case", golden.cases())
def test_rendering_is_the_same_byte_for_byte(case: str) -> None:
    assert golden.rendered(case) == golden.rendered(case) == golden.expected(case)


@pytest.mark.parametrize("case", golden.cases())
def test_the_order_in_which_a_user_writes_fields_does_not_matter(case: str) -> None:
    def reversed_maps(node: object) -> object:
        if isinstance(node, dict):
            return {key: reversed_maps(node[key]) for key in reversed(node)}
        return [reversed_maps(item) for item in node] if isinstance(node, list) else node

    turned = reversed_maps(golden.given(case))
    assert isinstance(turned, dict)
    assert children(parse_resource(turned)) == children(parse_resource(golden.given(case)))


@pytest.mark.parametrize("case", golden.cases())
def test_the_names_of_children_are_known_before_the_spec_is_read(case: str) -> None:
    model = parse_resource(golden.given(case))
    rendered = {(child["kind"], child["metadata"]["name"]) for child in children(model)}
    assert rendered == set(child_names(model.instance))


def test_the_inputs_use_every_field_of_the_spec() -> None:
    spec = parse_resource(golden.given("everything")).spec
    unset = {
        f"{section}.{field}"
        for section in ("model", "engine", "parallelism", "accelerator", "resources")
        for field, value in getattr(spec, section)
        if value is None
    }
    assert unset == {"accelerator.count"}, "everything.yaml shall set it, or this line explain why not"
