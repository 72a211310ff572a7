"""Stems for the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.stem_process import LOADING, SERVING, Stem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def stem(tmp_path: Path) -> Iterator[Stem]:
    """One whose judge reports that the engine serves."""
    own = Stem(tmp_path / "pod")
    own.reports(SERVING)
    yield own
    own.close()


@pytest.fixture
def loading(stem: Stem) -> Stem:
    """The same, with a judge that reports that the engine loads."""
    stem.reports(LOADING)
    return stem
