"""The values of the chart are described once, and nothing of the operator is said otherwise there."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from typing import Any

import pytest
import yaml

from tools.chart.schema import schema
from tools.chart.text import all_values, values_text, with_table
from tools.chart.values import SET_BY_THE_CHART, Values
from tools.generate import REPOSITORY
from tools.install_file import chart
from vllm_operator.api.meta import API_VERSION, GROUP, KIND, PLURAL
from vllm_operator.settings import PREFIX, Settings, from_environment

CHART = REPOSITORY / "charts" / "vllm-operator"
SCHEMA = schema()


def node(path: tuple[str, ...]) -> dict[str, Any]:
    """Schema of a value."""
    found = SCHEMA
    for name in path:
        found = found["properties"][name]
    return found


def test_values_yaml_holds_every_default_in_the_order_of_the_types() -> None:
    loaded = yaml.safe_load(values_text())
    assert loaded == Values().manifest()
    assert list(loaded) == [field.alias for field in Values.model_fields.values()]


@pytest.mark.parametrize("value", [*all_values()], ids=lambda value: ".".join(value.path))
def test_each_value_has_a_comment_a_schema_and_a_line_in_the_table(value: Any) -> None:
    words = " ".join(re.sub(r"\n *#( --)?", " ", values_text()).split())
    assert value.description in words
    assert node(value.path)["description"] == value.description
    assert f"| `{'.'.join(value.path)}` | " in with_table("<!-- begin values -->\n<!-- end -->")


def test_nothing_unknown_passes_at_any_depth_but_where_other_words_are_told() -> None:
    open_ones = []

    def walk(path: str, part: Any) -> None:
        if not isinstance(part, dict):
            return
        if "object" in part.get("type", []) and part.get("additionalProperties") is not False:
            open_ones.append(path)
        for name, field in {**part.get("properties", {}), "[]": part.get("items")}.items():
            walk(f"{path}.{name}", field)

    walk("", SCHEMA)
    assert sorted(open_ones) == [".global", ".test.spec"]


def test_every_value_that_is_read_by_a_template_is_described_and_every_one_described_is_read() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (CHART / "templates").rglob("*") if path.is_file())
    read = set(re.findall(r"\.Values\.(\w+)", text))
    assert read == set(SCHEMA["properties"]) - {"global", "enabled"}


def test_what_the_operator_takes_for_an_option_the_chart_takes_too() -> None:
    for option, given in (("name", "b" * 41), ("name", "Blue"), ("prometheusAddress", "prometheus:9090")):
        assert re.search(node((option,))["pattern"], given) is None
    assert re.search(node(("name",))["pattern"], "blue")
    assert re.search(node(("prometheusAddress",))["pattern"], "http://prometheus.monitoring:9090")
    for selector in ("shard in (1,2),!spare", "a == b", "example.com/a notin (b, c)", "a!="):
        from_environment({f"{PREFIX}MODEL_SELECTOR": selector})
        assert re.search(node(("modelSelector",))["pattern"], selector)


def test_variables_that_have_a_value_of_their_own_are_options_of_the_operator() -> None:
    assert set(SET_BY_THE_CHART) <= {f"{PREFIX}{option.name.upper()}" for option in dataclasses.fields(Settings)}
    template = (CHART / "templates" / "operator.yaml").read_text(encoding="utf-8")
    assert set(re.findall(rf"name: ({PREFIX}\w+)", template)) <= set(SET_BY_THE_CHART)


def test_the_chart_has_the_version_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart()["appVersion"] == project["version"]


def test_the_chart_tells_catalogues_of_its_definition() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    (told,) = yaml.safe_load(about["annotations"]["artifacthub.io/crds"])
    assert told["name"] == f"{PLURAL}.{GROUP}"
    assert (told["kind"], f"{GROUP}/{told['version']}") == (KIND, API_VERSION)


def test_the_schema_is_plain_json_without_words_of_kubernetes() -> None:
    assert "x-kubernetes" not in json.dumps(SCHEMA)
    assert "$ref" not in json.dumps(SCHEMA)
    assert "propertyNames" not in json.dumps(SCHEMA)
