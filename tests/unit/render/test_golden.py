"""Whole resources against the children that are expected of them; see tests/support/golden.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import golden
from tests.support.specs import field_paths

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_there_are_cases_and_each_has_its_expected_file() -> None:
    assert {"minimal", "everything", "cpu-scaled-to-zero", "placed", "guarded"} <= set(golden.cases())
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
    assert golden.rendered_children(turned) == golden.rendered_children(golden.given(case))


@pytest.mark.parametrize("case", golden.cases())
def test_a_case_is_a_resource_that_the_operator_follows(case: str) -> None:
    kinds = [child["kind"] for child in golden.rendered_children(golden.given(case))]
    assert {"ConfigMap", "Secret", "Service"} <= set(kinds)
    assert ("Deployment" in kinds) != ("LeaderWorkerSet" in kinds)


def used(value: Any, path: str) -> Iterator[str]:
    """Paths of the fields that are set."""
    if isinstance(value, dict):
        for name, inner in value.items():
            here = f"{path}.{name}".removeprefix(".")
            yield here
            yield from used(inner, here)
    elif isinstance(value, list):
        for item in value:
            yield from used(item, f"{path}[]")


def test_the_cases_use_every_field_of_the_spec() -> None:
    found = {path for case in golden.cases() for path in used(golden.given(case)["spec"], "")}
    assert set(field_paths()) - found == set()
