"""How images are pulled."""

from __future__ import annotations

import re
from typing import Final

_MOVING: Final = frozenset({"latest", "nightly"})
_COMMIT: Final = re.compile("[0-9a-f]{7,40}|[0-9]{8}")
"""A commit, or a day."""


def pull_policy(image: str) -> str:
    """The policy of a container or volume of this image: Always where its tag moves on, as `latest` and `nightly` do.

    The API server gives `latest` the same. It is written out, because the API server keeps the policy of an older
    image: Always of a `:latest` one when the image becomes a pinned one, and IfNotPresent the other way.
    """
    name = image.rpartition("/")[2]
    return "Always" if "@" not in name and _moves(name.partition(":")[2]) else "IfNotPresent"


def _moves(tag: str) -> bool:
    """Whether a tag is given to another image each day: `nightly-aarch64` is, and `nightly-` with a commit is not."""
    words = tag.split("-")
    return not tag or (any(word in _MOVING for word in words) and not any(map(_COMMIT.fullmatch, words)))
