"""Every program of examples/ on the real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.examples import EXAMPLES, LARGE, PROGRAMS, SMALL, environment, run
from tests.support.models import COMPACT_JSON
from tests.support.servers import real_server

if TYPE_CHECKING:
    from pathlib import Path

KEY = "key-1"


@pytest.mark.real_vllm
def test_every_program_runs_on_the_real_engine(tmp_path: Path) -> None:
    flags = ("--served-model-name", LARGE, SMALL, "--max-model-len", "2048", *COMPACT_JSON)
    with real_server(*flags, folder=tmp_path, api_key=KEY) as server:
        done = {name: run(EXAMPLES / name, environment(server, tmp_path), tmp_path) for name in PROGRAMS}
    failed = {name: one.stdout + one.stderr for name, one in done.items() if one.returncode != 0}
    assert not failed
    assert f"de, low -> {SMALL}:" in done["several_models.py"].stdout
    assert "4 of 4 tests passed" in done["test_vllm_integration.py"].stdout
    assert "1 passed" in done["test_vllm_client.py"].stdout
