"""Files that the engine reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.resources import SOURCE, model
from vllm_operator.render import files

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel


def templated(**template: Any) -> VLLMModel:
    """A model with a chat template."""
    return model(model={"source": SOURCE, "chatTemplate": template})


def test_a_template_in_the_spec_is_a_file_of_the_pods_and_rolls_them_when_it_changes() -> None:
    found = templated(inline="{{ messages }}")
    (config,) = files.config(found)
    (volume,) = files.volumes(found)
    (mount,) = files.mounts(found)
    assert config["data"] == {files.TEMPLATE_FILE: "{{ messages }}"}
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    path = files.template_path(found.spec.model.chat_template)
    assert path == f"{mount['mountPath']}/{files.TEMPLATE_FILE}"
    assert files.pod_annotations(found) == files.pod_annotations(templated(inline="{{ messages }}"))
    assert files.pod_annotations(found) != files.pod_annotations(templated(inline="{{ other }}"))


def test_a_template_of_the_users_config_map_is_mounted_from_there() -> None:
    found = templated(configMapKeyRef={"name": "templates", "key": "llama"})
    (volume,) = files.volumes(found)
    assert files.config(found) == ()
    assert volume["configMap"] == {"name": "templates", "items": [{"key": "llama", "path": files.TEMPLATE_FILE}]}
    assert files.template_path(found.spec.model.chat_template) == f"{files.FOLDER}/{files.TEMPLATE_FILE}"


@pytest.mark.parametrize("found", [model(), templated(path="/templates/llama.jinja")])
def test_what_is_no_file_of_ours_needs_no_volume(found: VLLMModel) -> None:
    assert (files.config(found), files.volumes(found), files.mounts(found)) == ((), [], [])
    assert files.pod_annotations(found) == {}
