"""`kubectl vllm estimate`, as people type it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.cluster.paths import REPOSITORY
from tests.support.configs import TINY, config, published_bytes
from tests.support.fake_hub import FakeHub, fake_hub
from vllm_operator.cli.main import app
from vllm_operator.fit.cards import CARDS
from vllm_operator.fit.settings import GIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

SAMPLES = REPOSITORY / "manifests" / "samples"
SECRET = "hf_planted_and_never_shown"  # noqa: S105 # made up


def estimate(*words: str, given: str = "") -> Result:
    """Run `kubectl-vllm estimate`."""
    return CliRunner().invoke(app, ["estimate", *words], input=given)


def resource(source: str = "/nowhere", **spec: Any) -> str:
    """A VLLMModel as text."""
    return yaml.safe_dump(
        {
            "apiVersion": "vllm.echo-roots.io/v1alpha1",
            "kind": "VLLMModel",
            "metadata": {"name": "mine"},
            "spec": {"model": {"source": source}, **spec},
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the config.json and the index of Qwen 2.5 7B."""
    index = {"metadata": {"total_size": published_bytes("qwen2.5-7b-instruct")}, "weight_map": {"a": "1.safetensors"}}
    (tmp_path / "config.json").write_text(json.dumps(config("qwen2.5-7b-instruct")))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path


def test_a_model_that_fits_is_told_in_parts_with_the_common_cards(folder: Path) -> None:
    result = estimate("-f", "-", "--config", str(folder), "--card", "a10", given=resource())
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()[:2]
    assert first == f"default/mine: Qwen2ForCausalLM of {folder} on 1 x A10"
    assert second.startswith("Fits: weights 14.19 and ")
    assert "weights        14.19      model.safetensors.index.json" in result.stdout
    for card in ("L4", "RTX 4090", "A100 80GB", "B200"):
        assert f"\n{card} " in result.stdout
    assert "MI300X" not in result.stdout  # of another profile


def test_a_model_that_does_not_fit_ends_with_1_and_says_what_would(folder: Path) -> None:
    text = resource(accelerator={"memory": "24Gi"}, engine={"gpuMemoryUtilization": 0.6})
    result = estimate("-f", "-", "--config", str(folder), given=text)
    assert result.exit_code == 1
    assert "on 1 x a card sold as 24 GB (L4, A10, RTX 4090)" in result.stdout
    assert "DoesNotFit: " in result.stdout
    assert "spec.parallelism.tensor: 2" in result.stdout


@pytest.mark.parametrize(("output", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_same_comes_as_data(folder: Path, output: str, load: Any) -> None:
    result = estimate("-f", "-", "--config", str(folder), "--card", "L4", "-o", output, given=resource())
    found = load(result.stdout)
    [one] = found if isinstance(found, list) else [found]
    assert (one["name"], one["namespace"], one["estimate"]["verdict"]) == ("mine", "default", "Fits")
    assert one["estimate"]["kv_token"] == 57344
    assert [card["card"] for card in one["cards"]][:2] == ["L4", "A10"]


def test_a_file_is_taken_with_the_index_beside_it(folder: Path) -> None:
    result = estimate("-f", "-", "--config", str(folder / "config.json"), given=resource())
    assert result.exit_code == 0
    assert "model.safetensors.index.json" in result.stdout
    assert "Unknown: name a card, or set spec.accelerator.memory" in result.stdout


def test_headers_of_files_that_are_all_there_are_believed_before_the_index(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "BF16", "shape": [5], "data_offsets": [0, 10]}}).encode()
    (folder / "1.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 10)
    (folder / "consolidated.safetensors").write_bytes(b"not looked at")
    result = estimate("-f", "-", "--config", str(folder), "-o", "json", given=resource())
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)[0]["weights_from"] == f"the safetensors files in {folder}"


