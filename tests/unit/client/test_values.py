"""What people write into settings: what is meant is taken, and what cannot be meant is refused without a secret."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.unit.client.conftest import KEY
from vllm_client import ClientConfig, ConfigurationError, SyncVLLMClient, VLLMClient, VLLMLocalClient
from vllm_client.config import read_config
from vllm_client.values import api_key, base_url, is_loopback, model_name

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import EngineServer

SECRET = "s3cret"  # noqa: S105 - of the tests


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        ("http://h:8000/v1/", "http://h:8000/v1"),
        (" http://h:8000\n", "http://h:8000/v1"),
        ("http://h:8000/V1", "http://h:8000/v1"),
        ("http://h:8000/v1/chat/completions", "http://h:8000/v1"),
        ("http://h:8000/v1/completions/", "http://h:8000/v1"),
        ("http://h:8000/v1/embeddings", "http://h:8000/v1"),
        ("http://h:8000/v1/models", "http://h:8000/v1"),
        ("https://gateway.example.com/team/v1/chat/completions", "https://gateway.example.com/team/v1"),
        ("https://gateway.example.com/models/qwen", "https://gateway.example.com/models/qwen/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_a_url_is_taken_as_it_is_meant(given: str, meant: str) -> None:
    assert base_url(given) == meant
    assert base_url(meant) == meant


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "is missing"),
        (" \n", "is missing"),
        ("h:8000", "is not an http or https URL"),
        ("ftp://h", "is not an http or https URL"),
        ("http://", "is not an http or https URL"),
        ("http://h:port", "Port could not be cast"),
        ("http://h:99999", "Port out of range"),
        ("http://h:0", "has the port 0"),
        ("http://[::1:8000", "Invalid IPv6 URL"),
        (f"http://h:8000/v1?key={SECRET}", "'http://h:8000/v1?...' has a query or a fragment"),
        ("http://h:8000#x", "has a query or a fragment"),
        (f"http://me:{SECRET}@h:8000", "'http://h:8000' holds a user or a password"),
        (f"http://me:{SECRET}@h:port?key={SECRET}", "holds a user or a password"),
        (f"http://me:{SECRET}@[::1?key={SECRET}", "Invalid IPv6 URL"),
        ("http://${HOST}:8000", "holds a variable that was not filled in"),
        ("http://$HOST:8000", "holds a variable that was not filled in"),
        ("http://$(HOST):8000", "holds a variable that was not filled in"),
        ("http://{{ .Values.host }}:8000", "holds a variable that was not filled in"),
        ("http://<NAME>:8000", "holds a variable that was not filled in"),
        ("http://h:8000/a b", "holds white space"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_and_shows_no_secret(given: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        base_url(given)
    assert refused.value.variable == "VLLM_BASE_URL"
    assert problem in str(refused.value)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


def test_white_space_around_a_name_and_a_key_is_cut_off() -> None:
    config = read_config(environ={"VLLM_BASE_URL": "http://h\n", "VLLM_MODEL_NAME": " m\n", "VLLM_API_KEY": "k\n"})
    assert (config.base_url, config.model_name, config.api_key) == ("http://h/v1", "m", "k")


@pytest.mark.parametrize("given", ["", " ", "${MODEL}", "{{ model }}", "a\nb", "a\x00"])
def test_a_name_that_cannot_be_one_is_refused(given: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        model_name(given)
    assert refused.value.variable == "VLLM_MODEL_NAME"


@pytest.mark.parametrize("given", ["org/model-7B", "a model: 1.0", "$ale"[1:]])
def test_a_name_may_hold_what_names_hold(given: str) -> None:
    assert model_name(given) == given


@pytest.mark.parametrize("given", [f"{SECRET}\nX: y", f"{SECRET}ü", "${KEY}", "$(KEY)", f"{SECRET}\x7f"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(given: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        api_key(given)
    assert refused.value.variable == "VLLM_API_KEY"
    assert SECRET not in str(refused.value)


def test_a_key_may_begin_with_a_dollar_sign() -> None:
    assert api_key("$ecret") == "$ecret"


def test_values_are_judged_whichever_way_they_come() -> None:
    with pytest.raises(ConfigurationError):
        VLLMClient("http://${HOST}", "m")
    with pytest.raises(ConfigurationError):
        ClientConfig(base_url="http://h", model_name="m", engines=("http://h", "http://${HOST}"))
    client = VLLMClient("http://h", "m")
    with pytest.raises(ConfigurationError):
        client.update_config(api_key="a\nb")
    assert client.config.api_key == "dummy-key"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.8.0.1/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://app.localhost/v1", True),
        ("http://10.0.0.1/v1", False),
        ("http://localhost.example.com/v1", False),
        ("http://qwen.team.svc:8000/v1", False),
    ],
)
def test_what_is_of_this_machine_is_known(url: str, *, expected: bool) -> None:
    assert is_loopback(url) is expected


@pytest.mark.parametrize("no_proxy", ["", "127.0.0.1,::1,[::1],fd00::/8"])
def test_no_proxy_of_the_environment_stands_before_this_machine(
    engine: EngineServer, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    with SyncVLLMClient(VLLMLocalClient("tiny", port=engine.port, api_key=KEY, max_retries=0)) as client:
        assert client.complete("hello") == "tiny heard: hello"
    command = [sys.executable, "-m", "vllm_client.check", "--requests", "2"]
    bound = {"VLLM_BASE_URL": engine.url, "VLLM_MODEL_NAME": "tiny", "VLLM_API_KEY": KEY}
    for name, value in bound.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_what_the_client_uses_of_a_file_is_filled_in(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text("vllm:\n  base_url: ${URL}\n  model: m\ndatabase:\n  password: ${NOT_SET}\n", encoding="utf-8")
    assert read_config(file, {"URL": "http://h"}).base_url == "http://h/v1"
    file.write_text("vllm:\n  base_url: ${URL}\n  model: m\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="names the variable URL, which is not set"):
        read_config(file, {})
