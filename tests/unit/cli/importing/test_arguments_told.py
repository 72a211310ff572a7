"""Arguments and parts of pods that would change in silence, or keep an engine from its start or its traffic."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.support.imports import Imported, imported
from tests.support.resources import resource
from vllm_operator.api.resource import parse_resource
from vllm_operator.api.vllm_releases import arguments_of, releases
from vllm_operator.cli.importing.untyped_arguments import stands_alone
from vllm_operator.cli.yaml_text import yaml_text
from vllm_operator.render.children import children
from vllm_operator.render.context import RenderContext

SERVE = "vllm serve Qwen/Qwen3-8B"
NEWEST = "0.32.0"


def told(result: Imported, level: str) -> str:
    """All lines of a level."""
    return "\n".join(line for line in result.told if line.startswith(f"{level}: "))


def spec(result: Imported) -> dict[str, Any]:
    """The spec of the one model."""
    (document,) = result.documents
    return dict(document["spec"])


def extra(result: Imported) -> list[str]:
    """The arguments that have no field."""
    return list(spec(result).get("engine", {}).get("extraArgs", []))


def on(version: str, words: str) -> Imported:
    """What comes of a server in vLLM's own image of a version."""
    return imported(f"docker run vllm/vllm-openai:v{version} --model Qwen/Qwen3-8B {words}")


def pod(*arguments: str, image: str = f"vllm/vllm-openai:v{NEWEST}", **more: Any) -> str:
    """A pod with a server, and with more containers and volumes."""
    engine = {"name": "vllm", "image": image, "args": ["--model", "Qwen/Qwen3-8B", *arguments]}
    inner = {**more, "containers": [engine, *more.get("containers", [])]}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "chat"}, "spec": inner})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.1.1", "localhost", "::1", "[::1]", "LOCALHOST"])
@pytest.mark.parametrize("before", [SERVE, "docker run vllm/vllm-openai --model Qwen/Qwen3-8B", ""])
def test_an_address_of_the_pod_alone_is_left_out_without_asking(host: str, before: str) -> None:
    result = imported(f"{before} --host '{host}'" if before else pod("--host", host))
    assert "host" not in spec(result).get("engine", {})
    assert f"--host {host} is left out" in told(result, "note")
    assert result.whole


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("place", ["containers", "initContainers"])
def test_a_sidecar_may_be_why_only_the_pod_reaches_the_server(host: str, place: str) -> None:
    beside = {"name": "proxy", "image": "nginx:1.27"} | ({"restartPolicy": "Always"} if place != "containers" else {})
    more: dict[str, Any] = {place: [beside]}
    result = imported(pod("--host", host, **more))
    assert "host" not in spec(result).get("engine", {})
    assert "only a sidecar would reach the server" in told(result, "check")


GONE = sorted(
    name
    for release in releases()
    for name in arguments_of(release)
    if name.startswith(("--tokenizer-pool", "--no-enable-prompt-adapter"))
)


@pytest.mark.parametrize("name", sorted({*GONE, "--guided-decoding-disable-fallback"}))
def test_what_vllm_has_dropped_and_nobody_needs_is_left_out(name: str) -> None:
    result = imported(f"{SERVE} {name}" if stands_alone(name) else f"{SERVE} {name} 4")
    assert extra(result) == []
    assert f"{name}" in told(result, "note")
    assert result.whole


@pytest.mark.parametrize(
    ("words", "since"),
    [
        ("--qlora-adapter-name-or-path /adapter", "0.10.0"),
        ("--lora-extra-vocab-size 256", "0.12.0"),
        ("--enable-prompt-adapter", "0.10.2"),
        ("--calculate-kv-scales", "0.28.0"),
        ("--max-long-partial-prefills 2", ""),
    ],
)
def test_what_vllm_has_dropped_is_lost_and_says_since_when(words: str, since: str) -> None:
    result = imported(f"{SERVE} {words}")
    assert extra(result) == []
    assert f"{words}: gone since vLLM {since}" in told(result, "lost")


