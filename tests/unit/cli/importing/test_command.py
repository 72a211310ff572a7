"""`kubectl vllm import`, as people type it."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest
import yaml
from typer.testing import CliRunner

from tests.support.imports import imported
from tools.generate import REPOSITORY
from vllm_operator.cli.importing.draft import NotImportableError
from vllm_operator.cli.importing.kinds import Kind
from vllm_operator.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

SERVE = "vllm serve Qwen/Qwen3-8B"
PAGE = (REPOSITORY / "docs" / "migrate.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```console\n\$ kubectl vllm import ([^\n]*)\n(.*?)```", PAGE, re.DOTALL)


def run(*words: str, given: str = "") -> Result:
    """Run `kubectl-vllm import`."""
    return CliRunner().invoke(app, ["import", *words], input=given)


def spec(text: str) -> dict[str, object]:
    """The spec of the one model in a text."""
    (document,) = imported(text).documents
    return dict(document["spec"])


def told(text: str, level: str) -> list[str]:
    """What is told at a level, without the model's name."""
    lines = imported(text).told
    return [line.split(": ", 2)[2] for line in lines if line.startswith(f"{level}: ")]


@pytest.mark.parametrize(("line", "printed"), EXAMPLES, ids=[line for line, _ in EXAMPLES])
def test_the_page_shows_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, printed: str
) -> None:
    for name, text in re.findall(r"<!-- file (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    result = run(*shlex.split(line))
    assert result.stderr + result.stdout == printed
    assert result.exit_code == int(bool(re.search("^(check|lost):", result.stderr, re.MULTILINE)))


def test_a_file_the_standard_input_and_words_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "serve.sh"
    file.write_text(SERVE, encoding="utf-8")
    results = [run(str(file)), run("-", given=SERVE), run("--", *SERVE.split()), run("--", SERVE)]
    assert {result.exit_code for result in results} == {0}
    assert len({result.stdout for result in results}) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (SERVE, 0),
        (f"{SERVE} --max-model-len $LEN", 1),
        (f"{SERVE} --headless", 1),
        ("ls -la", 2),
        ("", 2),
        ("a: [", 2),
        ('vllm serve "x', 2),
        ("apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {containers: 5}}}", 2),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: nginx}]}", 2),
        ("apiVersion: vllm.echo-roots.io/v1alpha1\nkind: VLLMModel\nmetadata: {name: x}\nspec: {}", 2),
        ("apiVersion: v1\nkind: Deployment\nmetadata:\n  name: {{ .Release.Name }}-x\n", 2),
        ("services: {a: {image: nginx}}", 2),
    ],
)
def test_the_exit_code_says_whether_all_was_carried_over(text: str, code: int) -> None:
    result = run("-", given=text)
    assert result.exit_code == code
    assert bool(result.stdout) == (code != 2)
    assert code == 0 or result.stderr


def test_a_file_that_is_not_there_is_named() -> None:
    result = run("nowhere.yaml")
    assert (result.exit_code, result.stderr) == (2, "error: nowhere.yaml cannot be read: No such file or directory\n")


def test_name_and_namespace_are_written_as_asked() -> None:
    result = run("--name", "chat", "-n", "team", "-", given=f"{SERVE} --api-key a-key-of-mine")
    assert yaml.safe_load(result.stdout)["metadata"] == {"name": "chat", "namespace": "team"}
    assert "create secret generic chat-api-key --namespace team " in result.stderr


@pytest.mark.parametrize("name", ["Chat", "a b", "-x"])
def test_a_name_that_kubernetes_refuses_is_refused(name: str) -> None:
    assert run(f"--name={name}", "--", *SERVE.split()).exit_code == 2


def test_one_name_is_not_for_two_models() -> None:
    with pytest.raises(NotImportableError, match="--name is for one model, and here are 2"):
        imported(f"{SERVE}\n{SERVE} --port 8001\n", name="x")


def test_models_of_one_name_are_told_apart() -> None:
    names = [one["metadata"]["name"] for one in imported(f"{SERVE}\n{SERVE} --port 8001\n").documents]
    assert names == ["qwen3-8b", "qwen3-8b-2"]


