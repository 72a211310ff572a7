"""Run the programs of examples/ as their readers do: as files, with the environment of a client binding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tools.generate import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.servers import EngineServer

EXAMPLES = REPOSITORY / "examples"
PROGRAMS = tuple(sorted(path.name for path in EXAMPLES.glob("*.py")))
LARGE, SMALL = "tiny", "small"
"""The models of the catalogue, which are both names of one engine; the first is that of the binding."""


def environment(server: EngineServer, folder: Path) -> dict[str, str]:
    """What a pod has from a model's client binding, and the catalogue of its namespace, which is put into a folder."""
    url = f"{server.url}/v1"
    models = [
        {"name": LARGE, "languages": ["zh-TW", "en"], "complexity": ["medium", "complex"], "weight": 200},
        {"name": SMALL, "complexity": ["simple"], "weight": 100},
    ]
    of_all = {"base_url": url, "runner": "generate", "ready": True, "key_secret": "binding"}
    entries = [{**model, **of_all, "served_names": [model["name"]]} for model in models]
    catalog = {"version": 1, "namespace": "team", "truncated": 0, "models": entries}
    (folder / "catalog.json").write_text(json.dumps(catalog), encoding="utf-8")
    return {
        "LLM_PROVIDER": "vllm",
        "VLLM_BASE_URL": url,
        "VLLM_MODEL_NAME": LARGE,
        "VLLM_DEPLOYMENT_TYPE": "cloud",
        "VLLM_API_KEY": server.api_key or "",
        "VLLM_CATALOG": str(folder / "catalog.json"),
    }


def run(program: Path, env: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """What came of a program that was started in that folder; no variable of this process names a model."""
    own = {name: text for name, text in os.environ.items() if not name.startswith(("VLLM_", "LLM_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, str(program)], cwd=folder, env={**own, **env}, capture_output=True, text=True, check=False
    )
