"""Deployments as people have them: what becomes of each, and how many need neither a person nor an escape hatch."""

from __future__ import annotations

import copy
import random
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.imports import cases, expected_path, given, imported, printed
from vllm_operator.cli.importing.draft import NotImportableError

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = cases()
LEAST_EXPRESSIBLE = 0.92
LEAST_TYPED = 0.75
LEAST_WHOLE = 0.75
"""Shares of the deployments out there that the import has to do at least: 55, 45 and 45 of 60."""

SECRETS = re.compile(r"hf_[a-z0-9]{10,}|sk-local-[0-9a-f]+|token-abc123|(?<=api-key )\S+(?=\s)")


@pytest.mark.parametrize("case", CASES)
def test_each_deployment_becomes_what_is_expected(case: str) -> None:
    assert printed(case) == expected_path(case).read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_no_secret_of_an_input_reaches_an_output(case: str) -> None:
    written = printed(case)
    for secret in SECRETS.findall(given(case)):
        if not secret.startswith("$"):
            assert secret not in written


@pytest.mark.parametrize("case", CASES)
def test_the_comments_leave_the_resources_as_they_are(case: str) -> None:
    found = imported(given(case))
    assert list(yaml.safe_load_all(found.text)) == found.documents


def test_most_deployments_out_there_come_over_with_typed_fields_and_without_a_person() -> None:
    found = [imported(given(case)) for case in CASES]
    assert len(found) >= 60
    assert sum(one.expressible for one in found) >= LEAST_EXPRESSIBLE * len(found)
    assert sum(one.typed for one in found) >= LEAST_TYPED * len(found)
    assert sum(one.whole for one in found) >= LEAST_WHOLE * len(found)


def test_what_is_imported_is_accepted() -> None:
    refused = {case: imported(given(case)).told for case in CASES}
    assert [(case, line) for case, told in refused.items() for line in told if "refused as it is" in line] == []


ODD: tuple[Any, ...] = (None, 5, 0.5, True, "x", "", [], {}, [5], [None], ["a"], {"a": 1}, {"a": None})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a value."""
    yield path
    found = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in found:
        yield from places(inner, (*path, key))


def test_a_part_of_another_type_than_it_should_be_is_read_or_refused() -> None:
    chance = random.Random(16)  # noqa: S311 # the same each time
    documents = [list(yaml.safe_load_all(given(case))) for case in CASES if not case.endswith(".sh")]
    for _ in range(250):
        changed = copy.deepcopy(chance.choice(documents))
        path = chance.choice([one for one in places(changed) if len(one) > 1])
        holder: Any = changed
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = copy.deepcopy(chance.choice(ODD))
        try:
            assert imported(yaml.safe_dump_all(changed)).documents
        except NotImportableError as error:
            assert str(error)  # noqa: PT017 # either of both
