"""What keeps a download from going on, in words for people and one word for programs."""

from __future__ import annotations

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a file system answers that has no room."""

GATED, UNAUTHORIZED, NOT_FOUND, WRONG_REVISION = "Gated", "Unauthorized", "NotFound", "WrongRevision"
RATE_LIMITED, UNREACHABLE, DISK_FULL, NOT_WRITABLE = "RateLimited", "Unreachable", "DiskFull", "NotWritable"
CORRUPT, WRONG_ANSWER, CHANGED = "Corrupt", "WrongAnswer", "Changed"

LASTING = frozenset({GATED, UNAUTHORIZED, NOT_FOUND, WRONG_REVISION, DISK_FULL, NOT_WRITABLE})
"""Nothing changes before somebody acts. It is tried again all the same: a licence is accepted elsewhere."""


class Fault(Exception):  # noqa: N818 # it is told, and tried again
    """A download cannot go on now.

    Args:
        reason: One of the words above.
        message: What is wrong and what to do.
        retry_after_seconds: How long who refused wants to be left alone; 0 where it did not say.
    """

    def __init__(self, reason: str, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds


def of_disk(error: OSError, folder: str) -> Fault:
    """The fault that writing to the claim has brought."""
    if error.errno in FULL:
        return Fault(DISK_FULL, f"the claim is full ({error.strerror}): make it larger, or delete what nobody needs")
    return Fault(NOT_WRITABLE, f"cannot write to {folder}: {error.strerror}; see spec.pod.securityContext.fsGroup")
