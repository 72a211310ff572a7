"""The pages on cache, batch and monitoring: every block runs and prints what the page says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.doc_blocks import run_page
from tools.generate import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize("page", ["cache-and-batch.md", "client-monitoring.md"])
async def test_every_block_of_the_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    await run_page(REPOSITORY / "docs" / page)
