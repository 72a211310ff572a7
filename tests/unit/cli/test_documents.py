"""What is refused without a cluster: what the API server refuses, in its words where they are ours."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings

from tests.support.constraints import CONSTRAINTS, Constraint
from tests.support.resources import SOURCE, resource
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
        ({"spec": None}, "-: qwen: spec: must be set"),
        ({"spec": [1]}, "-: qwen: spec: must be a map, not a list"),
        ({"specs": {}}, "-: qwen: specs: there is no such field"),
        ({"spec": {"model": {"source": "a/b", "servedNames": ["a", "a"]}}}, "-: qwen: spec.model.servedNames[1]: rep"),
        (
            {"spec": {"model": {"source": "a/b"}, "replicas": "2"}},
            "-: qwen: spec.replicas: must be a whole number, not '2'",
        ),
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
        ({"containers": [{"name": "vllm", "args": [1]}]}, "containers[0].args[0]: must be text, not 1"),
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


NULLS = """
apiVersion: vllm.echo-roots.io/v1alpha1
kind: VLLMModel
metadata: {name: q, namespace: null, labels: null}
spec:
  model: {source: a/b, servedNames: null}
  engine: {env: null, extraArgs: null, port: null, maxModelLen: null}
  parallelism: {tensor: null}
  scheduling: null
  pod: {labels: null, patch: {spec: {dnsPolicy: null}}}
  resources: {limits: {cpu: null}}
  lora: null
"""


def test_null_counts_as_not_set_and_where_it_does_not_is_told() -> None:
    told: list[str] = []
    (model,) = read(["-"], "default", io.StringIO(NULLS), told.append)
    (plain,) = read_text(written({"model": {"source": "a/b"}}))
    assert model.spec.model == plain.spec.model
    assert model.spec.engine == plain.spec.engine
    assert model.namespace == "default"
    (note,) = told
    for path in ("spec.engine.env", "spec.engine.extraArgs", "spec.pod.labels", "spec.resources.limits.cpu"):
        assert f"{path}," in note
    assert note.endswith("is refused to kubectl apply --server-side and to Helm 4: leave it out")
    for path in ("port", "tensor", "dnsPolicy", "scheduling"):  # a default stands in, or no schema is there
        assert path not in note


def test_a_field_that_stands_twice_is_told() -> None:
    told: list[str] = []
    text = written({}).replace("source: ", "source: c/d\n    source: ")
    (model,) = read(["-"], "default", io.StringIO(text), told.append)
    assert model.spec.model.source == SOURCE
    assert told == ["-: qwen: source is there twice: kubectl takes the last one"]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("engine: {max_model_len: 5}", "spec.engine.max_model_len: there is no such field"),
        ("model: {source: a/b, served_names: [a]}", "spec.model.served_names: there is no such field"),
        ("resources: {limits: {cpu: 0.5}}", "spec.resources.limits.cpu: must be a quantity such as `500m`, `1.5`, "),
        ("resources: {limits: {cpu: 0.5}}", '`64G` (thousands) or `64Gi`, not 0.5: write "0.5" or 500m'),
        ("resources: {limits: {memory: 64GB}}", "spec.resources.limits.memory: must be a quantity such as"),
        ("disruption: {minAvailable: 1.5}", "minAvailable: must be a whole number, or a share such as `50%`, not 1.5"),
        ("engine: {maxModelLen: 1.5}", "maxModelLen: must be a number of tokens such as `32768` or `32k`, or `auto`"),
        ("engine: {maxModelLen: 32KB}", "or `auto`, not '32KB'"),
        ("model: {source: a/b, revision: 12e03}", 'spec.model.revision: must be a text, not 12000: write "12000"'),
        ("engine: {env: [{name: A, value: y}]}", 'spec.engine.env[0].value: must be a text, not true: write "true"'),
        ("engine: {extraArgs: [null]}", "spec.engine.extraArgs[0]: must be a text, not null"),
        ("replicas: 1.5", "spec.replicas: must be a whole number, not 1.5"),
        ("replicas: 1001", "spec.replicas: must be at most 1000, not 1001"),
        ("storage: {sharedMemory: {}}", "spec.storage.sharedMemory: must be a quantity such as"),
        ("catalog: {languages: []}", ""),
    ],
)
def test_a_refusal_names_a_field_that_exists_and_the_way_out(spec: str, told: str) -> None:
    head = "apiVersion: vllm.echo-roots.io/v1alpha1\nkind: VLLMModel\nmetadata: {name: q}\nspec:\n"
    model = "" if spec.startswith("model:") else "  model: {source: a/b}\n"
    assert told in refusal(f"{head}{model}  {spec}\n")


def test_a_list_is_taken_apart_as_kubectl_does() -> None:
    one, other = resource("one"), resource("other")
    found = read_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [one, other]}))
    assert [model.name for model in found] == ["one", "other"]
    told = refusal(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [one, "word"]}))
    assert told == "-: holds 'word' where a VLLMModel should be"


def test_whole_numbers_are_whole_however_they_are_written() -> None:
    (model,) = read_text(written({"replicas": 2}).replace("replicas: 2", "replicas: 2e0"))
    assert model.spec.replicas == 2


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"name": "a", "labels": {"mesh": True}}, "metadata.labels.mesh: must be a text: put it in quotation marks"),
        ({"name": "a", "annotations": []}, "metadata.annotations: must be a map of texts"),
        ({"name": "a", "label": {}}, "metadata.label: there is no such field"),
    ],
)
def test_metadata_that_no_api_server_takes_is_refused(metadata: dict[str, Any], told: str) -> None:
    assert told in refusal(yaml.safe_dump(resource() | {"metadata": metadata}))


def test_a_date_is_a_text_as_for_kubectl() -> None:
    (model,) = read_text(
        written({"model": {"source": "a/b", "revision": "X"}}).replace("revision: X", "revision: 2024-01-02")
    )
    assert model.spec.model.revision == "2024-01-02"