def test_no_argument_stays_that_the_image_does_not_have() -> None:
    known = arguments_of(releases()[-2])
    every = {name for release in releases() for name in arguments_of(release) if name not in known}
    assert every
    for name in sorted(every):
        given = f"{SERVE} {name}" if stands_alone(name) else f"{SERVE} {name} 1"
        result = imported(given)
        kept = name in extra(result)
        assert not kept or f"{name} 1: needs vLLM" in told(result, "check") or f"{name}: needs" in told(result, "check")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("0.9.2", "--tokenizer-pool-size 4"),
        ("0.9.0", "--swap-space 4"),
        ("0.11.0", "--guided-decoding-backend xgrammar"),
        ("0.10.1", "--enable-prompt-adapter"),
    ],
)
def test_what_an_older_image_has_stays(version: str, words: str) -> None:
    result = on(version, words)
    assert extra(result) == words.split()
    assert result.whole


@pytest.mark.parametrize("words", ["--aux-output-config {}", "--tool-server demo", "--cohere-format x"])
def test_what_an_older_image_does_not_have_yet_is_to_be_looked_at(words: str) -> None:
    result = on("0.9.0", words)
    assert extra(result) == words.split()
    assert f"{words}: needs vLLM" in told(result, "check")


def test_an_image_that_tells_no_version_is_asked_for() -> None:
    result = imported(f"docker run registry.example/own {SERVE} --calculate-kv-scales --swap-space 4")
    assert extra(result) == ["--calculate-kv-scales"]
    assert "does not tell which vLLM it is" in told(result, "check")


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ('--max-model-len "1024 "', "maxModelLen", 1024),
        ('--max-num-seqs=" 8"', "maxNumSeqs", 8),
        ('--dtype "bfloat16\n"', "dtype", "bfloat16"),
        ("--gpu-memory-utilization ' 0.5 '", "gpuMemoryUtilization", 0.5),
    ],
)
def test_white_space_around_a_value_is_taken_away(words: str, field: str, value: object) -> None:
    result = imported(f"{SERVE} {words}")
    assert spec(result)["engine"][field] == value
    assert result.whole


@pytest.mark.parametrize("text", ["\n{{ messages }}\n", "{% for m in messages %} {% endfor %} "])
def test_white_space_of_a_template_stays(text: str) -> None:
    result = imported(pod("--chat-template", text))
    assert spec(result)["model"]["chatTemplate"] == {"inline": text}


@pytest.mark.parametrize("words", ["-O3", "-O 3", "-O=3"])
@pytest.mark.parametrize(
    ("image", "engine"),
    [
        ("vllm/vllm-openai:v0.19.0", {"optimizationLevel": 3}),
        ("vllm/vllm-openai:v0.11.2", {"compilationConfig": {"mode": 3}}),
        ("vllm/vllm-openai:v0.10.0", {"compilationConfig": {"level": 3}}),
        ("registry.example/own", {"optimizationLevel": 3}),
    ],
)
def test_a_level_of_optimization_is_said_as_the_version_reads_it(
    words: str, image: str, engine: dict[str, object]
) -> None:
    result = imported(f"docker run {image} {SERVE} {words}")
    assert spec(result)["engine"] == {"image": image, **engine}
    assert result.whole


@pytest.mark.parametrize("words", ["-O.mode=3", "-O.mode 3", "-O '{\"mode\": 3}'"])
def test_a_key_behind_o_is_one_of_the_compilation_config(words: str) -> None:
    assert spec(imported(f"{SERVE} {words}"))["engine"] == {"compilationConfig": {"mode": 3}}


@pytest.mark.parametrize("words", ["--optimization-level 2", "--optimization-level O2", "--optimization_level=o2"])
def test_a_level_of_optimization_is_read_by_its_number_and_its_name(words: str) -> None:
    result = imported(f"{SERVE} {words}")
    assert spec(result)["engine"] == {"optimizationLevel": 2}
    assert result.whole


