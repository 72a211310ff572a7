"""Models in claims that are made for the pods, and runtimes of KServe that name no image."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.support.imports import Imported, imported

CACHE = "/home/vllm/.cache"


def stack(*, fills: bool) -> Imported:
    """What comes of values of production-stack whose claim an init container fills, or nobody."""
    model: dict[str, Any] = {
        "name": "tiny",
        "repository": "vllm/vllm-openai",
        "tag": "v0.19.1",
        "modelURL": "/data/models/tiny",
        "requestGPU": 1,
        "pvcStorage": "10Gi",
    }
    if fills:
        model["initContainer"] = {"name": "fetch", "image": "fetch:1", "mountPvcStorage": True}
    return imported(yaml.safe_dump({"servingEngineSpec": {"modelSpec": [model]}}))


def test_a_model_that_an_init_container_brings_is_where_the_engine_has_the_claim() -> None:
    result = stack(fills=True)
    (found,) = result.documents
    assert found["spec"]["model"] == {"source": f"{CACHE}/models/tiny", "servedNames": ["/data/models/tiny"]}
    assert found["spec"]["pod"]["initContainers"][0]["volumeMounts"] == [{"name": "cache", "mountPath": "/data"}]
    assert {"name": "HF_HOME", "value": CACHE} in found["spec"]["engine"]["env"]
    assert result.whole


def test_a_model_in_a_claim_that_nobody_fills_is_asked_for() -> None:
    result = stack(fills=False)
    assert result.documents[0]["spec"]["model"]["source"] == "/data/models/tiny"
    assert any("the model lay in a claim that is made for the pods" in line for line in result.told)
    assert not result.whole


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model_id=Qwen/Qwen3-4B", "--model_name=chat", "--backend=vllm", "--max-model-len=16384"],
        ["--model_id", "Qwen/Qwen3-4B", "--model-name", "chat", "--backend", "vllm", "--max-model-len", "16384"],
    ],
)
def test_a_runtime_of_kserve_needs_nobody_for_its_image(arguments: list[str]) -> None:
    model = {"modelFormat": {"name": "huggingface"}, "args": arguments}
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "qwen"},
        "spec": {"predictor": {"model": model}},
    }
    result = imported(yaml.safe_dump(document))
    (found,) = result.documents
    assert found["spec"]["model"] == {"source": "Qwen/Qwen3-4B", "servedNames": ["chat"]}
    assert found["spec"]["engine"] == {"maxModelLen": 16384}
    assert result.whole


def test_a_variable_that_names_the_model_and_what_clients_call_it_is_asked_for_once() -> None:
    result = imported('vllm serve "$MODEL" --served-model-name "$MODEL"')
    assert [line for line in result.told if line.startswith("check: ")] == [
        "check: model: nobody has filled in ${MODEL}: put the model here, or --set MODEL=VALUE"
    ]
    filled = imported('vllm serve "$MODEL" --served-model-name "$MODEL"', values={"MODEL": "a/b"})
    assert filled.documents[0]["spec"] == {"model": {"source": "a/b"}}
