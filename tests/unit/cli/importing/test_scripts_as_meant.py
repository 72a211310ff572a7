"""Scripts as people meant them: lines that were to go on, installations, manifests behind `<<`."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.support.imports import imported
from vllm_operator.cli.importing.draft import NotImportableError

MEANT = "they are read as what was meant"
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: chat}
spec:
  template:
    spec:
      containers:
      - name: vllm
        image: $IMAGE
        command: [vllm, serve, "${MODEL:-Qwen/Qwen3-4B}", "--port=${PORT}"]
"""


def pod(**container: Any) -> str:
    """A Deployment with one container."""
    spec = {"containers": [{"name": "vllm", "image": "vllm/vllm-openai:v0.19.1", **container}]}
    document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "chat"}}
    return yaml.safe_dump({**document, "spec": {"template": {"spec": spec}}})


@pytest.mark.parametrize("end", ["\\ ", "\\\t", "\\  # that is enough", "\\ #"])
def test_a_line_that_was_meant_to_go_on_does(end: str) -> None:
    result = imported(f"vllm serve a/b --served-model-name c {end}\n  --max-model-len 4096 \\\n  --seed 3\n")
    (found,) = result.documents
    assert found["spec"]["model"]["servedNames"] == ["c"]
    assert found["spec"]["engine"] == {"maxModelLen": 4096, "seed": 3}
    assert result.whole
    assert sum(MEANT in line for line in result.told) == 1


@pytest.mark.parametrize("text", ["vllm serve a/b\\ c --seed 3", "vllm serve a/b \\ \ncurl localhost"])
def test_a_blank_that_is_escaped_is_none_to_mend(text: str) -> None:
    assert not any(MEANT in line for line in imported(text).told)


@pytest.mark.parametrize("end", ["\\", "\\\n", "\\ ", "\\ \n"])
def test_a_backslash_at_the_end_says_nothing(end: str) -> None:
    result = imported(f"vllm serve a/b --seed 3 {end}")
    assert result.whole
    assert result.documents[0]["spec"]["engine"] == {"seed": 3}


def test_in_a_pod_too() -> None:
    result = imported(pod(command=["sh", "-c", "vllm serve a/b \\ \n --seed 3"]))
    assert result.documents[0]["spec"]["engine"]["seed"] == 3
    assert any(MEANT in line for line in result.told)


@pytest.mark.parametrize(
    "command",
    [
        "uv venv --python 3.12 --seed",
        "python3 -m venv .venv",
        "virtualenv env",
        "uv pip install vllm --torch-backend=auto",
        "pip install -U vllm[audio]",
        "python -m pip install --upgrade pip",
        "pip3 install vllm --extra-index-url https://wheels.example.com/nightly",
    ],
)
def test_an_environment_is_in_the_image(command: str) -> None:
    result = imported(f"{command}\nvllm serve a/b\n")
    assert result.whole
    assert any("the engine's image holds vLLM" in line for line in result.told)


@pytest.mark.parametrize("command", ["pip install vllm==0.9.2", "pip install vllm flashinfer-python", "uv sync", "pip"])
def test_what_the_image_may_lack_is_lost(command: str) -> None:
    assert any("runs beside the server" in line for line in imported(f"{command}\nvllm serve a/b\n").told)


@pytest.mark.parametrize(
    "script",
    [
        "cat <<EOF | kubectl apply -f -\n{}EOF\n",
        "kubectl apply -f - <<EOF\n{}EOF\n",
        "#!/bin/bash\ncat > chat.yaml <<-EOF\n{}EOF\nkubectl apply -f chat.yaml\n",
    ],
)
def test_manifests_that_a_script_writes_are_read(script: str) -> None:
    text = "IMAGE=vllm/vllm-openai:v0.19.1\nPORT=8080\n" + script.format(DEPLOYMENT)
    result = imported(text)
    (found,) = result.documents
    assert found["metadata"]["name"] == "chat"
    assert found["spec"]["model"]["source"] == "Qwen/Qwen3-4B"
    assert found["spec"]["engine"] == {"image": "vllm/vllm-openai:v0.19.1", "port": 8080}
    assert result.whole


def test_a_variable_that_nobody_has_filled_in_is_asked_for() -> None:
    text = f"kubectl apply -f - <<EOF\n{DEPLOYMENT}EOF\n"
    nothing_set = imported(text)
    assert any("the image ${IMAGE}" in line and "--set IMAGE=VALUE" in line for line in nothing_set.told)
    asked = imported(text, values={"IMAGE": "vllm/vllm-openai:v0.19.1"})
    assert [line for line in asked.told if line.startswith("check:") and "${PORT}" in line]
    assert imported(text, values={"IMAGE": "vllm/vllm-openai:v0.19.1", "PORT": "8080"}).whole


def test_a_quoted_end_keeps_the_text_as_it_is() -> None:
    text = pod(command=["sh", "-c", 'vllm serve "$MODEL"'], env=[{"name": "MODEL", "value": "c/d"}])
    result = imported(f"MODEL=a/b\nkubectl apply -f - <<'EOF'\n{text}EOF\n")
    assert result.documents[0]["spec"]["model"]["source"] == "c/d"


def test_compose_that_a_script_writes_is_read() -> None:
    text = "services: {chat: {image: 'vllm/vllm-openai:v0.19.1', command: --model a/b}}\n"
    result = imported(f"cat > compose.yaml <<EOF\n{text}EOF\ndocker compose up -d\n")
    assert [one["metadata"]["name"] for one in result.documents] == ["chat"]


def test_text_that_is_no_yaml_is_refused_with_where_it_stands() -> None:
    with pytest.raises(NotImportableError, match="behind `<<`"):
        imported("kubectl apply -f - <<EOF\nkind: Deployment\n  a: [\nEOF\n")
    assert imported("cat <<EOF\nkind: Deployment\n  a: [\nEOF\nvllm serve a/b\n").whole


def test_what_runs_beside_a_server_is_told_in_spite_of_what_the_script_writes() -> None:
    result = imported("cat > secret.yaml <<EOF\nkind: Secret\nEOF\n./prepare.sh\nvllm serve a/b\n")
    assert any("`./prepare.sh`" in line for line in result.told)


def test_yaml_that_is_none_is_told_as_before() -> None:
    with pytest.raises(NotImportableError, match="is no YAML"):
        imported("kind: Deployment\n  a: [\n")


def test_a_command_in_one_word_is_read_as_its_words() -> None:
    result = imported(pod(command=["python3 -m vllm.entrypoints.openai.api_server --model a/b --seed 3"]))
    assert result.documents[0]["spec"]["engine"]["seed"] == 3
    assert any("is one word of the command" in line for line in result.told)
    broken = imported(pod(command=["vllm serve a/b --seed 3 --served-model-name it's"]))
    assert broken.documents[0]["spec"]["model"]["servedNames"] == ["it's"]


def test_an_image_of_vllm_that_is_told_no_model() -> None:
    with pytest.raises(NotImportableError, match="its arguments name no model"):
        imported(pod())
    with pytest.raises(NotImportableError, match="a script that is not here"):
        imported(pod(image="registry.example.com/my-vllm:1"))


def test_an_unconfined_container_of_docker_stays_one() -> None:
    result = imported("docker run --security-opt apparmor=unconfined vllm/vllm-openai:v0.19.1 --model a/b")
    (container,) = result.documents[0]["spec"]["pod"]["patch"]["spec"]["containers"]
    assert container["securityContext"] == {"appArmorProfile": {"type": "Unconfined"}}
    assert result.whole