@pytest.mark.parametrize(
    ("image", "config", "level"),
    [
        ("vllm/vllm-openai:v0.8.5", {"level": 3}, None),
        ("vllm/vllm-openai:v0.9.1", {"level": 3}, None),
        ("vllm/vllm-openai:v0.10.0", {"level": 3}, "note"),
        ("vllm/vllm-openai:v0.12.0", {"mode": 3}, "note"),
        ("registry.example/own", {"mode": 3}, "check"),
    ],
)
@pytest.mark.parametrize("words", ["--compilation-config 3", "--compilation-config=3", "--compilation_config '3'"])
def test_a_number_as_compilation_config_is_the_level_of_its_version(
    words: str, image: str, config: dict[str, int], level: str | None
) -> None:
    result = imported(f"docker run {image} {SERVE} {words}")
    assert spec(result)["engine"]["compilationConfig"] == config
    assert ("compilation" in told(result, level)) if level else result.whole
    assert result.whole == (level != "check")


@pytest.mark.parametrize(
    "words", ["--compilation-config '{\"level\": 3}'", "--compilation-config.level 3", "-cc.level=3"]
)
def test_the_level_in_a_compilation_config_is_called_as_the_version_calls_it(words: str) -> None:
    newer = imported(f"docker run vllm/vllm-openai:v0.18.0 {SERVE} {words}")
    assert spec(newer)["engine"]["compilationConfig"] == {"mode": 3}
    assert newer.whole
    older = imported(f"docker run vllm/vllm-openai:v0.10.0 {SERVE} {words}")
    assert spec(older)["engine"]["compilationConfig"] == {"level": 3}


def test_speculative_decoding_is_carried_whole_with_keys_that_have_no_field() -> None:
    config = '{"method": "eagle3", "model": "org/d", "num_speculative_tokens": 3, "draft_sample_method": "greedy"}'
    result = imported(f"{SERVE} --speculative-config '{config}' --speculative-config.attention_backend TRITON_MLA")
    assert spec(result)["engine"]["speculativeDecoding"] == {
        "numSpeculativeTokens": 3,
        "method": "eagle3",
        "model": "org/d",
        "extraConfig": {"draft_sample_method": "greedy", "attention_backend": "TRITON_MLA"},
    }
    assert result.whole


def test_a_method_of_speculative_decoding_may_say_the_number_of_tokens_itself() -> None:
    result = imported(f'{SERVE} --speculative-config \'{{"method": "mtp"}}\'')
    assert spec(result)["engine"]["speculativeDecoding"] == {"method": "mtp"}
    assert result.whole


@pytest.mark.parametrize("words", ["-O9", "-Ofast"])
def test_another_level_is_lost(words: str) -> None:
    assert words in told(imported(f"{SERVE} {words}"), "lost")


@pytest.mark.parametrize("name", ["Qwen3-Reranker-8B", "model", "llama-3.gguf"])
def test_a_name_without_an_owner_may_be_a_folder(name: str) -> None:
    result = imported(f"vllm serve {name}")
    assert spec(result)["model"]["source"] == name
    assert f"{name} names no owner" in told(result, "check")


@pytest.mark.parametrize(
    "name", ["gpt2", "gpt2-large", "distilgpt2", "bert-base-uncased", "roberta-large", "t5-small", "xlnet-base-cased"]
)
def test_old_ids_of_the_hub_have_no_owner(name: str) -> None:
    assert imported(f"vllm serve {name}").whole


@pytest.mark.parametrize(
    "words",
    [
        "--middleware src.timing.middleware",
        "--logits-processors own.module:Processor",
        "--io-processor-plugin own.plugin",
        "--tool-server own.tools",
        "--worker-extension-cls own.Extension",
    ],
)
def test_a_module_has_to_be_in_the_image(words: str) -> None:
    result = imported(f"{SERVE} {words}")
    assert extra(result) == words.split()
    assert f"{words}: the image has to hold this module" in told(result, "check")


