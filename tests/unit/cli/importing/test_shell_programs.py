"""Scripts and command lines as people write them: comments, conditional arguments, loops over options, `--config`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.imports import imported
from tests.unit.cli.importing.test_shell import started, started_by_bash
from vllm_operator.cli.importing.draft import NotImportableError
from vllm_operator.cli.yaml_text import yaml_text

SERVE = "vllm serve a/b"
PARSER = '${P:+--tool-call-parser "$P" --enable-auto-tool-choice}'
OPTIONS = """
PORT=9000
while [[ $# -gt 0 ]]; do
  case $1 in
    -m|--model) MODEL="$2"; shift 2 ;;
    --port)
      PORT="$2"
      shift 2
      ;;
    *) echo "unknown: $1"; exit 1 ;;
  esac
done
vllm serve "$MODEL" --port $PORT
"""


def specs(text: str, **values: str) -> list[dict[str, Any]]:
    """The specs of the models in a text."""
    return [dict(document["spec"]) for document in imported(text, values=values).documents]


def to_see(text: str, **values: str) -> list[str]:
    """What is told of the one model in a text for which a person has to look."""
    lines = imported(text, values=values).told
    return [line.split(": ", 2)[2] for line in lines if line.startswith(("check:", "lost:"))]


@pytest.mark.parametrize(
    "text",
    [
        f"{SERVE}\n# python3 -m vllm.entrypoints.openai.api_server \\\n#   --model c/d\n",
        f"#!/bin/sh\n# vllm serve c/d \\\n{SERVE}\n",
        f"# docker run vllm/vllm-openai --model c/d\n\n{SERVE}\n# vllm serve e/f",
        f"$ {SERVE}\n# vllm serve c/d",
        f"# {SERVE}",
        f"# {SERVE} \\\n   --port 8000",
        f"# first\n# {SERVE}",
    ],
)
def test_a_comment_starts_nothing_where_a_command_stands(text: str) -> None:
    assert [spec["model"] for spec in specs(text)] == [{"source": "a/b"}]
    assert not to_see(text)


def test_a_comment_that_goes_on_in_another_starts_nothing() -> None:
    with pytest.raises(NotImportableError, match="nothing here starts vLLM"):
        imported("# python3 -m vllm.entrypoints.openai.api_server \\\n#   --model a/b\n")


@pytest.mark.parametrize(
    "arguments",
    [
        PARSER,
        f"--port 80 {PARSER}",
        f"--served-model-name x {PARSER}",
        '"${P:+--enforce-eager}"',
        "${P+--enforce-eager}",
    ],
)
def test_arguments_of_a_variable_that_may_be_set_are_told(arguments: str) -> None:
    (check,) = to_see(f"{SERVE} {arguments}")
    assert "left out: nobody has filled in ${P}; --set P=VALUE" in check
    (spec,) = specs(f"{SERVE} {arguments}")
    assert "toolCallParser" not in spec.get("engine", {})
    assert spec["model"].get("servedNames", ["x"]) == ["x"]


@pytest.mark.parametrize(
    "text",
    [
        f"docker run --gpus all vllm/vllm-openai --model a/b {PARSER}",
        "docker run ${P:+--name it} --gpus all vllm/vllm-openai --model a/b",
        f"sh -c 'vllm serve a/b {PARSER}'",
        f"ARGS='--seed 1'\nARGS=\"$ARGS ${{P:+--enforce-eager}}\"\n{SERVE} $ARGS",
    ],
)
def test_they_are_told_wherever_they_stand(text: str) -> None:
    (check,) = to_see(text)
    assert "nobody has filled in ${P}" in check
    assert specs(text)[0]["model"]["source"] == "a/b"


@pytest.mark.parametrize(
    ("text", "values", "engine"),
    [
        (PARSER, {"P": "hermes"}, {"toolCallParser": "hermes", "enableAutoToolChoice": True}),
        (PARSER, {"P": ""}, {}),
        ("${P+--enforce-eager}", {"P": ""}, {"enforceEager": True}),
        ("${P:---enforce-eager}", {}, {"enforceEager": True}),
        ("${P---seed 3}", {}, {"seed": 3}),
        ("${P---seed 3}", {"P": ""}, {}),
        ("${P:---seed 3}", {"P": ""}, {"seed": 3}),
    ],
)
def test_they_are_there_where_the_variable_is_known(text: str, values: dict[str, str], engine: dict[str, Any]) -> None:
    found = imported(f"{SERVE} {text}", values=values)
    assert found.documents[0]["spec"].get("engine", {}) == engine
    assert found.whole


def test_the_variables_of_a_container_are_known() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "it"},
        "spec": {
            "containers": [
                {
                    "name": "vllm",
                    "image": "vllm/vllm-openai:v0.30.0",
                    "command": ["sh", "-c", f"{SERVE} {PARSER} ${{NONE:+--seed 1}}"],
                    "env": [{"name": "P", "value": "hermes"}, {"name": "NONE", "value": ""}],
                }
            ]
        },
    }
    found = imported(yaml_text([pod]))
    assert found.documents[0]["spec"]["engine"]["toolCallParser"] == "hermes"
    assert "seed" not in found.documents[0]["spec"]["engine"]


@pytest.mark.parametrize(
    "text",
    [
        'P=x\nvllm ${P:+--a "$P" \'b c\'} "${P:+d e}" ${N-\'y z\'} "${N:-y z}" x${P:+ y}',
        "vllm ${N:-a=b} ${N:-http://h/?a=1&b=2} ${N:-a;b|c} ${N:-'}'} ${N:-${M:-deep}}",
        ': ${N:=a b}\nvllm $N "$N"',
        'N=\nvllm ${N:-e} "${N-e}" ${N+f} ${N:+g}',
        'A=(x "y z")\nE=()\nvllm ${A[@]+"${A[@]}"} ${E[@]:+no} "${A[@]}" "${E[@]}"',
        "A='--a'\nA+=' --b'\nvllm $A",
        "if false; then :; fi; if [ 1 = 2 ]; then A=no; L+=(no); else A=yes; fi\nvllm $A ${L[@]:-none}",
        '[ -n "" ] && A=no\n[ -n x ] && A=yes || A=no\n[ -n "" ] || B=yes\nvllm $A $B',
        "if [[ a == b || ( a == c ) ]]; then A=1; fi\n[[ a == b || c == c ]] && B=2\nvllm $B",
        "X=two\ncase $X in one) A=1;; two|three) A=2;; *) A=3;; esac\nvllm $A",
        "case x in\n  (y) A=1 ;;\n  *)\n    A=2\nesac\nvllm $A",
        "f() { declare -a L=(a 'b c'); vllm \"${L[@]}\"; }\nf",
        "((1 + 1))\nfor ((i = 0; i < 0; i++)); do :; done\nvllm a",
        "function usage {\n:\n}\nvllm a",
    ],
)
def test_variables_and_conditions_are_those_of_a_real_shell(text: str) -> None:
    assert [words for words in started(text) if words[0] == "vllm"] == started_by_bash(text)


@pytest.mark.parametrize(
    "before",
    [
        'if [[ "$1" == "-h" || "$1" == "--help" ]]; then exit 0; fi',
        'if [[ -z "$A" && ( -n "$B" || -n "$C" ) ]]\nthen\n  exit 1\nfi',
        '[[ "$1" =~ ^(a|b)$ ]] && echo yes',
        "while ! curl -s localhost/health; do sleep 1; done",
        "for one in a b; do echo $one; done",
        "case $1 in -h) echo help; exit ;; esac",
    ],
)
def test_conditions_and_loops_beside_the_server_are_not_lost(before: str) -> None:
    assert not to_see(f"{before}\n{SERVE}")


def test_what_a_loop_over_options_takes_is_asked_for_once() -> None:
    assert to_see(OPTIONS) == ["nobody has filled in ${MODEL}: put the model here, or --set MODEL=VALUE"]
    assert specs(OPTIONS)[0]["engine"] == {"port": 9000}


def test_what_the_caller_sets_stands_for_what_a_loop_takes() -> None:
    (spec,) = specs(OPTIONS, MODEL="a/b", PORT="9100")
    assert spec == {"model": {"source": "a/b"}, "engine": {"port": 9100}, "service": {"port": 9100}}
    assert not to_see(OPTIONS, MODEL="a/b")


@pytest.mark.parametrize(
    "text",
    [
        'while getopts "m:" opt; do case "$opt" in m) MODEL=$OPTARG ;; esac; done\nvllm serve $MODEL',
        'for arg in "$@"; do case $arg in --model=*) MODEL="${arg#*=}" ;; esac; done\nvllm serve $MODEL',
        'while [ $# -gt 0 ]; do if [ "$1" = -m ]; then MODEL=$2; shift; fi; shift; done\nvllm serve $MODEL',
        "MODEL=$1\nvllm serve $MODEL",
    ],
)
def test_every_way_to_take_a_model_from_outside_can_be_set(text: str) -> None:
    assert len(to_see(text)) == 1
    assert specs(text, MODEL="a/b")[0]["model"]["source"] == "a/b"
    assert not to_see(text, MODEL="a/b")


def test_what_an_arm_assigns_that_may_be_taken_is_not_guessed() -> None:
    text = "case $SIZE in big) M=a/big ;; *) M=a/small ;; esac\nvllm serve $M"
    (check,) = to_see(text)
    assert "${M}" in check
    assert specs(text, SIZE="big")[0]["model"]["source"] == "a/big"


@pytest.mark.parametrize(
    "text",
    [
        "for i in 0 1 2; do CUDA_VISIBLE_DEVICES=$i vllm serve a/b --port 800$i & done; wait",
        "for port in 8000 8001 8002; do vllm serve a/b --port $port & done",
        "for i in {0..2}; do docker run -d --gpus device=$i -p 800$i:8000 vllm/vllm-openai --model a/b; done",
        "for i in $(seq 0 2); do\n CUDA_VISIBLE_DEVICES=$i nohup vllm serve a/b --port $((8000 + i)) > $i.log &\ndone",
        "for i in $(seq 3); do PORT=$((8000 + i)); CUDA_VISIBLE_DEVICES=$i vllm serve a/b --port=$PORT & done",
    ],
)
def test_servers_that_differ_in_their_place_alone_are_replicas(text: str) -> None:
    (found,) = imported(text).documents
    assert (found["spec"]["model"]["source"], found["spec"]["replicas"]) == ("a/b", 3)
    assert not to_see(text)


@pytest.mark.parametrize(
    "text",
    [
        "for m in a/b c/d; do vllm serve $m --port 8000 & done",
        'MODELS=(a/b c/d)\nfor m in "${MODELS[@]}"; do vllm serve "$m" & done',
        "for m in a/b c/d; do docker run --gpus all vllm/vllm-openai:v0.30.0 --model $m; done",
    ],
)
def test_a_list_of_models_is_a_model_each(text: str) -> None:
    assert [spec["model"]["source"] for spec in specs(text)] == ["a/b", "c/d"]
    assert not to_see(text)


def test_a_server_in_a_loop_is_told() -> None:
    assert "`for` in the script" in to_see('for i in "$@"; do vllm serve a/b --port 8000; done')[0]


@pytest.mark.parametrize(
    "text",
    [
        "while true; do\n  vllm serve a/b --port 8000\n  sleep 5\ndone",
        "while :; do vllm serve a/b --port 8000 || echo again; done",
        "until vllm serve a/b --port 8000; do sleep 1; done",
        "while ! vllm serve a/b --port 8000; do :; done",
        "trap 'kill $PID' TERM EXIT\nwhile [ ! -e /tmp/stop ]; do vllm serve a/b --port 8000 & PID=$!; wait $PID; done",
        "sh -c 'while true; do exec vllm serve a/b --port 8000; done'",
        "for i in 1 2 3; do vllm serve a/b --port 8000 && break; sleep 5; done",
        "while true; do docker run --gpus all vllm/vllm-openai:v0.30.0 --model a/b; done",
    ],
)
def test_a_loop_that_starts_a_server_again_is_what_kubelet_does(text: str) -> None:
    (found,) = imported(text).documents
    assert found["spec"]["model"]["source"] == "a/b"
    assert not to_see(text)
    assert any("kubelet starts an engine anew that has ended" in line for line in imported(text).told)


@pytest.mark.parametrize("before", ["pip install -U huggingface_hub", "systemctl start docker", "if a; then b c; fi"])
def test_what_a_machine_does_beside_a_container_is_not_lost(before: str) -> None:
    assert not to_see(f"{before}\ndocker run --gpus all vllm/vllm-openai:v0.30.0 --model a/b")
    assert to_see(f"{before}\n{SERVE}")


@pytest.mark.parametrize(
    "text",
    [
        "docker run --gpus all -v /etc/it:/etc/it vllm/vllm-openai:v0.30.0 --config /etc/it/c.yaml --seed 3",
        "docker run -v ./it:/etc/it vllm/vllm-openai:v0.30.0 --seed 3 --config=/etc/it/c.yaml",
    ],
)
def test_a_file_that_is_not_here_is_told_and_the_rest_carried_over(text: str) -> None:
    found = imported(text)
    assert found.documents[0]["spec"]["engine"]["seed"] == 3
    assert "# check: /etc/it/c.yaml may name the model, and is not here" in found.text
    assert any(line.startswith("lost:") and "--config" in line for line in found.told)
    assert not any("nothing that the engine is told names it" in line for line in found.told)


def config_of(content: str, *args: str, **mount: Any) -> str:
    """A Deployment whose `--config` a ConfigMap holds."""
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.30.0",
        "args": [*args, "--config", "/etc/it/c.yaml"],
        "volumeMounts": [{"name": "it", "mountPath": "/etc/it", **mount}],
    }
    volumes = [{"name": "it", "configMap": {"name": "it"}}]
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container], "volumes": volumes}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    return yaml_text(
        [
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "it"}, "spec": spec},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it"}, "data": {"c.yaml": content}},
        ]
    )


FILE = """
model: a/b
max_num_seqs: 8
gpu-memory-utilization: 0.5
enable-prefix-caching: true
enforce-eager: false
served-model-name: [x, y]
hf-overrides: {rope: {factor: 2}}
"""


@pytest.mark.parametrize("mount", [{}, {"mountPath": "/etc/it/c.yaml", "subPath": "c.yaml"}])
def test_the_file_in_a_config_map_becomes_arguments(mount: dict[str, Any]) -> None:
    found = imported(config_of(FILE, "--max-num-seqs", "4", **mount))
    spec = found.documents[0]["spec"]
    assert spec["model"] == {
        "source": "a/b",
        "servedNames": ["x", "y"],
        "hfOverrides": {"rope": {"factor": 2}},
    }
    assert {key: spec["engine"][key] for key in spec["engine"] if key != "image"} == {
        "maxNumSeqs": 4,
        "gpuMemoryUtilization": 0.5,
        "enablePrefixCaching": True,
    }
    assert "volumes" not in spec.get("pod", {})
    assert any("max_num_seqs of the file is left out" in line for line in found.told)
    assert any("enforce-eager: false of the file is left out" in line for line in found.told)
    assert found.whole


def test_the_model_of_the_command_line_wins() -> None:
    assert specs(config_of("model: c/d\nseed: 1", "a/b"))[0]["model"] == {"source": "a/b"}


@pytest.mark.parametrize("content", ["[a, b]", "a: [", ""])
def test_a_file_that_says_nothing_readable_is_told(content: str) -> None:
    assert any("--config" in line for line in to_see(config_of(content, "a/b")))
