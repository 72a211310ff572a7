"""How clients reach the engines."""

from __future__ import annotations

import pytest

from tests.support.resources import SOURCE, model
from vllm_operator.render.binding import binding
from vllm_operator.render.deployment import deployment
from vllm_operator.render.service import discovery, headless_service, service, url


def test_the_service_keeps_its_port_whatever_the_server_listens_on() -> None:
    for port in (8000, 9000):
        (found,) = service(model(engine={"port": port}))["spec"]["ports"]
        assert (found["port"], found["targetPort"]) == (8000, "http")


def test_the_service_leads_to_the_port_of_the_container_by_name() -> None:
    (only,) = deployment(model(engine={"port": 9000}))["spec"]["template"]["spec"]["containers"]
    assert only["ports"][0] == {"name": "http", "containerPort": 9000, "protocol": "TCP"}


def test_a_sidecar_before_the_engine_is_what_all_clients_reach_by_whichever_way() -> None:
    behind = model(engine={"host": "127.0.0.1"}, service={"targetPort": 8200, "port": 80})
    (all_engines,) = service(behind)["spec"]["ports"]
    (single,) = headless_service(behind)["spec"]["ports"]
    assert (all_engines["port"], all_engines["targetPort"]) == (80, 8200)
    assert (single["port"], single["targetPort"]) == (8200, 8200)
    assert discovery(behind) == "qwen-engines.team.svc:8200"


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_a_port_of_the_nodes_is_that_of_the_service_alone(kind: str) -> None:
    told = model(service={"type": kind, "nodePort": 30080})
    assert service(told)["spec"]["ports"][0]["nodePort"] == 30080
    assert "nodePort" not in headless_service(told)["spec"]["ports"][0]
    assert "nodePort" not in service(model(service={"type": kind}))["spec"]["ports"][0], "the cluster chooses"


def test_the_headless_service_names_engines_that_pass_their_gate_and_no_others() -> None:
    spec = headless_service(model(engine={"port": 9000}))["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["publishNotReadyAddresses"] is False
    assert spec["ports"][0]["port"] == 9000


def test_both_services_select_the_pods_of_the_deployment() -> None:
    labels = deployment(model())["spec"]["template"]["metadata"]["labels"]
    for made in (service(model()), headless_service(model())):
        assert made["spec"]["selector"].items() <= labels.items()


def test_addresses_name_no_cluster_domain() -> None:
    assert url(model()) == "http://qwen.team.svc:8000/v1"
    assert discovery(model(engine={"port": 9000})) == "qwen-engines.team.svc:9000"


def test_the_binding_is_what_echo_roots_reads() -> None:
    data = binding(model(model={"source": SOURCE, "servedNames": ["chat", "other"]}))["data"]
    assert data == {
        "LLM_PROVIDER": "vllm",
        "VLLM_BASE_URL": "http://qwen.team.svc:8000/v1",
        "VLLM_DEPLOYMENT_TYPE": "cloud",
        "VLLM_DISCOVERY": "qwen-engines.team.svc:8000",
        "VLLM_MODEL_NAME": "chat",
    }


def test_https_of_the_server_reaches_every_client_and_the_port_keeps_its_name() -> None:
    secure = model(engine={"tls": {"secretName": "qwen-tls"}})
    assert binding(secure)["data"]["VLLM_BASE_URL"] == url(secure) == "https://qwen.team.svc:8000/v1"
    for made in (service(secure), headless_service(secure)):
        (port,) = made["spec"]["ports"]
        assert (port["name"], port["appProtocol"]) == ("http", "https"), "DNS has its SRV record by this name"


def test_what_a_sidecar_speaks_goes_before_what_the_server_speaks() -> None:
    ended = model(service={"targetPort": 8443, "appProtocol": "https"})
    inner = model(service={"targetPort": 8080, "appProtocol": "http"}, engine={"tls": {"secretName": "qwen-tls"}})
    assert (url(ended), url(inner)) == ("https://qwen.team.svc:8000/v1", "http://qwen.team.svc:8000/v1")
    assert service(inner)["spec"]["ports"][0]["appProtocol"] == "http"
    assert "appProtocol" not in service(model())["spec"]["ports"][0]
