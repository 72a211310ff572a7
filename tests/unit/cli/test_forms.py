"""Command lines and Compose files against what kubelet would start: the same words, the same environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.resources import model
from tests.support.specs import edits, leaf_paths, specs
from vllm_operator.cli.compose.file import compose_file
from vllm_operator.cli.compose.slots import UnsupportedError
from vllm_operator.cli.engine import Outside, engine_of
from vllm_operator.cli.shell import script
from vllm_operator.render import amx, manager
from vllm_operator.render.command import command
from vllm_operator.render.environment import HOME, environment, of_the_manager

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vllm_operator.api.resource import VLLMModel

pytestmark = pytest.mark.slow

SHELL_NAMES = r"[A-Za-z_][A-Za-z0-9_]*"
COMPOSE_REFERENCE = re.compile(rf"\$(?:\$|\{{({SHELL_NAMES})(?::\?[^{{}}$]*|-)?\}}|(.?))", re.DOTALL)
SPECIAL = st.text(alphabet="$(){}AB'\"\\ \n!`*~#=-:éx", max_size=20)


def kubelet_expanded(text: str, variables: Mapping[str, str]) -> str:
    """What kubelet makes of a text, character by character."""
    written, rest = "", text
    while rest:
        if rest.startswith("$$"):
            written, rest = written + "$", rest[2:]
        elif rest.startswith("$(") and ")" in rest:
            name, rest = rest[2:].split(")", 1)
            written += variables.get(name, f"$({name})")
        else:
            written, rest = written + rest[0], rest[1:]
    return written


def kubelet_started(one: VLLMModel) -> tuple[list[str], dict[str, str]]:
    """Words and environment of the engine in a pod; `value of NAME` stands for what only a cluster knows.

    What the manager alone reads of its pod is left out.
    """
    variables: dict[str, str] = {}
    for variable in environment(one.spec, one.instance):
        given = f"value of {variable['name']}" if "valueFrom" in variable else variable.get("value", "")
        variables[variable["name"]] = given if "valueFrom" in variable else kubelet_expanded(given, variables)
    words = [kubelet_expanded(word, variables) for word in command(one.spec, manager.unlogged(one.spec))]
    read_by_manager = {variable["name"] for variable in of_the_manager(one.spec)}
    for name in read_by_manager - {variable.name for variable in one.spec.engine.env or []}:
        variables.pop(name)
    return words, variables


def stem(one: VLLMModel) -> list[str]:
    """What kubelet starts before the engine's words."""
    return [kubelet_expanded(word, {}) for word in manager.command(one)]


def outside(one: VLLMModel) -> dict[str, str]:
    """What whoever runs the engine outside of a cluster has to set."""
    return {re.sub(r"\W", "_", part.name): f"value of {part.name}" for part in engine_of(one).outside}


