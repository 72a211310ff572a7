"""What an answer of the API server means where its status alone does not tell. Pure."""

from __future__ import annotations

import re
from typing import Final

_USERS_ERROR: Final = re.compile(
    r"failed to create typed patch object \("
    r"|failed to convert new object \([^)]*\) to proper version: unable to convert unstructured object to "
)
_SERVER_ERROR: Final = 500


def is_users_error(status: int, message: str) -> bool:
    """Whether an answer with a 5xx status refuses the very object that was sent, so that no later try can succeed.

    Server-side apply reads the object by the types of its kind before any validation, and answers with 500 where that
    fails: two entries of a list have the same key, or a value has a wrong type, such as a label that YAML read as true
    (apimachinery, pkg/util/managedfields/internal/structuredmerge.go); the message names the field. What only the Go
    types refuse, such as a quantity that is none, comes a moment later and names only the value. The conversion of a
    custom resource by a webhook begins with the same words, goes on otherwise, and may well succeed another time.
    """
    return status == _SERVER_ERROR and _USERS_ERROR.search(message) is not None
