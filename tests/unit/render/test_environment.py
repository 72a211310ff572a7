"""The environment of the engine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import SOURCE, model
from vllm_operator.render.command import arguments
from vllm_operator.render.environment import HOME, environment
from vllm_operator.render.pod import template


def variables(**sections: Any) -> dict[str, Any]:
    """Values of the variables, or where they come from, by name."""
    found = environment(model(**sections).spec, "qwen")
    assert len({variable["name"] for variable in found}) == len(found)
    return {variable["name"]: variable.get("value", variable.get("valueFrom", "")) for variable in found}


def secret(name: str, key: str) -> dict[str, Any]:
    """A value out of a Secret."""
    return {"secretKeyRef": {"name": name, "key": key}}


def test_home_and_caches_are_writable_and_usage_is_not_reported() -> None:
    found = {name: value for name, value in variables().items() if not name.startswith("POD_")}
    assert found == {"HOME": HOME, "TRITON_CACHE_DIR": f"{HOME}/.cache/triton", "VLLM_NO_USAGE_STATS": "1"}


def test_requests_are_logged_at_any_level_and_not_where_that_is_said() -> None:
    logged = model(engine={"enableLogRequests": True}).spec
    silent = model(engine={"debug": True, "enableLogRequests": False}).spec
    assert "--enable-log-requests" in arguments(logged)
    assert "VLLM_LOGGING_LEVEL" not in variables(engine={"enableLogRequests": True})
    assert "--enable-log-requests" not in arguments(silent)


def test_debug_means_the_variable_that_vllm_reads_and_a_line_for_each_request() -> None:
    assert variables(engine={"debug": True})["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert "VLLM_DEBUG" not in variables(engine={"debug": True})
    assert "--enable-log-requests" in arguments(model(engine={"debug": True}).spec)
    assert "VLLM_LOGGING_LEVEL" not in variables()


def test_the_log_level_alone_logs_no_requests() -> None:
    assert variables(engine={"logLevel": "WARNING"})["VLLM_LOGGING_LEVEL"] == "WARNING"
    assert "--enable-log-requests" not in arguments(model(engine={"logLevel": "DEBUG"}).spec)


def threads(limit: object, *, profile: str = "cpu", **sections: Any) -> tuple[Any, Any]:
    """What an engine is told of its threads: where they are bound, and how many there are; None: nothing."""
    resources = {"requests": {"cpu": 1}, "limits": {"memory": "8Gi"} | ({} if limit is None else {"cpu": limit})}
    found = variables(accelerator={"profile": profile}, resources=resources, **sections)
    return found.get("VLLM_CPU_OMP_THREADS_BIND"), found.get("OMP_NUM_THREADS")


@pytest.mark.parametrize(
    ("limit", "expected"), [(4, "3"), ("4", "3"), ("3500m", "2"), (1, "1"), ("0.5", "1"), (0, "1"), ("2k", "1999")]
)
def test_an_engine_on_cpu_has_a_thread_less_than_its_limit_and_they_are_bound_nowhere(
    limit: object, expected: str
) -> None:
    assert threads(limit) == ("nobind", expected)


def test_threads_are_left_to_vllm_where_the_engine_may_have_the_node_or_binds_them_by_its_workers() -> None:
    assert threads(None) == (None, None)
    assert threads(4, profile="nvidia") == (None, None)
    assert threads(4, parallelism={"tensor": 2}) == (None, None)
    assert threads(4, engine={"version": "0.11.0"}) == (None, None)
    assert threads(4, engine={"version": "0.11.1"}) == ("nobind", "3")
    assert threads(4, engine={"image": "registry.example.com/own:1"}) == (None, None)


def test_what_the_user_says_of_threads_wins() -> None:
    said = [{"name": "VLLM_CPU_OMP_THREADS_BIND", "value": "0-3"}, {"name": "OMP_NUM_THREADS", "value": "2"}]
    assert threads(4, engine={"env": said}) == ("0-3", "2")


def test_the_users_environment_wins_and_keeps_its_order() -> None:
    given_env = [{"name": "VLLM_LOGGING_LEVEL", "value": "INFO"}, {"name": "B"}, {"name": "A", "value": "$(B)"}]
    made = variables(engine={"debug": True, "env": given_env})
    assert made["VLLM_LOGGING_LEVEL"] == "INFO"
    assert list(made)[-2:] == ["B", "A"]
    assert made["B"] == ""


def test_tokens_and_keys_come_out_of_secrets_and_never_stand_in_the_pod() -> None:
    made = variables(
        model={"source": SOURCE, "tokenSecret": {"name": "hub", "key": "token"}},
        auth={"keys": [{"name": "old", "key": "k"}]},
    )
    assert made["HF_TOKEN"] == secret("hub", "token")
    assert made["VLLM_API_KEY"] == secret("old", "k")


def test_one_key_is_read_from_the_environment_and_several_are_handed_on_without_a_word_of_them() -> None:
    one = {"generate": True}
    several = {"generate": True, "keys": [{"name": "old", "key": "k"}]}
    assert "--api-key" not in arguments(model(auth=one).spec)
    container, other = (template(model(auth=auth))["spec"]["containers"][0] for auth in (several, one))
    assert container["command"][-3:] == ["--keys", "VLLM_API_KEY,API_KEY_2", "--"]
    assert "--keys" not in other["command"]
    assert container["args"] == other["args"]
    assert not any("$(" in word or word == "--api-key" for word in container["args"])
    made = variables(auth=several)
    assert made["VLLM_API_KEY"] == secret("qwen-binding", "VLLM_API_KEY")
    assert made["API_KEY_2"] == secret("old", "k")


@pytest.mark.parametrize("profile", ["nvidia", "amd", "tpu"])
def test_a_profile_without_variables_adds_none(profile: str) -> None:
    assert set(variables(accelerator={"profile": profile})) == set(variables())
