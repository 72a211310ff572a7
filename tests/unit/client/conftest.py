"""A stub engine for the tests of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.servers import EngineServer, stub_server

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "key-1"
LENGTH = 4096


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    flags = ("--served-model-name", "tiny", "--max-model-len", str(LENGTH))
    with stub_server(*flags, folder=tmp_path_factory.mktemp("engine"), api_key=KEY) as server:
        yield server


@pytest.fixture
def engine(shared_engine: EngineServer) -> Iterator[EngineServer]:
    """The stub engine, serving `tiny` for those who have KEY; its faults end with the test."""
    yield shared_engine
    shared_engine.request("DELETE", "/stub/faults")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of this machine play no part."""
    for name in ("BASE_URL", "MODEL_NAME", "API_KEY", "DEPLOYMENT_TYPE", "DISCOVERY", "CA_FILE"):
        monkeypatch.delenv(f"VLLM_{name}", raising=False)
    monkeypatch.delenv("LLM_PROVIDER", raising=False)


@pytest.fixture
def bound(engine: EngineServer, monkeypatch: pytest.MonkeyPatch) -> EngineServer:
    """The environment that a model's client binding makes, for the stub engine."""
    values = {"LLM_PROVIDER": "vllm", "VLLM_BASE_URL": f"{engine.url}/v1", "VLLM_MODEL_NAME": "tiny"}
    for name, value in {**values, "VLLM_API_KEY": KEY, "VLLM_DEPLOYMENT_TYPE": "cloud"}.items():
        monkeypatch.setenv(name, value)
    return engine
