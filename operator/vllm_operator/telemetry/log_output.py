"""Writing the log where the disk behind it may be full: what could not be written is counted, and told afterwards.

In a cluster standard error is a pipe to the container runtime; it is a file where people run the operator by a service
manager, or with `>>`. Python's own handler prints a traceback for each line that it cannot write, and its buffers bring
halves of lines and those tracebacks to light when there is room again.
"""

from __future__ import annotations

import logging
import os
from typing import Final

HELPS: Final = "make room on the disk that holds it, or have it written elsewhere"
_STANDARD_ERROR: Final = 2


class LogOutput(logging.Handler):
    """Writes each record as a whole line, straight to a file descriptor."""

    def __init__(self, descriptor: int = _STANDARD_ERROR) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lost = 0
        self._failure = ""
        self._torn = False
        """Whether the last line was only begun."""

    @property
    def trouble(self) -> str:
        """Why the log cannot be written now; empty where it can. Asks again where it could not."""
        self.acquire()
        try:
            self._tell_lost()
            return f"cannot write the log, {self._lost} lines are lost: {self._failure}" if self._failure else ""
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, and before it how many could not be."""
        if not (self._tell_lost() and self._write(self.format(record))):
            self._lost += 1

    def _tell_lost(self) -> bool:
        if not self._failure:
            return True
        words = "%d lines of the log are lost: it could not be written (%s): %s"
        arguments = (self._lost, self._failure, HELPS)
        record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, words, arguments, None)
        if not self._write(self.format(record)):
            return False
        self._lost, self._failure = 0, ""
        return True

    def _write(self, line: str) -> bool:
        """Write a line. Nothing of it is kept for later where that fails."""
        left = f"{chr(10) if self._torn else ''}{line}\n".encode(errors="backslashreplace")
        try:
            while left:
                written = os.write(self._descriptor, left)
                self._torn, left = True, left[written:]
        except OSError as error:
            self._failure = str(error)
            return False
        self._torn = False
        return True


def log_trouble() -> str:
    """Why the log of this process cannot be written now; empty where it can, or where others write it."""
    outputs = (handler for handler in logging.getLogger().handlers if isinstance(handler, LogOutput))
    return next(filter(None, (output.trouble for output in outputs)), "")
