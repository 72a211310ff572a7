"""A file means to `kubectl vllm render` what it means to kubectl: the same words, documents and refusals."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster import ClusterError
from tests.support.yaml_texts import FILES, HEAD, KEYS, PARTS, REFUSED_WORDS, WORDS, file_of, random_words
from vllm_operator.cli.documents import RefusedError, read
from vllm_operator.cli.yaml_documents import NotYAMLError, documents

if TYPE_CHECKING:
    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

HOW_MANY: Final = 3000
SEED: Final = 20


def by_kubectl(cluster: OwnCluster, text: str) -> list[Any] | None:
    """The documents of a file as kubectl reads them; None where it refuses the file."""
    command = ("create", "--dry-run=client", "--validate=false", "--output=json", "--filename=-")
    try:
        printed = cluster.kubectl(*command, input=text).strip()
    except ClusterError:
        return None
    found = []
    while printed:
        document, end = json.JSONDecoder(parse_int=float).raw_decode(printed)
        found.append(document["spec"])
        printed = printed[end:].strip()
    return found


def by_us(text: str) -> list[Any] | None:
    """The same as render reads them, with all numbers as floats."""
    try:
        found = [document.value["spec"] for document in documents(text)]
    except NotYAMLError:
        return None
    floats: list[Any] = json.loads(json.dumps(found), parse_int=float)
    return floats


def patch_of(found: list[Any] | None) -> dict[str, Any]:
    """What stands under `spec.pod.patch` of the one document."""
    assert found is not None
    ((patch),) = [document["pod"]["patch"] for document in found]
    return dict(patch)


def test_every_word_means_the_same(with_crd: OwnCluster) -> None:
    words = [word for word in (*WORDS, *random_words(HOW_MANY, SEED)) if by_us(file_of(f"a: {word}")) is not None]
    assert len(words) > HOW_MANY * 0.9
    text = file_of("\n".join(f"w{number}: {word}" for number, word in enumerate(words)))
    ours, theirs = patch_of(by_us(text)), patch_of(by_kubectl(with_crd, text))
    different = {
        word: (ours[f"w{number}"], theirs[f"w{number}"])
        for number, word in enumerate(words)
        if repr(ours[f"w{number}"]) != repr(theirs[f"w{number}"])
    }
    assert different == {}


def test_every_name_of_a_field_means_the_same(with_crd: OwnCluster) -> None:
    text = file_of("\n".join(f"{key}: {number}" for number, key in enumerate(KEYS)))
    assert patch_of(by_us(text)) == patch_of(by_kubectl(with_crd, text))


@pytest.mark.parametrize("word", REFUSED_WORDS)
def test_a_word_that_kubectl_refuses_is_refused(with_crd: OwnCluster, word: str) -> None:
    assert by_kubectl(with_crd, file_of(f"a: {word}")) is None
    assert by_us(file_of(f"a: {word}")) is None


@pytest.mark.parametrize("case", PARTS)
def test_every_construction_means_the_same(with_crd: OwnCluster, case: str) -> None:
    assert by_us(file_of(PARTS[case])) == by_kubectl(with_crd, file_of(PARTS[case]))


@pytest.mark.parametrize("case", FILES)
def test_every_file_holds_the_same_documents(with_crd: OwnCluster, case: str) -> None:
    assert by_us(FILES[case]) == by_kubectl(with_crd, FILES[case])


NULLS: Final = (
    f"{HEAD}spec:\n  model: {{source: a/b, servedNames: null}}\n  scheduling: {{nodeSelector: null, affinity: null}}\n"
    "  engine: {env: null, extraArgs: null, port: null, maxModelLen: null}\n  parallelism: {tensor: null}\n"
    "  resources: {limits: null, requests: {cpu: null}}\n  pod: {labels: null, patch: {spec: {dnsPolicy: null}}}\n"
    "  lora: null\n"
)


def test_null_is_taken_where_kubectl_takes_it_and_told_where_it_does_not(with_crd: OwnCluster) -> None:
    for command in ("create", "apply"):
        with_crd.kubectl(command, "--dry-run=server", "--filename=-", input=NULLS)
    with pytest.raises(ClusterError) as refused:
        with_crd.kubectl("apply", "--server-side", "--dry-run=server", "--filename=-", input=NULLS)
    notes: list[str] = []
    assert read(["-"], "default", io.StringIO(NULLS), notes.append)
    told = set(re.findall(r"spec[\w.]+", notes[0]))
    assert told == set(re.findall(r'\* (spec[\w.]+): Invalid value: "null"', str(refused.value)))


@pytest.mark.parametrize("value", ["0.5", "1.5e0", "y", "[1]", "64GB", "1e20"])
def test_a_quantity_of_another_type_is_refused_by_kubectl_in_words_that_name_the_field_alone(
    with_crd: OwnCluster, value: str
) -> None:
    text = f"{HEAD}spec: {{model: {{source: a/b}}, resources: {{limits: {{cpu: {value}}}}}}}\n"
    with pytest.raises(ClusterError) as refused:
        with_crd.kubectl("apply", "--dry-run=server", "--filename=-", input=text)
    named = set(re.findall(r"spec\.[\w.]*\w(?:\[\w+\])?", str(refused.value)))
    assert named <= {"spec.resources.limits.cpu", "spec.resources.limits[cpu]"}  # a rule names the key of a map so
    assert named
    assert "anyOf" not in str(refused.value)
    with pytest.raises(RefusedError, match=r"spec\.resources\.limits\.cpu: "):
        read(["-"], "default", io.StringIO(text))