@pytest.mark.parametrize(
    "words", ["--middleware vllm.entrypoints.x.Middleware", "--tool-server demo", "--tool-server tools:8080"]
)
def test_what_is_part_of_vllm_is_in_its_image(words: str) -> None:
    assert imported(f"{SERVE} {words}").whole


@pytest.mark.parametrize("value", ["=false", "=False", " False", "=0"])
@pytest.mark.parametrize(
    "name", ["--disable-log-stats", "--enable-lora", "--skip-tokenizer-init", "--enable-prompt-tokens-details"]
)
def test_a_switch_that_is_off_means_the_default(name: str, value: str) -> None:
    result = imported(f"{SERVE} {name}{value}")
    assert f"{name}{value} is left out: it is vLLM's default" in told(result, "note")
    assert spec(result) == {"model": {"source": "Qwen/Qwen3-8B"}}
    assert result.whole


@pytest.mark.parametrize("words", ["--enable-lora=True", "--enable-lora true", "--enable-lora"])
def test_a_switch_that_is_on_may_say_so(words: str) -> None:
    assert spec(imported(f"{SERVE} {words}"))["lora"] == {}


@pytest.mark.parametrize("words", ["--enable-prompt-tokens-details=true", "--enable-prompt-tokens-details True"])
def test_a_switch_without_a_field_stands_alone(words: str) -> None:
    assert extra(imported(f"{SERVE} {words}")) == ["--enable-prompt-tokens-details"]


@pytest.mark.parametrize("words", ["--disable-log-requests=false", "--no-disable-log-requests"])
def test_requests_are_logged_where_that_is_not_disabled(words: str) -> None:
    assert spec(imported(f"{SERVE} {words}"))["engine"] == {"enableLogRequests": True}


@pytest.mark.parametrize("words", ["--no-enable-lora", "--no-disable-log-stats"])
def test_the_opposite_of_a_switch_is_the_default(words: str) -> None:
    result = imported(f"{SERVE} {words}")
    assert spec(result) == {"model": {"source": "Qwen/Qwen3-8B"}}
    assert result.whole


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("/srv/some-llm/model --served-model-name some-llm", "some-llm"),
        ("/srv/model --served-model-name Owner/Some-LLM other", "some-llm"),
        (f"/hub/models--Owner--Some-LLM/snapshots/{'5f' * 20}", "some-llm"),
        (f"/hub/models--Owner--Some-LLM/snapshots/{'5f' * 20} --served-model-name x", "x"),
        ("/srv/model", "model"),
        ("/srv/model --served-model-name $NAME", "model"),
        ("/srv/some-llm --served-model-name x", "some-llm"),
    ],
)
def test_a_poor_source_leaves_the_name_to_what_clients_call_it(words: str, name: str) -> None:
    (document,) = imported(f"vllm serve {words}").documents
    assert document["metadata"]["name"] == name


def test_ray_within_one_pod_is_left_out_as_told() -> None:
    result = imported(f"{SERVE} -tp 2 --distributed-executor-backend ray")
    assert spec(result)["parallelism"] == {"tensor": 2}
    assert "--distributed-executor-backend ray is left out" in told(result, "note")


def test_a_volume_that_nobody_mounts_is_told_or_kept_for_the_webhook() -> None:
    volumes: list[dict[str, Any]] = [
        {"name": name, "emptyDir": {}} for name in ("gke-gcsfuse-cache", "gke-gcsfuse-tmp", "spare")
    ]
    result = imported(pod(volumes=volumes))
    assert spec(result)["pod"]["volumes"] == volumes[:2]
    assert "the volume spare is left out" in told(result, "note")


