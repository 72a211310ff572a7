"""Paths in a command: what the machine held is mounted or asked for, nothing stays without a word."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.imports import Imported, imported
from vllm_operator.cli.importing.kinds import Kind

ELSEWHERE = "is a path of one machine"


def of_command(line: str) -> tuple[dict[str, Any], Imported]:
    """The spec that a command becomes, and what is told."""
    found = imported(line, Kind.COMMAND)
    return found.documents[0]["spec"], found


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        ("/data/models/qwen", ["/data/models/qwen"]),
        ("/data/models/qwen/", ["/data/models/qwen"]),
        ("org/qwen --tokenizer /data/tok", ["/data/tok"]),
        ("org/qwen --chat-template /data/t.jinja", ["/data/t.jinja"]),
        ("""org/qwen --speculative-config '{"model": "/data/draft", "num_speculative_tokens": 3}'""", ["/data/draft"]),
        ("org/qwen --enable-lora --lora-modules a=/lora/a b=org/b", ["/lora/a"]),
        ("org/qwen --tool-parser-plugin /data/p.py", ["/data/p.py"]),
        ("org/qwen --tool-parser-plugin=/data/p.py", ["/data/p.py"]),
        ("/data/qwen --tokenizer /data/qwen --enable-lora --lora-modules a=/data/qwen/lora", ["/data/qwen"]),
        ("/a/qwen --tokenizer /b/qwen", ["/a/qwen", "/b/qwen"]),
    ],
)
def test_what_a_command_reads_on_its_machine_is_mounted_from_the_node(arguments: str, paths: list[str]) -> None:
    spec, found = of_command(f"vllm serve {arguments}")
    volumes = {volume["name"]: volume["hostPath"]["path"] for volume in spec["pod"]["volumes"]}
    mounts = {mount["mountPath"]: (volumes[mount["name"]], mount["readOnly"]) for mount in spec["pod"]["volumeMounts"]}
    assert mounts == {path: (path, True) for path in paths}
    assert all(any(f"{path} has to be on every node" in line for line in found.told) for path in paths)
    assert found.whole


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ("./qwen", "./qwen"),
        ("../qwen", "../qwen"),
        ("'~/qwen'", "~/qwen"),
        ("models/qwen/8b", "models/qwen/8b"),
        ("/data/../qwen", "/data/../qwen"),
        ("org/qwen --tokenizer ./tok", "./tok"),
        ("org/qwen --chat-template t.jinja", "t.jinja"),
        ("org/qwen --enable-lora --lora-modules a=./a", "./a"),
        ("org/qwen --tool-parser-plugin p.py", "p.py"),
    ],
)
def test_what_depends_on_where_the_command_ran_is_asked_for(arguments: str, path: str) -> None:
    spec, found = of_command(f"vllm serve {arguments}")
    assert any(f"{path} {ELSEWHERE}" in line for line in found.told)
    assert "volumes" not in spec.get("pod", {})
    assert not found.whole


@pytest.mark.parametrize(
    "arguments",
    [
        "org/qwen --tokenizer org/tok",
        "org/qwen --chat-template examples/tool_chat_template_hermes.jinja",
        "org/qwen --chat-template ./examples/tool_chat_template_hermes.jinja",
        "org/qwen --generation-config vllm",
        "s3://bucket/models/qwen/8b",
        "org/qwen --allowed-local-media-path /",
    ],
)
def test_names_and_what_the_image_has_are_left_as_they_are(arguments: str) -> None:
    spec, found = of_command(f"vllm serve {arguments}")
    assert "pod" not in spec
    assert not [line for line in found.told if ELSEWHERE in line or "every node" in line]


def test_a_path_in_a_container_is_a_path_of_its_image() -> None:
    spec = imported("docker run --gpus all vllm/vllm-openai:v0.10.0 --model /models/qwen").documents[0]["spec"]
    assert "volumes" not in spec.get("pod", {})


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("vllm serve org/qwen --download-dir /data/hub", False),
        ("docker run vllm/vllm-openai:v0.10.0 --model org/qwen --download-dir /data/hub", False),
        ("docker run -v /data:/data vllm/vllm-openai:v0.10.0 --model org/qwen --download-dir /data/hub", True),
        ("docker run -v hub:/data/hub vllm/vllm-openai:v0.10.0 --model org/qwen --download-dir /data/hub", True),
        ("docker run --user root vllm/vllm-openai:v0.10.0 --model org/qwen --download-dir /data/hub", True),
    ],
)
def test_downloads_go_where_the_engine_may_write(line: str, *, kept: bool) -> None:
    found = imported(line)
    assert ("downloadDir" in found.documents[0]["spec"]["model"]) is kept
    assert any("--download-dir" in told and "is left out" in told for told in found.told) is not kept
