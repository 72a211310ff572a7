"""Where the client's settings come from, and what is said of wrong ones."""

from __future__ import annotations

import pytest

from vllm_client import ClientConfig, ConfigurationError
from vllm_client.config import read_config

BOUND = {"VLLM_BASE_URL": "http://m.ns:8000/v1", "VLLM_MODEL_NAME": "m", "VLLM_DEPLOYMENT_TYPE": "cloud"}


@pytest.mark.parametrize("given", ["http://m:8000", "http://m:8000/", "http://m:8000/v1", "http://m:8000/v1/"])
def test_the_url_ends_in_v1_however_it_is_given(given: str) -> None:
    assert ClientConfig(base_url=given, model_name="m").base_url == "http://m:8000/v1"


def test_the_environment_of_a_binding_is_enough() -> None:
    config = read_config(environ=BOUND)
    assert config == ClientConfig(base_url="http://m.ns:8000/v1", model_name="m", timeout=120, max_retries=5)
    assert config.api_key == "dummy-key"


def test_a_local_deployment_honours_a_base_url() -> None:
    config = read_config(environ={**BOUND, "VLLM_DEPLOYMENT_TYPE": "local"})
    assert (config.base_url, config.timeout, config.max_retries) == ("http://m.ns:8000/v1", 60, 3)


@pytest.mark.parametrize(
    ("given", "url"),
    [({}, "http://localhost:8000/v1"), ({"host": "node", "port": 9000}, "http://node:9000/v1")],
)
def test_a_local_deployment_without_a_base_url_is_on_this_machine(given: dict[str, object], url: str) -> None:
    assert read_config({"model": "m", **given}, environ={}).base_url == url


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"host": "localhost", "port": 8000}, "http://localhost:8000/v1"),
        ({"deployment_type": "local", "port": 8001}, "http://localhost:8001/v1"),
        ({"deployment_type": "local"}, "http://m.ns:8000/v1"),
        ({"deployment_type": "cloud", "host": "localhost", "port": 8000}, "http://m.ns:8000/v1"),
        ({"base_url": "http://far:1", "host": "localhost"}, "http://far:1/v1"),
    ],
)
def test_host_and_port_of_a_configuration_go_before_the_url_of_the_environment(
    given: dict[str, object], url: str
) -> None:
    found = read_config({"model": "m", **given}, environ={**BOUND, "VLLM_DISCOVERY": "m-engines.ns.svc:8000"})
    assert found.base_url == url
    assert bool(found.discovery) == (url == "http://m.ns:8000/v1")


@pytest.mark.parametrize("wrap", [lambda config: config, lambda config: {"vllm": config}], ids=["flat", "nested"])
def test_a_configuration_goes_before_the_environment(wrap: object) -> None:
    assert callable(wrap)
    given = wrap({"model": "other", "endpoint": "https://far/v1", "api_key": "k", "timeout": 7, "max_retries": 0})
    expected = ClientConfig(base_url="https://far/v1", model_name="other", api_key="k", timeout=7, max_retries=0)
    assert read_config(given, environ=BOUND) == expected


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"deployment_type": "cloud", "model_name": "m"}, "VLLM_BASE_URL"),
        ({"base_url": "http://m:8000"}, "VLLM_MODEL_NAME"),
        ({"base_url": "m:8000", "model_name": "m"}, "VLLM_BASE_URL"),
        ({"base_url": "ftp://m", "model_name": "m"}, "VLLM_BASE_URL"),
        ({"modelname": "m"}, "modelname"),
        ({"model": "m", "timeout": "soon"}, "timeout"),
        ({"model": "m", "timeout": float("nan")}, "timeout"),
        ({"model": "m", "max_retries": -1}, "max_retries"),
        ({"model": "m", "max_retries": ".inf"}, "max_retries"),
        ({"model": "m", "max_retries": float("inf")}, "max_retries"),
        ({"vllm": "m"}, "vllm"),
    ],
)
def test_what_is_missing_or_wrong_is_named_with_a_way_out(given: dict[str, object], variable: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_config(given, environ={})
    assert caught.value.variable == variable
    assert variable in str(caught.value) or variable.lower().removeprefix("vllm_") in str(caught.value)
    assert caught.value.advice
    assert isinstance(caught.value, ValueError)


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(ClientConfig(base_url="http://m", model_name="m", api_key="secret"))
