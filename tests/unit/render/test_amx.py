"""Engines on CPU start with what asks for leave to use AMX; all others are as they were."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import model
from vllm_operator.render import amx, manager
from vllm_operator.render.deployment import deployment

CPU = {"accelerator": {"profile": "cpu"}}


def pod(**sections: Any) -> dict[str, Any]:
    """The engines' pod."""
    found: dict[str, Any] = deployment(model(**sections))["spec"]["template"]["spec"]
    return found


def python_path(**sections: Any) -> Any:
    """What the engine's Python gets to search."""
    env = pod(**sections)["containers"][0]["env"]
    return next((one.get("value", one.get("valueFrom")) for one in env if one["name"] == "PYTHONPATH"), None)


def test_python_finds_the_file_where_it_is_mounted_and_nothing_else() -> None:
    (mount,) = [one for one in pod(**CPU)["containers"][0]["volumeMounts"] if one["mountPath"] == python_path(**CPU)]
    (volume,) = [one for one in pod(**CPU)["volumes"] if one["name"] == mount["name"]]
    source = volume["configMap"]
    assert source["name"] == manager.program("team")["metadata"]["name"]
    assert source["items"] == [{"key": "sitecustomize.py", "path": "sitecustomize.py"}]
    assert "optional" not in source, "an engine that starts without the file dies at its first prompt"
    assert manager.program("team")["data"][source["items"][0]["key"]] == amx.source()


@pytest.mark.parametrize("profile", ["nvidia", "amd", "tpu"])
def test_other_devices_get_nothing_of_it(profile: str) -> None:
    sections = {"accelerator": {"profile": profile}}
    assert python_path(**sections) is None
    assert amx.VOLUME not in {volume["name"] for volume in pod(**sections)["volumes"]}


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"value": "/mine"}, f"{amx.FOLDER}:/mine"),
        ({"value": ""}, amx.FOLDER),
        ({}, amx.FOLDER),
        ({"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"fieldRef": {"fieldPath": "metadata.name"}}),
    ],
    ids=["a value", "an empty one", "none", "from elsewhere"],
)
def test_the_users_own_folders_come_behind_it(given: dict[str, Any], made: Any) -> None:
    assert python_path(**CPU, engine={"env": [{"name": "PYTHONPATH", **given}]}) == made


def test_the_users_pythonpath_is_left_alone_on_other_devices() -> None:
    assert python_path(engine={"env": [{"name": "PYTHONPATH", "value": "/mine"}]}) == "/mine"
