"""How hypothesis runs here: the same cases every time, and no opinion on how long one takes."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("unit")