def test_other_containers_get_the_user_of_the_pod_too() -> None:
    result = imported(
        pod(
            containers=[{"name": "proxy", "image": "nginx:1.27"}],
            initContainers=[
                {"name": "fetch", "image": "busybox"},
                {"name": "own", "image": "busybox", "securityContext": {"runAsUser": 5}},
            ],
        )
    )
    assert "images' own users: engine, fetch, proxy" in told(result, "note")


def test_a_privileged_container_stays_root() -> None:
    rights = {"privileged": True, "capabilities": {"add": ["SYS_PTRACE"]}}
    result = imported(pod(containers=[{"name": "trace", "image": "trace:1", "securityContext": rights}]))
    (sidecar,) = spec(result)["pod"]["sidecars"]
    assert sidecar["securityContext"] == {**rights, "runAsUser": 0, "runAsNonRoot": False}
    assert "the privileged container trace runs as root" in told(result, "note")
    assert "the engine runs as user 2000" in told(result, "note")


def test_the_pace_of_an_autoscaler_is_told() -> None:
    behavior = {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}
    metric = {"metric": {"name": "vllm:num_requests_waiting"}, "target": {"type": "AverageValue", "averageValue": "5"}}
    autoscaler = {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "chat"},
        "spec": {
            "scaleTargetRef": {"kind": "Pod", "name": "chat"},
            "maxReplicas": 2,
            "metrics": [{"type": "Pods", "pods": metric}],
            "behavior": behavior,
        },
    }
    result = imported(f"{pod()}---\n{yaml.safe_dump(autoscaler)}")
    assert "behavior.scaleUp.policies of the autoscaler" in told(result, "note")


def test_a_label_of_the_leader_alone_and_its_start_of_ray_are_told() -> None:
    def template(role: str, script: str) -> dict[str, Any]:
        command = ["sh", "-c", script]
        engine = {"name": role, "image": f"vllm/vllm-openai:v{NEWEST}", "command": command}
        return {"metadata": {"labels": {"role": role, "app": "wide"}}, "spec": {"containers": [engine]}}

    group = {
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "wide"},
        "spec": {
            "leaderWorkerTemplate": {
                "size": 2,
                "leaderTemplate": template("leader", f"/init/ray_init.sh leader; {SERVE} -tp 2"),
                "workerTemplate": template("worker", "/init/ray_init.sh worker"),
            }
        },
    }
    result = imported(yaml.safe_dump(group))
    assert "labels of the leader alone are on all pods of a group here: role=leader" in told(result, "note")
    assert "ray_init.sh leader` is left out" in told(result, "note")
    assert not told(result, "lost")


@pytest.mark.parametrize(
    ("image", "config", "env", "level"),
    [
        ("vllm/vllm-openai:v0.9.0", {"v0": "1"}, "0", ""),
        ("vllm/vllm-openai:v0.9.0", {"v1": 1}, "1", ""),
        ("vllm/vllm-openai:v0.9.0", {"v1": 0}, "0", ""),
        ("vllm/vllm-openai:v0.11.0", {"v0": "1"}, None, "note"),
        ("vllm/vllm-openai:v0.19.0", {"v1": 1}, None, "note"),
        ("registry.example/own:1", {"v1": 1}, None, "note"),
        ("registry.example/own:1", {"v0": 1}, "0", "check"),
    ],
)
def test_the_choice_of_an_engine_is_that_of_older_releases(
    image: str, config: dict[str, object], env: str | None, level: str
) -> None:
    repository, _, tag = image.rpartition(":")
    model = {"name": "chat", "repository": repository, "tag": tag, "modelURL": "a/b", "vllmConfig": config}
    result = imported(yaml.safe_dump({"servingEngineSpec": {"modelSpec": [{**model, "requestGPU": 1}]}}))
    assert spec(result)["engine"].get("env") == ([{"name": "VLLM_USE_V1", "value": env}] if env else None)
    assert not level or "V1" in told(result, level)
    assert result.whole == (level != "check")


