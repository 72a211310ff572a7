"""Importing what `render` gives is the identity: rendered again, it is the same."""

from __future__ import annotations

import random
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.imports import imported
from tests.support.resources import resource
from tests.support.specs import chosen, setting, value_at
from tools.generate import REPOSITORY
from vllm_operator.api.resource import VLLMModel, parse_resource
from vllm_operator.api.spec import VLLMModelSpec
from vllm_operator.api.spec.flag import flagged_fields
from vllm_operator.cli.compose.file import compose_file
from vllm_operator.cli.compose.slots import UnsupportedError
from vllm_operator.cli.documents import read
from vllm_operator.cli.engine import engine_of
from vllm_operator.cli.render import Form, rendered_text
from vllm_operator.cli.shell import script
from vllm_operator.cli.yaml_text import yaml_text
from vllm_operator.errors import InvalidSpec
from vllm_operator.render.children import children
from vllm_operator.render.context import RenderContext
from vllm_operator.render.prefetch import jobs

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

NOWHERE = (("parallelism", "nodes"), ("model", "chatTemplate"))
"""The first makes several pods, which a command cannot say; of the second one holds the path, and not the text."""

SAMPLES = sorted(
    path for path in (REPOSITORY / "manifests" / "samples").glob("*.yaml") if "  nodes: " not in path.read_text("utf-8")
)
"""But for engines over several nodes, which are not imported."""
CLUSTER = RenderContext(pod_monitors=True)
HASH = "vllm.echo-roots.io/desired-hash"
ARGUMENTS = [".".join(one.path) for one in flagged_fields(VLLMModelSpec) if one.path not in NOWHERE]
SEEDS = range(12)
"""Generated specs; each sets a third of all fields."""

UNSEEN = (
    *("accelerator.memory", "autoscaling", "catalog", "estimate"),
    *("rollout.paused", "rollout.templateUpdates", "rollout.surgeTimeoutSeconds"),
)
"""Fields that leave no trace in what is rendered without a cluster."""

DEFAULTS_OF_SEVERAL = ("storage.sharedMemory",)
"""A sample says what would be the default of its number of GPUs."""


def model_of(seed: int, *, without: tuple[str, ...] = ()) -> VLLMModel:
    """A model with a generated spec."""
    generated = chosen(random.Random(seed))  # noqa: S311 # the same specs each time
    spec = {name: part for name, part in generated.items() if name not in without}
    raw = resource(**spec)
    del raw["metadata"]["uid"]  # a model that stands in a file has none
    return parse_resource(raw)


def back(text: str) -> VLLMModel:
    """What a rendered text is imported to."""
    (document,) = imported(text).documents
    return parse_resource(document)


def said(value: Any) -> Any:
    """An object without empty parts, and with its variables by name: an order that says nothing is no difference."""
    if isinstance(value, dict):
        kept = {key: said(item) for key, item in value.items() if item not in ({}, []) and key != HASH}
        if isinstance(kept.get("env"), list):
            kept["env"] = sorted(kept["env"], key=lambda one: str(one["name"]))
        return kept
    return [said(item) for item in value] if isinstance(value, list) else value


def objects(model: VLLMModel) -> list[Any]:
    """The objects that the operator would make."""
    return [said(child) for child in yaml.safe_load_all(yaml_text(children(model, CLUSTER)))]


def command_lines(model: VLLMModel) -> list[str]:
    """The command without its comments; the variables before it in the order of their names."""
    lines = [line for line in script([engine_of(model)]).splitlines() if not line.startswith("# ")]
    start = next(number for number, line in enumerate(lines) if line.startswith("vllm serve"))
    return [*sorted(lines[:start]), *lines[start:]]


def services(model: VLLMModel) -> Any:
    """The Compose file, its variables and volumes in the order of their names."""
    loaded = yaml.safe_load(compose_file([engine_of(model)], {"stem.py": ""}))
    for service in loaded["services"].values():
        service["environment"] = sorted(service["environment"])
        service["volumes"] = sorted(service["volumes"], key=lambda one: str(one["target"]))
    return loaded


@pytest.mark.parametrize("seed", SEEDS)
def test_the_objects_of_a_generated_spec_come_back(seed: int) -> None:
    model = model_of(seed)
    try:
        rendered = objects(model)
    except InvalidSpec:
        return  # a patch that does not fit this spec
    assert objects(back(yaml_text(children(model, CLUSTER)))) == rendered


@pytest.mark.parametrize("seed", SEEDS)
def test_the_command_line_of_a_generated_spec_comes_back(seed: int) -> None:
    model = model_of(seed)
    try:
        text = script([engine_of(model)])
    except InvalidSpec:
        return
    assert command_lines(back(text)) == command_lines(model)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_compose_file_of_a_generated_spec_comes_back(seed: int) -> None:
    model = model_of(seed, without=("accelerator",))  # Compose counts no devices of a resource
    try:
        text = compose_file([engine_of(model)])
    except (InvalidSpec, UnsupportedError):
        return
    assert services(back(text)) == services(model)


@pytest.mark.parametrize("path", ARGUMENTS)
def test_every_argument_comes_back_to_its_field(path: str) -> None:
    raw = resource(**setting(path))
    model = parse_resource(raw)
    found = back(script([engine_of(model)]))
    assert command_lines(found) == command_lines(model)
    assert value_at(found.spec.model_dump(by_alias=True), path) == value_at(model.spec.model_dump(by_alias=True), path)


def test_a_chat_template_that_no_command_holds_is_asked_for() -> None:
    text = script([engine_of(parse_resource(resource(**setting("model.chatTemplate.inline"))))])
    (line,) = [line for line in imported(text).told if line.startswith("check:")]
    assert "with the text of spec.model.chatTemplate.inline: say so in spec.model.chatTemplate" in line


def seen(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec without what leaves no trace."""
    kept = {name: dict(part) if isinstance(part, dict) else part for name, part in spec.items()}
    for path in (*UNSEEN, *DEFAULTS_OF_SEVERAL):
        first, _, second = path.partition(".")
        if second:
            kept.get(first, {}).pop(second, None)
        else:
            kept.pop(first, None)
    return {name: part for name, part in kept.items() if part != {}}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_samples_come_back_as_they_were_written(path: Path) -> None:
    written = [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one["kind"] == "VLLMModel"]
    models = [parse_resource(one) for one in written]
    found = imported(yaml_text([child for model in models for child in (*children(model, CLUSTER), *jobs(model))]))
    assert [one["metadata"]["name"] for one in found.documents] == [one["metadata"]["name"] for one in written]
    assert [seen(one["spec"]) for one in found.documents] == [seen(one["spec"]) for one in written]


@pytest.mark.parametrize("form", list(Form))
def test_the_five_lines_of_the_readme_come_back_as_five_lines(form: Form) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    lines = readme.partition("```yaml\n")[2].partition("```")[0]
    text = rendered_text(read(["-"], "default", StringIO(lines)), form)
    found = imported(text)
    assert (found.text, found.told) == (lines, ())
