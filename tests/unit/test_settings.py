"""Options of the operator: each is read from its variable, and refused by its name."""

from __future__ import annotations

from dataclasses import fields

import pytest

from vllm_operator.errors import SettingsError
from vllm_operator.settings import Settings, from_environment

GIVEN = {
    "workers": ("4", 4),
    "request_timeout_seconds": ("1.5", 1.5),
    "start_timeout_seconds": ("10", 10.0),
    "resync_seconds": ("60", 60.0),
    "listen_host": ("127.0.0.1", "127.0.0.1"),
    "listen_port": ("9090", 9090),
    "namespace": ("models", "models"),
    "namespaces": ("team-a,team-b", "team-a,team-b"),
    "name": ("blue", "blue"),
    "model_selector": ("shard in (1,2),!spare", "shard in (1,2),!spare"),
    "prometheus_address": ("http://prometheus.monitoring:9090", "http://prometheus.monitoring:9090"),
    "pod": ("vllm-operator-1", "vllm-operator-1"),
    "lease_name": ("other", "other"),
    "lease_duration_seconds": ("30", 30),
    "renew_deadline_seconds": ("8", 8.0),
    "retry_period_seconds": ("1.5", 1.5),
    "log_level": ("DEBUG", "DEBUG"),
    "log_format": ("JSON", "JSON"),
}


def test_every_option_is_covered_here() -> None:
    assert set(GIVEN) == {option.name for option in fields(Settings)}


@pytest.mark.parametrize("name", GIVEN)
def test_an_option_is_read_from_the_variable_of_its_name(name: str) -> None:
    text, value = GIVEN[name]
    settings = from_environment({f"VLLM_OPERATOR_{name.upper()}": text})
    assert getattr(settings, name) == value
    assert type(getattr(settings, name)) is type(value)
    others = [option.name for option in fields(Settings) if option.name != name]
    assert [getattr(settings, other) for other in others] == [getattr(Settings(), other) for other in others]


def test_nothing_set_means_the_defaults_and_they_are_allowed_themselves() -> None:
    assert from_environment({}) == Settings()
    said = {
        f"VLLM_OPERATOR_{option.name.upper()}": str(getattr(Settings(), option.name)) for option in fields(Settings)
    }
    assert from_environment(said) == Settings()


def test_other_variables_do_not_matter() -> None:
    assert from_environment({"VLLM_OPERATOR_SERVICE_HOST": "10.0.0.1", "WORKERS": "x"}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        ("VLLM_OPERATOR_WORKERS", "many", "is not of type int"),
        ("VLLM_OPERATOR_WORKERS", "1.5", "is not of type int"),
        ("VLLM_OPERATOR_WORKERS", "", "is not of type int"),
        ("VLLM_OPERATOR_WORKERS", "0", "has to be from 1 to 1024"),
        ("VLLM_OPERATOR_REQUEST_TIMEOUT_SECONDS", "30s", "is not of type float"),
        ("VLLM_OPERATOR_REQUEST_TIMEOUT_SECONDS", "0", "has to be from 0.1 to 3600"),
        ("VLLM_OPERATOR_RESYNC_SECONDS", "nan", "has to be from 1 to 86400"),
        ("VLLM_OPERATOR_RESYNC_SECONDS", "inf", "has to be from 1 to 86400"),
        ("VLLM_OPERATOR_LISTEN_PORT", "tcp://10.0.0.1:80", "is not of type int"),
        ("VLLM_OPERATOR_LISTEN_PORT", "65536", "has to be from 1 to 65535"),
        ("VLLM_OPERATOR_NAMESPACES", "a,,b", "has to be names of namespaces with commas between them"),
        ("VLLM_OPERATOR_NAMESPACES", "Team", "has to be names of namespaces with commas between them"),
        ("VLLM_OPERATOR_NAMESPACES", "a*", "has to be names of namespaces with commas between them"),
        ("VLLM_OPERATOR_NAME", "Blue", "has to be a name as Services have it"),
        ("VLLM_OPERATOR_NAME", "b" * 41, "has to be a name as Services have it"),
        ("VLLM_OPERATOR_MODEL_SELECTOR", "a=b c", "has to be a label selector as `kubectl get -l` takes it"),
        ("VLLM_OPERATOR_MODEL_SELECTOR", "a in b", "has to be a label selector as `kubectl get -l` takes it"),
        (
            "VLLM_OPERATOR_PROMETHEUS_ADDRESS",
            "prometheus:9090",
            "has to be a URL such as http://prometheus.monitoring:9090",
        ),
        ("VLLM_OPERATOR_LOG_LEVEL", "LOUD", "has to be one of DEBUG, INFO, WARNING, ERROR"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(variable: str, value: str, wanted: str) -> None:
    with pytest.raises(SettingsError) as caught:
        from_environment({variable: value})
    assert str(caught.value) == f"{variable}={value!r} {wanted}: correct or unset it"


@pytest.mark.parametrize(
    "selector", ["a", "!a", "a=b", "a == b", "a!=", "example.com/a in (b, c)", " a notin (b),c=d ", "a=b,c in (d,e),!f"]
)
def test_selectors_are_taken_as_the_api_server_takes_them(selector: str) -> None:
    assert from_environment({"VLLM_OPERATOR_MODEL_SELECTOR": selector}).model_selector == selector


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        ("LEASE_DURATION_SECONDS", "10", "LEASE_DURATION_SECONDS=10 has to be more than the renew deadline of 10 s"),
        ("RENEW_DEADLINE_SECONDS", "20", "LEASE_DURATION_SECONDS=15 has to be more than the renew deadline of 20 s"),
        ("RETRY_PERIOD_SECONDS", "6", "RETRY_PERIOD_SECONDS=6 has to be at most half of the renew deadline of 10 s"),
    ],
)
def test_times_of_the_lease_that_do_not_fit_to_each_other_are_refused(variable: str, value: str, wanted: str) -> None:
    with pytest.raises(SettingsError, match=wanted):
        from_environment({f"VLLM_OPERATOR_{variable}": value})
