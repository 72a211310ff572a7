"""The samples, as a user applies them: on a real API server, with the children that they become."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.support import lws
from tools.api_reference import examples
from vllm_operator.api import groups
from vllm_operator.api.resource import parse_resource
from vllm_operator.render import prefetch
from vllm_operator.render.children import children
from vllm_operator.render.command import arguments
from vllm_operator.render.groups import RANK
from vllm_operator.render.manager import program

if TYPE_CHECKING:
    from tests.support.namespace import Namespace
    from tests.support.vllm_parser import RealParser
    from vllm_operator.api.resource import VLLMModel

FOLDER: Final = Path(__file__).parent.parent.parent / "manifests" / "samples"
SAMPLES: Final = sorted(path.name for path in FOLDER.glob("*.yaml"))
UID: Final = "00000000-0000-0000-0000-000000000001"


def document(sample: str) -> dict[str, Any]:
    """The one resource in a sample."""
    (found,) = yaml.safe_load_all((FOLDER / sample).read_text(encoding="utf-8"))
    return dict(found)


def model(sample: str, namespace: str = "default") -> VLLMModel:
    """A sample as the operator reads it."""
    raw = document(sample)
    return parse_resource(raw | {"metadata": raw["metadata"] | {"namespace": namespace, "uid": UID}})


def test_there_is_a_sample_for_each_way_of_serving() -> None:
    specs = [model(sample).spec for sample in SAMPLES]
    assert len(SAMPLES) >= 14
    assert {"nvidia", "amd", "cpu"} <= {spec.accelerator.profile for spec in specs}
    assert any(spec.lora for spec in specs)
    assert any(spec.engine.cpu_offload_gb for spec in specs)
    assert any(spec.model.runner == "pooling" for spec in specs)
    assert any(spec.model.source.startswith("pvc://") for spec in specs)
    assert any(spec.parallelism.tensor > 1 for spec in specs)


def test_samples_can_all_be_applied_to_one_namespace() -> None:
    names = [document(sample)["metadata"]["name"] for sample in SAMPLES]
    assert len(names) == len(set(names))
    assert all("namespace" not in document(sample)["metadata"] for sample in SAMPLES)


def test_the_readme_lists_every_sample_once() -> None:
    listed = re.findall(r"^\| \[[^]]+\]\(([^)]+)\)", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == SAMPLES


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_says_what_it_is_and_where_its_secrets_come_from(sample: str) -> None:
    text = (FOLDER / sample).read_text(encoding="utf-8")
    assert text.startswith("# ")
    if model(sample).spec.model.token_secret:
        assert "kubectl create secret generic hf-token" in text or "llama-2-7b-chat.yaml says how" in text


@pytest.mark.api_server
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_api_server_takes_a_sample_and_every_child_of_it(namespace: Namespace, sample: str) -> None:
    namespace.kubectl("create", "--dry-run=server", "--validate=strict", "--filename", str(FOLDER / sample))
    found = model(sample, namespace.name)
    wanted = [program(namespace.name), prefetch.program(namespace.name), *children(found), *prefetch.jobs(found)]
    kinds = [child["kind"] for child in wanted]
    assert ("Deployment" in kinds) != (groups.KIND in kinds)
    if groups.KIND in kinds:
        lws.install_definition(namespace.cluster)
    for child in wanted:
        namespace.kubectl(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", "-", document=child
        )


@pytest.mark.api_server
@pytest.mark.parametrize("group", examples())
def test_the_api_server_takes_the_examples_of_the_reference(namespace: Namespace, group: str) -> None:
    spec = yaml.safe_load(examples()[group])
    namespace.kubectl(
        "create", "--dry-run=server", "--validate=strict", "--filename", "-", document=namespace.document(**spec)
    )


@pytest.mark.real_vllm
@pytest.mark.parametrize("sample", SAMPLES)
def test_vllm_understands_the_command_line_of_a_sample(parser: RealParser, sample: str, tmp_path: Path) -> None:
    spec = model(sample).spec
    words = arguments(spec)
    template = tmp_path / "template.jinja"  # vLLM looks whether the file is there
    template.touch()
    if "--chat-template" in words:
        words[words.index("--chat-template") + 1] = str(template)
    parsed = parser.parse([word.replace(RANK, "0") for word in words])
    assert parsed["served_model_name"] == list(spec.served_names)
    assert parsed["tensor_parallel_size"] == spec.parallelism.tensor
    assert parsed["max_model_len"] <= 32768
