"""How tests run here: hypothesis with the same cases every time and no opinion on how long one takes, and no memory."""

from __future__ import annotations

import pytest
from hypothesis import settings

from vllm_operator.render.children import forget_children

settings.register_profile("unit", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _nothing_rendered_yet() -> None:
    """Each test begins as a new process does: one that patches what is rendered leaves nothing to the next."""
    forget_children()
