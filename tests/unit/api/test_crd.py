"""The CustomResourceDefinition: a structural schema that explains itself and fits the API server's cost limits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.constraints import covers
from tests.support.resources import resource
from tools.generate import REPOSITORY, generated
from vllm_operator.api.crd import crd, crd_yaml, schema_of
from vllm_operator.api.spec import VLLMModelSpec
from vllm_operator.api.status import VLLMModelStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GENERATED = generated()
VERSION: dict[str, Any] = crd()["spec"]["versions"][0]
SCHEMA: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below a field, with its path."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


NODES = dict(node for part in ("spec", "status") for node in nodes(SCHEMA["properties"][part], part))


def test_the_walk_sees_the_whole_schema() -> None:
    expected = {
        "spec.engine.env[].value",
        "spec.resources.limits{}",
        "status.conditions[].message",
        "spec.engine.cpuOffloadGB",
        "spec.pod.volumes[].name",
        "spec.pod.labels{}",
        "spec.scheduling.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution",
    }
    assert expected <= set(NODES)


@pytest.mark.parametrize("path", NODES)
def test_the_schema_is_structural(path: str) -> None:
    node = NODES[path]
    assert not node.keys() & {"$ref", "$defs", "title", "oneOf", "allOf", "const", "nullable"}
    assert node.get("type") is not None or node.get("x-kubernetes-int-or-string") is True
    assert node.get("additionalProperties") is not False
    assert node.get("default", "") is not None
    if "anyOf" in node:
        assert node["x-kubernetes-int-or-string"] is True
        assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert not isinstance(node.get("exclusiveMinimum"), float)


@pytest.mark.parametrize("path", [path for path in NODES if not path.endswith(("[]", "{}"))])
def test_every_field_says_what_it_is(path: str) -> None:
    description = NODES[path]["description"]
    assert description.endswith(".")
    assert len(description) > len("A Secret")


@pytest.mark.parametrize("path", NODES)
def test_everything_that_grows_is_bounded(path: str) -> None:
    node = NODES[path]
    kind = node.get("type", "string")
    bound = {"string": {"maxLength", "enum", "format"}, "array": {"maxItems"}}.get(kind)
    if "additionalProperties" in node:
        bound = {"maxProperties"}
    assert bound is None or bound & node.keys()


RULES = [(path, rule) for path, node in NODES.items() for rule in node.get("x-kubernetes-validations", [])]


@pytest.mark.parametrize(("path", "rule"), RULES, ids=[rule["message"][:60] for _, rule in RULES])
def test_every_rule_has_a_message_for_people_and_a_case_on_a_real_api_server(path: str, rule: dict[str, str]) -> None:
    assert rule["rule"]
    assert not rule["message"].endswith(".")
    assert covers(rule["message"]), "give it a case in tests/support/constraints.py"
    named = rule.get("fieldPath", "").removeprefix(".")
    assert not named or f"{path}.{named}" in NODES


def test_the_definition_fits_the_note_that_kubectl_apply_leaves_on_it() -> None:
    """The note holds the whole object as JSON; annotations may have 256 KiB together."""
    assert len(json.dumps(crd(), separators=(",", ":"))) < 262_144 * 3 // 4


def test_lists_say_what_tells_their_items_apart() -> None:
    for path, node in NODES.items():
        if node.get("type") == "array":
            assert node["x-kubernetes-list-type"] in {"map", "set", "atomic"}, path
        for key in node.get("x-kubernetes-list-map-keys", []):
            assert key in node["items"]["required"], path


@pytest.mark.parametrize(
    "section", [field.alias for field in VLLMModelSpec.model_fields.values() if field.default_factory]
)
def test_optional_groups_have_an_empty_default_so_that_rules_may_read_them(section: str) -> None:
    assert SCHEMA["properties"]["spec"]["properties"][section]["default"] == {}
    assert section not in SCHEMA["properties"]["spec"]["required"]


def test_only_the_model_and_its_source_are_required() -> None:
    spec = SCHEMA["properties"]["spec"]
    assert SCHEMA["required"] == ["spec"]
    assert spec["required"] == ["model"]
    assert spec["properties"]["model"]["required"] == ["source"]


def test_every_field_of_the_types_is_in_the_schema_and_no_other() -> None:
    for part, kind in (("spec", VLLMModelSpec), ("status", VLLMModelStatus)):
        expected = {field.alias for field in kind.model_fields.values()}
        assert set(schema_of(kind)["properties"]) == expected == set(SCHEMA["properties"][part]["properties"])


def test_scale_and_status_are_subresources_on_fields_that_exist() -> None:
    assert VERSION["subresources"]["status"] == {}
    for path in VERSION["subresources"]["scale"].values():
        assert path.removeprefix(".") in NODES


def test_columns_show_fields_that_exist() -> None:
    for column in VERSION["additionalPrinterColumns"]:
        path = column["jsonPath"].removeprefix(".")
        if path.startswith("metadata."):
            continue
        field = path if "[?" not in path else f"{path.partition('[')[0]}[]{path.rpartition(']')[2]}"
        assert field in NODES, column


def test_a_bound_that_is_excluded_is_written_as_openapi_3_0_does() -> None:
    node = NODES["spec.engine.gpuMemoryUtilization"]
    assert (node["minimum"], node["exclusiveMinimum"], node["maximum"]) == (0, True, 1)


def test_the_sample_of_the_tests_uses_known_fields_only() -> None:
    assert resource()["spec"].keys() <= SCHEMA["properties"]["spec"]["properties"].keys()


def test_the_file_is_the_definition() -> None:
    assert yaml.load(crd_yaml(), Loader=yaml.CSafeLoader) == crd()


@pytest.mark.parametrize(("path", "text"), GENERATED.items(), ids=[str(path) for path in GENERATED])
def test_generated_files_are_up_to_date(path: Path, text: str) -> None:
    assert (REPOSITORY / path).read_text(encoding="utf-8") == text, "run `make generate`"
