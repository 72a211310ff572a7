"""The Ingress: a host that leads to the Service, and nothing where none is asked for."""

from __future__ import annotations

from typing import Any

from tests.support.resources import model
from vllm_operator.render.children import children
from vllm_operator.render.ingress import ingress
from vllm_operator.render.service import service


def spec_of(**fields: Any) -> dict[str, Any]:
    """Its spec."""
    (made,) = ingress(model(ingress={"host": "llm.example.com", **fields}))
    spec: dict[str, Any] = made["spec"]
    return spec


def test_without_one_there_is_none() -> None:
    assert "Ingress" not in {child["kind"] for child in children(model())}


def test_it_leads_to_the_port_of_the_models_service_by_its_name() -> None:
    (rule,) = spec_of()["rules"]
    (path,) = rule["http"]["paths"]
    made = service(model())
    (port,) = made["spec"]["ports"]
    assert path["backend"] == {"service": {"name": made["metadata"]["name"], "port": {"name": port["name"]}}}


def test_https_needs_no_secret_where_the_controller_has_a_certificate() -> None:
    assert "tls" not in spec_of()
    assert spec_of(tls={})["tls"] == [{"hosts": ["llm.example.com"]}]
    assert spec_of(tls={"secretName": "a"})["tls"] == [{"hosts": ["llm.example.com"], "secretName": "a"}]