def test_files_that_git_did_not_fetch_are_named(folder: Path) -> None:
    (folder / "1.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    result = estimate("-f", "-", "--config", str(folder), given=resource())
    assert result.exit_code == 2
    assert "1.safetensors is a pointer of Git LFS and not the file: run `git lfs pull`" in result.stderr


def test_a_folder_that_the_spec_names_is_read_where_it_is_there(folder: Path) -> None:
    assert estimate("-f", "-", given=resource(str(folder))).exit_code == 0


@pytest.mark.parametrize(
    ("words", "given", "told"),
    [
        (["--config", "/nowhere"], resource(), "/nowhere cannot be read: No such file or directory"),
        ([], resource("pvc://models/qwen"), "pvc://models/qwen cannot be read from here: give its config.json"),
        ([], resource(), "/nowhere cannot be read from here"),
        ([], resource(engine={"nonsense": 1}), "spec.engine.nonsense"),
        (["--card", "GTX 970"], resource(), "--card GTX 970 is none of L4, A10, RTX 4090"),
    ],
)
def test_what_cannot_be_told_ends_with_2_and_the_way_out(words: list[str], given: str, told: str) -> None:
    result = estimate("-f", "-", *words, given=given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


@pytest.mark.parametrize(
    ("text", "told"), [("{", "is no JSON"), ("[]", "must be a JSON object"), ("{}", "no model_type")]
)
def test_a_config_that_is_none_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "config.json").write_text(text)
    result = estimate("-f", "-", "--config", str(tmp_path), given=resource())
    assert result.exit_code == 2
    assert told in result.stderr


def kubectl(folder: Path, answer: str, code: int = 0) -> dict[str, str]:
    """A kubectl that answers everything the same."""
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\nexit {code}\n")
    program.chmod(0o755)
    return {"KUBECTL": str(program)}


def test_one_config_for_several_models_is_refused(folder: Path) -> None:
    result = estimate("-f", "-", "--config", str(folder), given=f"{resource()}---\n{resource()}")
    assert result.exit_code == 2
    assert "--config describes one model, and 2 are given" in result.stderr


def test_a_config_map_is_read_with_the_users_own_kubectl(tmp_path: Path) -> None:
    data = {"config.json": json.dumps(TINY), "model.safetensors.index.json": '{"metadata": {"total_size": 1640448}}'}
    env = kubectl(tmp_path, json.dumps({"data": data}))
    result = CliRunner(env=env).invoke(app, ["estimate", "-f", "-", "--config", "configmap/tiny"], input=resource())
    assert result.exit_code == 0, result.output
    assert "LlamaForCausalLM of ConfigMap tiny" in result.stdout
    assert "model.safetensors.index.json of ConfigMap tiny" in result.stdout
    empty = CliRunner(env=kubectl(tmp_path, "{}"))
    result = empty.invoke(app, ["estimate", "-f", "-", "--config", "configmap/tiny"], input=resource())
    assert result.exit_code == 2
    assert "ConfigMap tiny has no key config.json" in result.stderr


def test_the_config_map_that_is_printed_tells_the_same_as_its_source(folder: Path, tmp_path: Path) -> None:
    text = resource(accelerator={"memory": "24Gi"}, estimate={"configMapRef": {"name": "sizes"}})
    printed = estimate("-f", "-", "--config", str(folder), "-o", "configmap", "-n", "team", given=text)
    assert printed.exit_code == 0, printed.output
    found = yaml.safe_load(printed.stdout)
    assert (found["kind"], found["metadata"]) == ("ConfigMap", {"name": "sizes", "namespace": "team"})
    runner = CliRunner(env=kubectl(tmp_path, json.dumps(found)))
    described = runner.invoke(app, ["estimate", "-f", "-", "-o", "json"], input=text)
    assert described.exit_code == 0, described.output
    one, other = (
        json.loads(result.stdout)[0]
        for result in (described, estimate("-f", "-", "--config", str(folder), "-o", "json", given=text))
    )
    assert (one["source"], one["weights_from"]) == (
        "ConfigMap sizes",
        "model.safetensors.index.json of ConfigMap sizes",
    )
    assert one["estimate"] == other["estimate"]


def test_a_config_map_has_a_name_where_the_spec_names_none(folder: Path) -> None:
    result = estimate("-f", "-", "--config", str(folder), "-o", "configmap", given=resource())
    assert yaml.safe_load(result.stdout)["metadata"] == {"name": "mine-estimate", "namespace": "default"}


STATUS: dict[str, Any] = {
    "engines": [
        {"pod": "mine-1", "state": "Serving"},
        {
            "pod": "mine-2",
            "state": "Serving",
            "capacity": {
                "weights": "14.25Gi",
                "kvCache": "5.21Gi",
                "kvCacheTokens": 97552,
                "maxModelLen": 32768,
                "maxConcurrency": "2.98",
                "startedAt": "2026-11-22T10:00:00Z",
            },
        },
    ]
}


def test_what_engines_have_reported_stands_below_the_estimate(folder: Path, tmp_path: Path) -> None:
    live = {**yaml.safe_load(resource(accelerator={"memory": "24Gi"})), "status": STATUS}
    runner = CliRunner(env=kubectl(tmp_path, json.dumps(live)))
    words = ["--config", str(folder)]
    for result in (
        runner.invoke(app, ["estimate", "mine", *words]),
        estimate("-f", "-", *words, given=yaml.safe_dump(live)),
    ):
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        place = lines.index("What engines reported when they started:")
        assert [line.split() for line in lines[place + 1 : place + 4]] == [
            ["ENGINE", "WEIGHTS", "KV", "CACHE", "KV", "TOKENS", "SEQUENCES"],
            ["estimated", "14.19", *lines[place + 2].split()[2:]],
            ["mine-2", "14.25", "5.21", "97,552", "2.98"],
        ]
    data = json.loads(runner.invoke(app, ["estimate", "mine", *words, "-o", "json"]).stdout)
    assert data[0]["reported"] == [{"pod": "mine-2", **STATUS["engines"][1]["capacity"]}]


@pytest.mark.parametrize("words", [[], ["mine", "-f", "-"]])
def test_models_are_named_one_way(words: list[str]) -> None:
    result = estimate(*words, given=resource())
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: name VLLMModels of the cluster, or files with -f" in result.stderr


def test_a_model_that_the_cluster_does_not_have_is_told(tmp_path: Path) -> None:
    env = kubectl(tmp_path, "", code=1)
    result = CliRunner(env=env).invoke(app, ["estimate", "mine"])
    assert result.exit_code == 2
    assert "error: kubectl ended with exit code 1" in result.stderr


def test_on_cpu_no_cards_are_told(folder: Path) -> None:
    text = resource(accelerator={"profile": "cpu"}, engine={"env": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "4"}]})
    result = estimate("-f", "-", "--config", str(folder), given=text)
    assert result.exit_code == 0
    assert "common cards" not in result.stdout
    assert "have to fit into spec.resources.limits.memory" in result.stdout
    assert "CUDA" not in result.stdout
    assert "74,880 tokens" in result.stdout