@pytest.mark.parametrize(
    ("words", "contradiction"),
    [
        ("--model a/b", "two models are named, Qwen/Qwen3-8B and a/b: vLLM takes --model"),
        ("-tp 2 --tensor-parallel-size 4", "--tensor-parallel-size is there twice, with 2 and 4"),
        ("--served-model-name a --served-model-name b", "--served-model-name is there twice, with a and b"),
    ],
)
def test_contradictions_are_told(words: str, contradiction: str) -> None:
    assert any(contradiction in line for line in told(f"{SERVE} {words}", "check"))


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        ("--max_model_len=32k", ("engine", "maxModelLen"), "32k"),
        ("--max-model-len -1", ("engine", "maxModelLen"), "auto"),
        ("--max-num-batched-tokens 8k", ("engine", "maxNumBatchedTokens"), 8000),
        ("--no-enable-prefix-caching", ("engine", "enablePrefixCaching"), False),
        ("--enable-chunked-prefill False", ("engine", "enableChunkedPrefill"), False),
        ("-q awq", ("engine", "quantization"), "awq"),
        ("-tp=2", ("parallelism", "tensor"), 2),
        ("--cpu-offload-gb 4", ("engine", "cpuOffloadGB"), 4),
        ("--limit-mm-per-prompt image=2,video=1", ("engine", "multimodalLimits"), {"image": 2, "video": 1}),
        ("--limit-mm-per-prompt '{\"image\": 2}'", ("engine", "multimodalLimits"), {"image": 2}),
        ("--kv-transfer-config.kv_role kv_both", ("engine", "kvTransferConfig"), {"kv_role": "kv_both"}),
        ("--max-num-batched-token 512", ("engine", "maxNumBatchedTokens"), 512),
        ("--device cpu", ("accelerator", "profile"), "cpu"),
        ("--task embed", ("model", "runner"), "pooling"),
        ("--enable-lora", ("lora",), {}),
    ],
)
def test_an_argument_becomes_its_field_however_it_is_written(words: str, path: tuple[str, ...], value: object) -> None:
    found: object = spec(f"{SERVE} {words}")
    for name in path:
        assert isinstance(found, dict)
        found = found[name]
    assert found == value


@pytest.mark.parametrize("words", ["--port 8000", "--dtype auto", "--host 0.0.0.0", "--tensor-parallel-size 1"])
def test_defaults_are_left_out(words: str) -> None:
    assert spec(f"{SERVE} {words}") == {"model": {"source": "Qwen/Qwen3-8B"}}


def test_an_argument_without_a_field_stays_as_it_is() -> None:
    assert spec(f"{SERVE} --stream-interval 4")["engine"] == {"extraArgs": ["--stream-interval", "4"]}
    assert told(f"{SERVE} --stream-interval 4", "note") == [
        "--stream-interval has no field: it stands in spec.engine.extraArgs, as it is"
    ]


def test_an_argument_that_no_release_has_stands_as_it_is_and_is_to_be_looked_at() -> None:
    text = f"{SERVE} --our-own-fork=3"
    assert spec(text)["engine"] == {"extraArgs": ["--our-own-fork=3"]}
    (line,) = told(text, "check")
    assert "has no such argument" in line


@pytest.mark.parametrize("switch", ["--enable-log-outputs", "--enable-reasoning", "--disable-fastapi-docs"])
def test_the_word_behind_a_switch_of_any_release_is_no_value_of_it(switch: str) -> None:
    text = f"vllm serve {switch} Qwen/Qwen3-8B"
    assert spec(text)["model"] == {"source": "Qwen/Qwen3-8B"}


def test_a_slip_of_the_pen_is_told() -> None:
    (line,) = told(f"{SERVE} --gpu-memory-utilisation 0.9", "lost")
    assert line.endswith("--gpu-memory-utilization was probably meant")


@pytest.mark.parametrize(
    ("words", "told_of"),
    [
        ("--max-model-len many", "spec.engine.maxModelLen must be a number of tokens"),
        ("--port 99999", "spec.engine.port must be at most 65535"),
        ("--kv-transfer-config '{'", "vLLM does not read it either"),
        ("--config serve.yaml", "what stands in the file is not here"),
    ],
)
def test_what_is_lost_is_told_with_the_reason(words: str, told_of: str) -> None:
    assert any(told_of in line for line in told(f"{SERVE} {words}", "lost"))


