"""What a Compose file says elsewhere than in the service: `extends`, `secrets`, `profiles`, variables, other files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.imports import imported

if TYPE_CHECKING:
    from tests.support.imports import Imported

IMAGE = "vllm/vllm-openai:v0.19.1"
WORDS = ["--model", "Qwen/Qwen3-8B"]


def compose(services: dict[str, Any], **more: Any) -> Imported:
    """What comes of a file with these services."""
    return imported(yaml.safe_dump({"services": services, **more}))


def told(result: Imported, level: str) -> str:
    """All lines of a level."""
    return "\n".join(line for line in result.told if line.startswith(f"{level}: "))


def spec(result: Imported, name: str = "chat") -> dict[str, Any]:
    """The spec of a model."""
    (found,) = (one["spec"] for one in result.documents if one["metadata"]["name"] == name)
    return dict(found)


def test_a_service_takes_over_what_it_extends_and_its_own_counts_more() -> None:
    base = {"image": IMAGE, "command": ["--model", "org/base"], "environment": {"A": "1", "B": "2"}, "cpus": 2}
    more = {"extends": "base", "environment": ["B=3", "C=4"]}
    result = compose({"base": base, "more": more, "chat": {"extends": {"service": "more"}, "command": WORDS}})
    found = spec(result)
    assert found["model"]["source"] == "Qwen/Qwen3-8B"
    assert found["resources"]["limits"] == {"cpu": 2}
    assert [(one["name"], one["value"]) for one in found["engine"]["env"]] == [("A", "1"), ("B", "3"), ("C", "4")]
    assert spec(result, "base")["model"]["source"] == "org/base"
    assert result.whole


@pytest.mark.parametrize("file", ["common.yaml", "../other/compose.yml"])
def test_what_another_file_says_is_lost_and_told(file: str) -> None:
    result = compose({"chat": {"image": IMAGE, "command": WORDS, "extends": {"file": file, "service": "engine"}}})
    assert f"the service engine in {file}, which it extends, is not here" in told(result, "lost")
    assert spec(result)["model"]["source"] == "Qwen/Qwen3-8B"


@pytest.mark.parametrize("other", ["chat", "gone", "loop"])
def test_what_extends_itself_or_nothing_is_told(other: str) -> None:
    services = {"chat": {"image": IMAGE, "command": WORDS, "extends": other}, "loop": {"extends": "chat"}}
    assert f"the service {'chat' if other == 'loop' else other}, which it extends" in told(compose(services), "lost")


def test_other_files_of_a_whole_one_are_told() -> None:
    result = compose({"chat": {"image": IMAGE, "command": WORDS}}, include=["engine.yaml"])
    assert "include: other files are not read" in told(result, "note")


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ("parser", "/run/secrets/parser"),
        ({"source": "parser", "target": "plugin.py"}, "/run/secrets/plugin.py"),
        ({"source": "parser", "target": "/opt/plugin.py"}, "/opt/plugin.py"),
    ],
)
def test_a_secret_that_something_names_is_a_file_of_the_pod(wanted: Any, place: str) -> None:
    service = {"image": IMAGE, "command": [*WORDS, "--tool-parser-plugin", place], "secrets": [wanted]}
    result = compose({"chat": service}, secrets={"parser": {"file": "./a.py"}})
    pod = spec(result)["pod"]
    assert [volume["secret"] for volume in pod["volumes"]] == [{"secretName": "chat-parser"}]
    (mount,) = pod["volumeMounts"]
    assert (mount["mountPath"], mount["subPath"], mount["readOnly"]) == (place, "parser", True)
    assert "next: chat: kubectl create secret generic chat-parser --from-file=parser=./a.py" in result.told
    assert result.whole


def test_the_value_of_a_secret_comes_from_where_compose_takes_it() -> None:
    service = {"image": IMAGE, "command": WORDS, "environment": {"FILE": "/run/secrets/a"}, "secrets": ["a"]}
    shell = compose({"chat": service}, secrets={"a": {"environment": "OF_THE_SHELL"}})
    assert 'next: chat: kubectl create secret generic chat-a --from-literal=a="$OF_THE_SHELL"' in shell.told
    assert shell.whole
    kept = compose({"chat": service}, secrets={"a": {"external": True}})
    assert "the secret a is kept by Docker: put its value into the Secret chat-a" in told(kept, "check")


@pytest.mark.parametrize("read", ["$$(cat /run/secrets/a)", "$$(< /run/secrets/a)", "`cat /run/secrets/a`"])
def test_a_secret_that_a_shell_reads_is_one_by_itself(read: str) -> None:
    line = f"vllm serve Qwen/Qwen3-8B --api-key {read}"
    service = {"image": IMAGE, "entrypoint": ["sh", "-c"], "command": [line], "secrets": ["a"]}
    result = compose({"chat": service}, secrets={"a": {"file": "./a"}})
    assert spec(result)["auth"]["keys"] == [{"name": "chat-api-key", "key": "api-key"}]
    assert "volumes" not in spec(result).get("pod", {})
    assert result.whole


def test_a_secret_that_nothing_names_is_left_out() -> None:
    result = compose({"chat": {"image": IMAGE, "command": WORDS, "secrets": ["a"]}}, secrets={"a": {"file": "./a"}})
    assert "pod" not in spec(result)
    assert "the secret a is left out: nothing here names /run/secrets/a" in told(result, "note")
    assert result.whole


def test_a_service_that_is_started_only_when_asked_for_is_told() -> None:
    result = compose({"chat": {"image": IMAGE, "command": WORDS, "profiles": ["gpu", "big"]}})
    assert "profiles gpu, big: it was started only when asked for" in told(result, "note")
    assert result.whole


def test_what_stands_there_only_where_a_variable_is_set_is_asked_for() -> None:
    service = {"image": IMAGE, "command": "--model Qwen/Qwen3-8B ${N:+--max-num-seqs ${N}}"}
    result = compose({"base": service, "chat": {"extends": "base"}})
    assert "what stands in ${N:+...} is left out" in told(result, "check")
    assert "maxNumSeqs" not in spec(result)["engine"]
    text = yaml.safe_dump({"services": {"chat": service}})
    for value, engine in (("8", {"maxNumSeqs": 8}), ("", {})):
        filled = imported(text, values={"N": value})
        assert spec(filled)["engine"] == {"image": IMAGE, **engine}
        assert filled.whole


def test_a_name_with_blanks_becomes_one_word_and_is_told() -> None:
    result = compose({"chat": {"image": IMAGE, "command": [*WORDS, "--served-model-name", "my own model", "b"]}})
    assert spec(result)["model"]["servedNames"] == ["my-own-model", "b"]
    assert "--served-model-name my own model: no name holds blanks here" in told(result, "check")