def test_a_key_of_the_engine_that_the_chart_does_not_have_is_lost() -> None:
    model = {"name": "chat", "repository": "vllm/vllm-openai", "modelURL": "a/b", "vllmConfig": {"other": 1}}
    result = imported(yaml.safe_dump({"servingEngineSpec": {"modelSpec": [model]}}))
    assert "vllmConfig.other" in told(result, "lost")


@pytest.mark.parametrize(("version", "asked"), [("0.7.3", True), ("0.6.6.post1", True), ("0.8.0", False)])
def test_an_image_that_is_not_supported_is_to_be_looked_at(version: str, asked: bool) -> None:  # noqa: FBT001 # a case
    result = on(version, "")
    assert ("0.8.0 is the oldest that is supported" in told(result, "check")) == asked


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("vllm/vllm-openai:v0.10.0", ["-O3", "--swap-space", "4", "--guided-decoding-backend", "xgrammar"]),
        ("vllm/vllm-openai:v0.7.3", ["--tokenizer-pool-size", "4"]),
        (
            "vllm/vllm-openai:v0.19.0",
            ["--no-skip-tokenizer-init", "--middleware", "own.module", "--calculate-kv-scales"],
        ),
        ("vllm/vllm-openai:v0.33.0", ["--no-disable-log-requests", "--enable-prompt-adapter", "--max-logprobs", " 5 "]),
    ],
)
def test_what_the_operator_has_rendered_stays_as_it_is(image: str, words: list[str]) -> None:
    engine = {"image": image, "extraArgs": words, "host": "127.0.0.1"}
    raw = resource(model={"source": "model"}, engine=engine, parallelism={"tensor": 2, "executorBackend": "ray"})
    result = imported(yaml_text(children(parse_resource(raw), RenderContext())))
    found = spec(result)
    assert found["model"] == {"source": "model"}
    assert found["engine"] == engine
    assert found["parallelism"] == {"tensor": 2, "executorBackend": "ray"}
    assert not told(result, "check")
    assert not told(result, "lost")


def served(service: dict[str, Any], *sidecars: dict[str, Any]) -> Imported:
    """What comes of a Deployment with a Service before it."""
    container = {"name": "vllm", "image": f"vllm/vllm-openai:v{NEWEST}", "args": ["--model", "Qwen/Qwen3-8B"]}
    template = {"metadata": {"labels": {"app": "chat"}}, "spec": {"containers": [container, *sidecars]}}
    documents = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "chat"}, "spec": {"template": template}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "front"},
            "spec": {"selector": {"app": "chat"}, **service},
        },
    ]
    return imported(yaml.safe_dump_all(documents))


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_a_port_of_the_nodes_is_carried_over(kind: str) -> None:
    result = served({"type": kind, "ports": [{"port": 80, "targetPort": 8000, "nodePort": 30080}]})
    assert spec(result)["service"] == {"type": kind, "port": 80, "nodePort": 30080}
    assert "delete the Service front when you change over" in told(result, "note")
    assert result.whole


def test_a_port_of_the_nodes_that_is_none_is_lost() -> None:
    result = served({"type": "NodePort", "ports": [{"port": 80, "targetPort": 8000, "nodePort": "web"}]})
    assert spec(result)["service"] == {"type": "NodePort", "port": 80}
    assert "nodePort web of the Service front: is no port" in told(result, "lost")


def test_a_service_that_leads_where_nothing_listens_leads_to_the_engine_from_now_on() -> None:
    astray = {"ports": [{"port": 80, "targetPort": 8080}]}
    result = served(astray)
    assert "the Service front leads to port 8080, and the engine listens at 8000" in told(result, "note")
    assert result.whole
    beside = served(astray, {"name": "proxy", "image": "proxy:1"})
    assert "the Service front leads to port 8080" in told(beside, "check"), "the container beside may listen there"
