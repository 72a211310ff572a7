"""The command line and environment of the engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.resources import SOURCE, model
from vllm_operator.render.command import arguments, command
from vllm_operator.render.pod import template

BASE = [SOURCE, "--served-model-name", SOURCE, "--shutdown-timeout", "30"]


def args(**sections: Any) -> list[str]:
    """Arguments of a model."""
    return arguments(model(**sections).spec)


def value_of(flag: str, **sections: Any) -> str:
    """What follows a flag."""
    words = args(**sections)
    assert words.count(flag) == 1
    return words[words.index(flag) + 1]


def test_a_source_alone_sets_nothing_but_what_the_operator_needs() -> None:
    assert args() == BASE
    assert command(model().spec) == ["vllm", "serve", *BASE]


@pytest.mark.parametrize(
    ("flag", "sections"),
    [
        ("--trust-remote-code", {"model": {"source": SOURCE, "trustRemoteCode": False}}),
        ("--enable-log-requests", {"engine": {"debug": False}}),
        ("--tensor-parallel-size", {"parallelism": {"tensor": 1}}),
        ("--pipeline-parallel-size", {"parallelism": {"pipeline": 1}}),
    ],
)
def test_a_switch_that_is_off_and_a_size_of_one_do_not_appear(flag: str, sections: dict[str, Any]) -> None:
    assert flag not in args(**sections)


@pytest.mark.parametrize(
    ("flag", "text", "sections"),
    [
        ("--revision", "v1", {"model": {"source": SOURCE, "revision": "v1"}}),
        ("--tensor-parallel-size", "4", {"parallelism": {"tensor": 4}}),
        ("--pipeline-parallel-size", "2", {"parallelism": {"pipeline": 2}}),
        ("--max-model-len", "4096", {"engine": {"maxModelLen": 4096}}),
        ("--max-model-len", "auto", {"engine": {"maxModelLen": "auto"}}),
        ("--max-num-batched-tokens", "8192", {"engine": {"maxNumBatchedTokens": 8192}}),
        ("--gpu-memory-utilization", "0.9", {"engine": {"gpuMemoryUtilization": 0.90}}),
        ("--gpu-memory-utilization", "1", {"engine": {"gpuMemoryUtilization": 1.0}}),
        ("--gpu-memory-utilization", "0.0000001", {"engine": {"gpuMemoryUtilization": 1e-7}}),
        ("--cpu-offload-gb", "0", {"engine": {"cpuOffloadGB": 0}}),
        ("--cpu-offload-gb", "65536", {"engine": {"cpuOffloadGB": 65536.0}}),
        ("--cpu-offload-gb", "1.5", {"engine": {"cpuOffloadGB": 1.5}}),
        ("--block-size", "32", {"engine": {"blockSize": 32}}),
    ],
)
def test_what_is_set_appears_once_with_its_shortest_text(flag: str, text: str, sections: dict[str, Any]) -> None:
    assert value_of(flag, **sections) == text


@given(st.floats(min_value=0, max_value=65536, allow_nan=False))
def test_a_number_is_written_so_that_it_reads_back_the_same(number: float) -> None:
    text = value_of("--cpu-offload-gb", engine={"cpuOffloadGB": number})
    assert float(text) == number
    assert "e" not in text.lower()
    assert not text.endswith(".0")


def test_flags_stand_in_a_fixed_order_and_the_users_own_words_are_last() -> None:
    words = args(
        engine={"extraArgs": ["--max-logprobs", "1"], "blockSize": 16, "maxModelLen": 8},
        parallelism={"tensor": 2},
        model={"source": SOURCE, "servedNames": ["a", "b"], "trustRemoteCode": True},
    )
    assert words == [
        *[SOURCE, "--served-model-name", "a", "b", "--trust-remote-code"],
        *["--max-model-len", "8", "--block-size", "16", "--shutdown-timeout", "30"],
        *["--tensor-parallel-size", "2", "--max-logprobs", "1"],
    ]


UNLOGGED = "--disable-access-log-for-endpoints"


def container_command(**sections: Any) -> list[str]:
    """The command line of the engine's container."""
    words: list[str] = template(model(**sections))["spec"]["containers"][0]["args"]
    return words


def test_the_access_log_of_an_engine_leaves_out_what_its_manager_asks() -> None:
    words = container_command()
    assert words[words.index(UNLOGGED) + 1] == "/health,/is_paused,/metrics,/metrics/"
    assert UNLOGGED not in args(), "without a pod there is no manager"


def test_the_argument_for_it_is_left_out_where_an_old_engine_may_not_know_it() -> None:
    assert UNLOGGED not in container_command(engine={"shutdownTimeoutSeconds": 0})


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({}, "/health,/is_paused,/metrics,/metrics/,/v1/models"),
        ({"shutdownTimeoutSeconds": 0}, "/v1/models,/health"),
    ],
)
def test_the_users_unlogged_paths_are_beside_those_of_the_manager(fields: dict[str, Any], paths: str) -> None:
    words = container_command(engine={"disableAccessLogForEndpoints": ["/v1/models", "/health"], **fields})
    assert words[words.index(UNLOGGED) + 1] == paths
    assert words.count(UNLOGGED) == 1


def test_what_vllm_takes_as_json_reaches_it_as_it_was_written() -> None:
    config = {"kv_connector": "NixlConnector", "kv_connector_extra_config": {"backends": ["UCX"], "x": None, "y": 0.5}}
    assert json.loads(value_of("--kv-transfer-config", engine={"kvTransferConfig": config})) == config


@pytest.mark.parametrize(
    "own", [[UNLOGGED, "/ping"], [f"{UNLOGGED}=/ping"], ["--disable_access_log_for_endpoints", "/ping"]], ids=str
)
def test_what_the_user_says_of_it_counts_alone(own: list[str]) -> None:
    assert container_command(engine={"extraArgs": own})[-len(own) :] == own
    assert sum("access" in word for word in container_command(engine={"extraArgs": own})) == 1