VALUES = (
    "vllm serve m/x --api-key sesame-0815",
    "vllm serve m/x --hf-token sesame-0815",
    "HF_TOKEN=sesame-0815 vllm serve m/x",
    "docker run -e HF_TOKEN=sesame-0815 vllm/vllm-openai --model m/x",
    "docker run -e AWS_SECRET_ACCESS_KEY=sesame-0815 vllm/vllm-openai --model m/x",
    "services: {a: {image: vllm/vllm-openai, command: --model m/x --api-key sesame-0815}}",
    "services: {a: {image: vllm/vllm-openai, command: --model m/x, environment: {OPENAI_API_KEY: sesame-0815}}}",
    "vllm serve m/x --otlp-traces-endpoint http://user:sesame-0815@host",
    "docker run vllm/vllm-openai sh -c 'hf download m/x --token hf_sesame08150815 && vllm serve m/x'",
)


@pytest.mark.parametrize("text", VALUES)
def test_no_secret_is_ever_printed(text: str) -> None:
    result = run("-", given=text)
    assert result.exit_code in {0, 1}
    assert "sesame" not in result.stdout + result.stderr


def test_the_secret_of_a_variable_is_made_of_that_variable() -> None:
    assert told("vllm serve m/x --api-key $CHAT_KEY", "next") == [
        'kubectl create secret generic x-api-key --from-literal=api-key="$CHAT_KEY"'
    ]


def test_the_form_can_be_named() -> None:
    with pytest.raises(NotImportableError, match="nothing here starts vLLM"):
        imported("services: {a: {image: vllm/vllm-openai, command: --model m/x}}", Kind.MANIFESTS)


def test_a_dollar_sign_in_a_value_stays_one() -> None:
    engine = spec("docker run -e 'GREETING=a$$b $(X)' vllm/vllm-openai --model m/x")["engine"]
    assert isinstance(engine, dict)
    assert engine["env"] == [{"name": "GREETING", "value": "a$$$b $$(X)"}]


TEMPLATE = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: chat}
spec:
  replicas: ${REPLICAS}
  template:
    spec:
      containers:
        - name: vllm
          image: vllm/vllm-openai:v0.19.0
          args: [--model, "${MODEL}", --max-model-len, "8192"]
          resources: {limits: {nvidia.com/gpu: 1}}
"""


def test_a_variable_of_a_template_is_told_and_filled_in() -> None:
    unfilled = run("-", given=TEMPLATE)
    assert "check: chat: nobody has filled in ${MODEL}: put the model here" in unfilled.stderr
    filled = run("-", "--set", "MODEL=Qwen/Qwen3-8B", "--set", "REPLICAS=3", given=TEMPLATE)
    assert filled.exit_code == 0
    assert "source: Qwen/Qwen3-8B" in filled.stdout
    assert "replicas: 3" in filled.stdout


def test_an_image_that_knows_no_groups_yet_is_told() -> None:
    text = TEMPLATE.replace("${MODEL}", "Qwen/Qwen3-8B").replace("Deployment", "LeaderWorkerSet")
    template = "  leaderWorkerTemplate:\n    size: 2\n    workerTemplate:\n      spec:\n"
    old = text.replace("  template:\n    spec:\n", template).replace("      containers", "        containers")
    lines = old.replace("v0.19.0", "v0.8.5").replace("${REPLICAS}", "1").splitlines()
    indented = [f"  {line}" if line.startswith("        ") and "containers" not in line else line for line in lines]
    result = run("-", given="\n".join(indented) + "\n")
    assert result.exit_code == 1
    assert "spec.parallelism.nodes: needs vLLM 0.11.1 or newer; this is 0.8.5" in result.stderr


def test_an_entrypoint_that_is_not_here_is_asked_for() -> None:
    result = run("-", given="services: {a: {image: 'vllm/vllm-openai:v0.19.0', entrypoint: [/start.sh]}}")
    assert result.exit_code == 2
    assert "what its image starts stands in a script that is not here; import its command" in result.stderr
