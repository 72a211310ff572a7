"""Where things are: the repository, the cache folder, and what lies in it."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
GO_MODULES = Path(__file__).resolve().parent / "go"
EXTRA_GO_MODULES = Path(__file__).resolve().parent / "extras"
"""Modules of programs that only some clusters have."""


def cache_folder() -> Path:
    """The folder for everything that is expensive to make again, and for the state of running clusters."""
    chosen = os.environ.get("VLLM_OPERATOR_CACHE")
    if chosen:
        return Path(chosen).resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").resolve() / "vllm-operator"


def clusters_folder() -> Path:
    """One folder per running cluster, named after it."""
    return cache_folder() / "clusters"
