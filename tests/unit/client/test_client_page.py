"""docs/client.md: every block runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.doc_blocks import run_page
from tools.generate import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.usefixtures("bound")
async def test_every_block_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    await run_page(REPOSITORY / "docs" / "client.md")
