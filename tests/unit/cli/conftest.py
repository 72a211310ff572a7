"""What tests of commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fake_kubectl import FakeKubectl

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKubectl:
    """The program that commands run as kubectl."""
    found = FakeKubectl(tmp_path)
    monkeypatch.setenv("KUBECTL", str(found.path))
    return found