def shell_started(one: VLLMModel, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Words and environment that a real shell starts `vllm` with."""
    program = folder / "vllm"
    program.write_text('#!/bin/sh\nprintf "%s\\0" vllm "$@"\nprintf "\\0"\ncat /proc/$$/environ\n', encoding="utf-8")
    program.chmod(0o700)
    environ = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": "/root", **outside(one)}
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run([bash, "-c", script([engine_of(one)])], env=environ, capture_output=True, check=True)
    words, _, environ_text = done.stdout.decode().partition("\0\0")
    pairs = (pair.split("=", 1) for pair in environ_text.split("\0") if pair)
    return words.split("\0"), {pair[0]: pair[1] for pair in pairs}


def compose_started(one: VLLMModel) -> list[tuple[list[str], list[str], dict[str, str]]]:
    """The manager's words, the engine's and the environment of every service, as Compose reads the file."""
    values = outside(one)

    def read(text: str) -> str:
        def value(found: re.Match[str]) -> str:
            assert not found[2], f"Compose refuses {found[0]!r} in {text!r}"
            return values[found[1]] if found[1] else "$"

        return COMPOSE_REFERENCE.sub(value, text)

    loaded = yaml.safe_load(compose_file([engine_of(one)]))
    started = []
    for service in loaded["services"].values():
        pairs = [read(text).partition("=") for text in service["environment"]]
        variables = {name: value if equals else values[name] for name, equals, value in pairs}
        entrypoint, words = ([read(word) for word in service[part]] for part in ("entrypoint", "command"))
        started.append((entrypoint, words, variables))
    return started


def special(first: str, second: str, words: list[str]) -> VLLMModel:
    """A model with odd texts in its variables and arguments."""
    env: list[dict[str, Any]] = [
        {"name": "A", "value": first},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "AB", "value": second},
    ]
    return model(engine={"env": env, "extraArgs": ["--x", *(f"x{word}" for word in words)]})


ODD = st.builds(special, SPECIAL, SPECIAL, st.lists(SPECIAL, max_size=4))


@given(one=ODD)
@settings(max_examples=60, deadline=None)
def test_a_shell_starts_what_kubelet_would_whatever_is_in_the_texts(
    tmp_path_factory: pytest.TempPathFactory, one: VLLMModel
) -> None:
    words, variables = kubelet_started(one)
    started_words, started_variables = shell_started(one, tmp_path_factory.mktemp("bin"))
    assert started_words == words
    left = {name for name, value in variables.items() if value == HOME or value.startswith(f"{HOME}/")}
    assert {name: started_variables[name] for name in variables if name not in left} == {
        name: value for name, value in variables.items() if name not in left
    }


@given(one=ODD)
@settings(max_examples=20, deadline=None)  # each writes and reads a file with the whole manager in it
def test_compose_starts_what_kubelet_would_whatever_is_in_the_texts(one: VLLMModel) -> None:
    assert compose_started(one) == [(manager.alone(stem(one)), *kubelet_started(one))]


@given(spec=specs())
@settings(max_examples=25, derandomize=True, deadline=None)  # each takes most of a second
def test_every_valid_spec_starts_the_same_everywhere(
    tmp_path_factory: pytest.TempPathFactory, spec: dict[str, Any]
) -> None:
    spec.get("engine", {}).pop("envFrom", None)  # what they hold is not known here
    spec.get("pod", {}).pop("patch", None)  # it may change the words, and has tests of its own
    spec.get("lora", {}).pop("runtimeUpdates", None)  # outside of a cluster nobody tells an engine of other adapters
    spec.get("storage", {}).get("cache", {}).pop("prefetch", None)  # nor does a Job fill its cache
    one = model(**spec)
    words, variables = kubelet_started(one)
    assert shell_started(one, tmp_path_factory.mktemp("bin"))[0] == words
    try:
        started = compose_started(one)
    except UnsupportedError:
        return
    assert {tuple(found) for _, found, _ in started} == {tuple(words)}
    assert {tuple(found) for found, _, _ in started} == {tuple(manager.alone(stem(one)))}
    assert all(variables.items() <= found.items() for _, _, found in started)


def test_a_patch_of_the_pods_reaches_the_command_line_and_the_compose_file() -> None:
    container = {"name": "vllm", "image": "mine:1", "env": [{"name": "MINE", "value": "1"}]}
    one = model(pod={"patch": {"spec": {"containers": [container]}}})
    assert "\nMINE=1 \\\n" in script([engine_of(one)])
    (service,) = yaml.safe_load(compose_file([engine_of(one)]))["services"].values()
    assert service["image"] == "mine:1"
    assert "MINE=1" in service["environment"]


def test_an_engine_on_cpu_may_use_amx_also_without_a_cluster() -> None:
    engine = engine_of(model(accelerator={"profile": "cpu"}))
    assert f"# {amx.FOLDER}/{amx.FILE} is there in a pod only: put the file of that name" in script([engine])
    made = yaml.safe_load(compose_file([engine]))
    (service,) = made["services"].values()
    (config,) = [one for one in service["configs"] if one["target"] == f"{amx.FOLDER}/{amx.FILE}"]
    assert made["configs"][config["source"]]["content"] == amx.source()
    assert f"PYTHONPATH={amx.FOLDER}" in service["environment"]
    assert not [one for one in service["volumes"] if one["target"].startswith(amx.FOLDER)]


def test_a_variable_that_is_not_set_stops_the_command_before_it_starts(tmp_path: Path) -> None:
    one = model(model={"source": "a/b", "tokenSecret": {"name": "hub", "key": "token"}})
    bash = shutil.which("bash")
    assert bash
    text = script([engine_of(one)]).replace("vllm serve", f"touch {tmp_path / 'started'} #")
    done = subprocess.run([bash, "-c", text], env={}, capture_output=True, check=False, text=True)
    assert done.returncode != 0
    assert "HF_TOKEN" in done.stderr
    assert not (tmp_path / "started").exists()


def test_a_name_that_no_shell_can_use_gets_another_that_is_its_own() -> None:
    env = [{"name": name, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}} for name in ("A.B", "A_B")]
    text = script([engine_of(model(engine={"env": env}))])
    assert 'A.B="${A_B:?}"' in text
    assert 'A_B="${A_B_:?}"' in text


@pytest.mark.parametrize(
    "text", ["1e3", "0o14", "no", "null", "~", "2024-01-01", " a ", "# a", "a: b", "\u2028", "🙂", "\x7f"]
)
def test_texts_stay_texts_for_every_reader_of_yaml(text: str) -> None:
    written = compose_file(
        [engine_of(model(engine={"env": [{"name": "A", "value": text}], "extraArgs": ["--x", text]}))]
    )
    (service,) = yaml.safe_load(written)["services"].values()
    assert service["command"][-1] == text
    assert service["environment"][-1] == f"A={text}"
    assert re.search(r'^      - "--x"\n      - "', written, re.MULTILINE)


def test_what_a_comment_tells_cannot_end_the_comment() -> None:
    env = [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x\nvllm: evil ${B}"}}}]
    one = engine_of(model(engine={"env": env}))
    assert "A: field x vllm: evil ${B} of the pod." in script([one])
    assert list(yaml.safe_load(compose_file([one]))) == ["services", "volumes", "configs"]
    assert "${A:?field x vllm: evil B of the pod}" in compose_file([one])


def test_outside_variables_are_told_once_each() -> None:
    keys = [{"name": "k", "key": "a"}, {"name": "k", "key": "b"}]
    env = [{"name": name, "valueFrom": {"secretKeyRef": {"name": "s", "key": "t"}}} for name in ("A", "B")]
    found = engine_of(model(engine={"env": [*env, {"name": "C", "value": "$(A)$(A)"}]})).outside
    assert found == (Outside("A", "key t of Secret s"), Outside("B", "key t of Secret s"))
    engine = engine_of(model(auth={"keys": keys}))
    first, second = (Outside("VLLM_API_KEY", "key a of Secret k"), Outside("API_KEY_2", "key b of Secret k"))
    assert engine.outside == (first, second)
    assert engine.bare().outside == (first,), "without the manager one key is used"


def test_no_key_stands_on_the_command_line_and_that_others_are_left_out_is_told() -> None:
    one = engine_of(model(auth={"generate": True, "keys": [{"name": "k", "key": "a"}]}))
    text = script([one])
    assert "--api-key" not in text
    assert "API_KEY_2" not in text
    assert "nly the first key of spec.auth is used" in text


def test_in_a_compose_file_the_manager_hands_on_every_key() -> None:
    one = engine_of(model(auth={"generate": True, "keys": [{"name": "k", "key": "a"}]}))
    text = compose_file([one])
    (service,) = yaml.safe_load(text)["services"].values()
    assert service["entrypoint"][-3:] == ["--keys", "VLLM_API_KEY,API_KEY_2", "--"]
    assert [line.partition("=")[0] for line in service["environment"]][-2:] == ["VLLM_API_KEY", "API_KEY_2"]
    assert "Set API_KEY_2 (in .env or in the shell): key a of Secret k." in text
    assert "--api-key" not in text


def test_a_key_does_not_stand_on_the_command_line_of_env_either() -> None:
    one = engine_of(model(auth={"generate": True}, engine={"env": [{"name": "a.b", "value": "x"}]}))
    lines = script([one]).splitlines()
    assert next(n for n, line in enumerate(lines) if line.startswith("VLLM_API_KEY=")) < lines.index("env \\")


SAID_OTHERWISE = {
    "model.source": "stands in every command",
    "lora.runtimeUpdates": "adapters stand in every command: nobody tells an engine of others",
    "parallelism.nodes": "a command starts an engine in one pod; others are refused",
    "model.chatTemplate.configMapKeyRef.key": "the ConfigMap is named whose file is to be put there",
    "pod.volumes[].name": "the folder where it is mounted is named, and what it holds",
    "pod.volumeMounts[].name": "the folder is named, and what the volume holds",
    "pod.volumeMounts[].readOnly": "a command does not write where a pod could not",
}
"""Fields whose parts are named, and that change nothing more."""

REFERENCES = ("valueFrom", "envFrom")
"""Of a variable, the Secret or ConfigMap is named, and not how a pod reads it."""


def is_named(path: str, printed: str) -> bool:
    """Whether a field, or a part around it, stands among what has no meaning for a command."""
    silent = next((line for line in printed.splitlines() if line.startswith("# Without meaning")), "")
    named = silent.rstrip(".").rpartition(": ")[2].split(", ")
    steps = path.replace("[]", "").split(".")
    return any(f"spec.{'.'.join(steps[:number])}" in named for number in range(1, len(steps) + 1))


@pytest.mark.parametrize("path", [path for path in leaf_paths() if not any(one in path for one in REFERENCES)])
def test_a_command_line_follows_each_field_or_names_it_as_without_meaning(path: str) -> None:
    printed = [[script([engine_of(model(**spec))]) for spec in pair] for pair in edits(path)]
    followed = any(before != after for before, after in printed)
    assert followed or any(is_named(path, after) for _, after in printed) or path in SAID_OTHERWISE
