"""A progress bar for people."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from vllm_client.wrapper import require

if TYPE_CHECKING:
    from vllm_client.batch.items import BatchResult


class ProgressBar:
    """Counts items on stderr as they are done, and those that failed.

    Raises:
        MissingExtra: The extra `progress` is not installed.
    """

    def __init__(self, items: object) -> None:
        library = require("tqdm", extra="progress", purpose="progress=True")
        self._bar: Any = library.tqdm(total=len(items) if isinstance(items, Sized) else None, unit="prompt")
        self._failed = 0

    def done(self, result: BatchResult) -> None:
        """Count a result."""
        if result.error is not None:
            self._failed += 1
            self._bar.set_postfix(failed=self._failed, refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class NoProgress:
    """No bar."""

    def done(self, result: BatchResult) -> None:
        """Count nothing."""

    def close(self) -> None:
        """Leave nothing."""
