"""What is refused without a cluster: what the API server refuses, in its words where they are ours."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings

from tests.support.constraints import CONSTRAINTS, Constraint
from tests.support.resources import resource
from tests.support.specs import specs
from vllm_operator.api.crd import crd_yaml
from vllm_operator.cli.documents import RefusedError, read

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel

SCHEMA = crd_yaml()


def read_text(text: str) -> list[VLLMModel]:
    """Read a text from the standard input."""
    return read(["-"], "default", io.StringIO(text))


def refusal(text: str) -> str:
    """Why a text is refused; empty if it is not."""
    try:
        read_text(text)
    except RefusedError as error:
        return "\n".join(error.args)
    return ""


def written(spec: dict[str, Any]) -> str:
    """A resource as a file."""
    return yaml.safe_dump({key: part for key, part in resource(**spec).items() if key != "status"})


@pytest.mark.parametrize("case", CONSTRAINTS, ids=lambda case: case.message[:70])
def test_what_the_api_server_takes_is_taken_and_what_it_refuses_is_refused(case: Constraint) -> None:
    assert refusal(written(case.accepted)) == ""
    told = refusal(written(case.refused))
    assert told.startswith("-: qwen: ")
    ours = any(rule in " ".join(SCHEMA.split()) for rule in (case.message, case.rule) if rule)
    path = re.search(r"spec[\w.\[\]]*\w\]?", case.message)
    assert case.message in told or (not ours and path is not None and path[0] in told)


@given(spec=specs())
@settings(max_examples=100, derandomize=True, deadline=None)
def test_every_valid_spec_is_taken(spec: dict[str, Any]) -> None:
    assert refusal(written(spec)) == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "-: holds nothing"),
        ("# only a comment\n---\n", "-: holds nothing"),
        ("{", "-: is no YAML: while parsing"),
        ("a: 1\na: 2", "-: is no YAML: a is there twice"),
        ("- a", "-: holds a list where a VLLMModel should be"),
        ("word", "-: holds 'word' where a VLLMModel should be"),
        ("a: 1", "-: a document without a kind of no version is not a VLLMModel of vllm.echo-roots.io/v1alpha1"),
        ("kind: Pod\napiVersion: v1", "-: a Pod of v1 is not a VLLMModel of vllm.echo-roots.io/v1alpha1"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(text: str, told: str) -> None:
    assert refusal(text).startswith(told)
    assert "\n" not in refusal(text)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"metadata": {}}, "-: VLLMModel without a name: metadata.name: must be set"),
        ({"metadata": {"name": "A\nB"}}, "-: A B: metadata.name: must be set"),
        ({"metadata": {"name": "a", "namespace": "b.c"}}, "-: a: metadata.namespace: must be"),
        ({"spec": None}, "-: qwen: spec.model: Field required"),
        ({"spec": [1]}, "-: qwen: spec: Input should be"),
        ({"specs": {}}, "-: qwen: specs: there is no such field"),
        ({"spec": {"model": {"source": "a/b"}, "lora": None}}, "-: qwen: spec.lora: is empty: give it a value"),
        ({"spec": {"model": {"source": "a/b", "servedNames": ["a", "a"]}}}, "-: qwen: spec.model.servedNames[1]: rep"),
        ({"spec": {"model": {"source": "a/b"}, "replicas": "2"}}, "-: qwen: spec.replicas: Input should be"),
        (
            {"spec": {"model": {"source": "a/b"}, "pod": {"patch": {"spec": {"containers": [{}]}}}}},
            "-: qwen: spec.pod.patch.spec.containers[0].name: must be set",
        ),
        (
            {"spec": {"model": {"source": "a/b", "chatTemplate": {"inline": "{% if %}"}}}},
            "-: qwen: spec.model.chatTemplate.inline: line 1 is no valid Jinja",
        ),
    ],
)
def test_a_faulty_model_is_told_with_its_name_and_field(part: dict[str, Any], told: str) -> None:
    assert refusal(yaml.safe_dump(resource() | part)).startswith(told)


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        (
            {"containers": [{"name": "vllm", "$patch": "delete"}]},
            "spec.pod.patch.spec.containers: the engine's own container vllm must stay",
        ),
        ({"$patch": "delete"}, "spec.pod.patch.spec.containers: the engine's own container vllm must stay"),
        ({"containers": [{"name": "vllm", "image": None}]}, "takes: containers.0.image: Field required"),
        ({"containers": [{"name": "vllm", "args": [1]}]}, "spec.pod.patch.spec.containers[0].args[0]: must be text"),
        ({"volumes": [{"name": "x", "hostPath": {}}]}, "hostPath.path: Field required"),
        ({"volumes": [{"name": "shm", "emptyDir": {"sizeLimit": "much"}}]}, "emptyDir.sizeLimit"),
    ],
)
def test_a_patch_that_leaves_no_pod_is_refused_with_the_place(patch: dict[str, Any], told: str) -> None:
    assert told in refusal(written({"pod": {"patch": {"spec": patch}}}))


def test_all_faults_of_a_model_are_told_at_once() -> None:
    engine = {"maxNumSeqs": 9, "maxNumBatchedTokens": 8, "extraArgs": ["--dtype", "--max-num-s"]}
    told = refusal(written({"engine": engine, "disruption": {}}))
    for part in ("spec.engine.maxNumBatchedTokens must be", "--dtype has a field", "--max-num-seqs", "spec.disruption"):
        assert part in told


def test_a_group_without_anything_in_it_is_as_if_it_were_not_there() -> None:
    (model,) = read_text(yaml.safe_dump(resource(engine=None)))
    assert model.spec == read_text(yaml.safe_dump(resource()))[0].spec


def test_a_date_is_a_text_as_for_kubectl() -> None:
    (model,) = read_text(
        written({"model": {"source": "a/b", "revision": "X"}}).replace("revision: X", "revision: 2024-01-02")
    )
    assert model.spec.model.revision == "2024-01-02"
