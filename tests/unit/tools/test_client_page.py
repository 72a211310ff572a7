"""What docs/client.md says of a model's client binding is true."""

from __future__ import annotations

import re

import yaml

from tests.support.resources import resource
from tools.generate import REPOSITORY
from vllm_operator.api import names
from vllm_operator.api.resource import parse_resource
from vllm_operator.render.binding import binding, binding_secret
from vllm_operator.render.context import RenderContext

PAGE = (REPOSITORY / "docs" / "client.md").read_text(encoding="utf-8")
POD = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])
MODEL = parse_resource(resource("qwen", namespace="team"))
SECRET = binding_secret(MODEL, RenderContext(api_key="key"))["data"]


def test_the_pod_names_the_bindings_objects_and_the_key_in_the_secret() -> None:
    (variables,), (variable,) = POD["envFrom"], POD["env"]
    assert variables["configMapRef"]["name"] == names.client_name("qwen")
    reference = variable["valueFrom"]["secretKeyRef"]
    assert (reference["name"], reference["optional"]) == (names.binding_name("qwen"), True)
    assert variable["name"] == reference["key"]
    assert reference["key"] in SECRET
    assert reference["key"] not in binding_secret(MODEL, RenderContext())["data"], "why the reference is optional"


def test_every_variable_of_the_binding_is_named() -> None:
    assert set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", PAGE)) >= binding(MODEL)["data"].keys()


def test_what_the_whole_secret_would_set_beside_the_key_is_named() -> None:
    told = PAGE.partition("puts beside the key:")[2].partition(". ")[0]
    assert set(re.findall(r"`(\w+)`", told)) == SECRET.keys() - {POD["env"][0]["name"]}


def test_the_forwarded_port_is_that_of_the_service_and_of_the_url() -> None:
    port = MODEL.spec.service.port
    assert f"kubectl port-forward service/qwen {port}:{port}" in PAGE
    assert f"VLLM_BASE_URL=http://localhost:{port}" in PAGE
    for kind, name in (("configmap", names.client_name("qwen")), ("secret", names.binding_name("qwen"))):
        assert f"kubectl get {kind} {name} -o jsonpath" in PAGE