@pytest.mark.parametrize("sample", ["llama-2-7b-chat", "llama-2-13b-chat", "chatglm3-6b", "mixtral-8x7b-instruct-awq"])
def test_samples_fit_into_the_cards_that_they_name(tmp_path: Path, sample: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config(sample)))
    result = estimate("-f", str(SAMPLES / f"{sample}.yaml"), "--config", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "DoesNotFit" not in result.stdout.splitlines()[1]


def test_the_page_shows_what_the_command_prints_and_the_cards_that_it_knows(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "fit.md").read_text(encoding="utf-8")
    given, *_ = re.findall(r"^```yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    shown = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    name = "meta-llama/Llama-3.1-8B-Instruct"
    (tmp_path / "config.json").write_text(json.dumps(config("llama-3.1-8b-instruct")))
    printed = estimate("-f", "-", "--config", str(tmp_path), given=given).stdout.replace(str(tmp_path), name)
    assert printed.replace("parameters counted from config.json", f"model.safetensors.index.json of {name}") in shown
    for card in CARDS:
        assert f"| {card.name} | {card.memory_bytes / GIB:.2f} |" in page


# ------------------------------------------------------------------------------------------------------------- the hub


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    """A hub with a sharded model, one in a single file, one without safetensors, and one that is gated."""
    described = json.dumps(TINY).encode()
    index = {"metadata": {"total_size": 1640448}, "weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    header = json.dumps({"a": {"dtype": "BF16", "shape": [5], "data_offsets": [0, 10]}}).encode()
    single = len(header).to_bytes(8, "little") + header + b"\0" * 10
    files = {
        "org/sharded": {"config.json": described, "model.safetensors.index.json": json.dumps(index).encode()},
        "org/single": {"config.json": described, "model.safetensors": single},
        "org/pickled": {"config.json": described},
        "org/bare": {},
        "org/gated": {},
    }
    with fake_hub(files, gated=frozenset({"org/gated"})) as running:
        yield running


ASK = """
import json, sys
from vllm_operator.cli.estimate.hub import from_hub
from vllm_operator.errors import NotEstimable
for name, revision in json.load(sys.stdin):
    try:
        config, checkpoint = from_hub(name, revision)
        print(json.dumps(["read", checkpoint.source if checkpoint else ""]))
    except NotEstimable as error:
        print(json.dumps(["refused", str(error)]))
"""


def environment(hub: FakeHub, home: Path, **env: str) -> dict[str, str]:
    """That of a process of its own: huggingface_hub reads its settings when it is imported."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, **hub.environment(str(home)), "HF_TOKEN": SECRET, **env}


def ask(hub: FakeHub, home: Path, *asked: tuple[str, str | None], **env: str) -> list[list[str]]:
    """What comes of reading models, one after the other."""
    program = [sys.executable, "-c", ASK]
    given, whole = json.dumps(asked), environment(hub, home, **env)
    done = subprocess.run(program, input=given, env=whole, capture_output=True, text=True, check=True)
    assert SECRET not in done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_model_on_the_hub_is_read_with_the_users_own_token(hub: FakeHub, tmp_path: Path) -> None:
    program = [str(Path(sys.executable).with_name("kubectl-vllm")), "estimate", "-f", "-", "-o", "json"]
    given, env = resource("org/sharded"), environment(hub, tmp_path)
    done = subprocess.run(program, input=given, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    assert (found["source"], found["weights_from"]) == ("org/sharded", "model.safetensors.index.json of org/sharded")
    assert f"Bearer {SECRET}" in hub.tokens
    assert SECRET not in done.stdout + done.stderr


def test_the_size_of_a_model_is_read_where_the_hub_tells_it(hub: FakeHub, tmp_path: Path) -> None:
    assert ask(hub, tmp_path, ("org/single", None), ("org/pickled", None), ("org/sharded", "main")) == [
        ["read", "model.safetensors of org/single"],
        ["read", ""],
        ["read", "model.safetensors.index.json of org/sharded"],
    ]


def test_what_the_hub_refuses_is_told_with_the_way_out(hub: FakeHub, tmp_path: Path) -> None:
    expected = {
        ("org/gated", None): "org/gated cannot be read from the hub: it is gated: accept its licence there",
        ("org/nobody", None): "there is no such model, or it is private: check spec.model.source",
        ("org/bare", None): "it has no config.json: give one with --config",
        ("org/sharded", "gone"): "org/sharded at gone cannot be read from the hub: it has no such revision",
        ("no//name", None): "no//name cannot be read from the hub: ",
    }
    for told, found in zip(expected.values(), ask(hub, tmp_path, *expected), strict=True):
        assert found[0] == "refused"
        assert told in found[1]


def test_a_machine_without_the_hub_is_told_the_way_out(hub: FakeHub, tmp_path: Path) -> None:
    [found] = ask(hub, tmp_path, ("org/sharded", None), HF_HUB_OFFLINE="1")
    assert found[0] == "refused"
    assert "the hub does not answer, or HF_HUB_OFFLINE is set: load its config.json yourself" in found[1]


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    result = estimate("-f", "-", given=resource("org/model"))
    assert result.exit_code == 2
    assert "pip install 'vllm-operator[hub]'" in result.stderr
