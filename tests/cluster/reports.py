"""What a starting cluster tells the process that started it: lines of JSON through a pipe."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING

from tests.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Reporter:
    """The cluster's end."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def progress(self, text: str) -> None:
        """A step is done."""
        self._send("progress", text)

    def ready(self) -> None:
        """Everything works."""
        self._send("ready", "")

    def failed(self, text: str) -> None:
        """The start failed for this reason."""
        self._send("failed", text)

    def _send(self, kind: str, text: str) -> None:
        print(json.dumps({"kind": kind, "text": text}), file=self._stream, flush=True)


def follow(lines: Iterable[str], report: Callable[[str], None]) -> None:
    """Pass progress on until the cluster is ready.

    Raises:
        ClusterError: the start failed. It is raised at the end of the stream: everything is taken down by then.
    """
    reason = ""
    for line in lines:
        message = json.loads(line)
        if message["kind"] == "ready":
            return
        if message["kind"] == "failed":
            reason = message["text"]
        else:
            report(message["text"])
    raise ClusterError(reason or "the cluster's supervisor ended without a word")
