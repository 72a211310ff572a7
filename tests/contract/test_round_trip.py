"""What the API server makes of our children is what we asked for: a second look finds nothing to write."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings

from tests.support import lws
from tests.support.api import Api
from tests.support.specs import field_paths, setting, specs
from vllm_operator.api.resource import parse_resource
from vllm_operator.planner.compare import holds
from vllm_operator.render.children import children
from vllm_operator.render.context import RenderContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.support.namespace import Namespace

pytestmark = pytest.mark.api_server

SAMPLES = sorted((Path(__file__).parent.parent.parent / "manifests" / "samples").glob("*.yaml"))
SURROUNDINGS = RenderContext(api_key="secret")
NAMES = (f"model-{number}" for number in itertools.count())


@pytest.fixture
def api(quiet: Namespace) -> Iterator[Api]:
    """The API server over HTTP, which knows every kind of child that a sample has."""
    lws.install_definition(quiet.cluster)
    found = Api(quiet.cluster.kubeconfig)
    yield found
    found.close()


def stored(api: Api, document: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Create a model, apply its children as the operator does, and read them: each as it is, and as it shall be."""
    desired = children(parse_resource(api.create_model(document)), SURROUNDINGS)
    for child in desired:
        api.apply(child)
    return [(api.read(child), child) for child in desired]


def differences(api: Api, document: dict[str, Any]) -> list[dict[str, Any]]:
    """Children that a second look would write again."""
    return [child for live, child in stored(api, document) if not holds(live, child)]


def few(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with so few engines that the controllers beside the API server have little to do."""
    return {**spec, "replicas": min(spec.get("replicas", 1), 1)}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_nothing_is_written_twice_for_a_sample(api: Api, quiet: Namespace, path: Path) -> None:
    documents = [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one["kind"] == "VLLMModel"]
    assert documents
    for document in documents:
        document["metadata"]["namespace"] = quiet.name
        assert differences(api, {**document, "spec": few(document["spec"])}) == []


def test_nothing_is_written_twice_for_generated_specs(api: Api, quiet: Namespace) -> None:
    tried = 0

    @given(spec=specs())
    @settings(max_examples=60, derandomize=True, deadline=None)
    def check(spec: dict[str, Any]) -> None:
        nonlocal tried
        tried += 1
        assert differences(api, quiet.document(next(NAMES), **few(spec))) == []

    check()
    assert tried >= 60


def named(documents: Iterable[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Objects by their kinds and names."""
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


def test_nothing_is_written_twice_whatever_field_is_set(api: Api, quiet: Namespace) -> None:
    """One field at a time shows what the API server's defaults do to it; only children that it changes are tried."""
    usual = named(children(parse_resource(quiet.document())))
    wrong = {}
    for path in field_paths():
        for key, child in named(children(parse_resource(quiet.document(**setting(path))))).items():
            if child != usual.get(key) and not holds(api.apply(child, dryRun="All"), child):
                wrong[path] = child
    assert wrong == {}


def test_a_read_model_is_parsed_like_the_written_one(api: Api, quiet: Namespace) -> None:
    document = quiet.document("whole", **setting("pod.volumes"))
    created = api.create_model(document)
    assert parse_resource(created).spec == parse_resource(document).spec
    assert parse_resource(created).uid == created["metadata"]["uid"]
