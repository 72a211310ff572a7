"""How images are pulled."""

from __future__ import annotations


def pull_policy(image: str) -> str:
    """The policy that the API server gives a new container or volume of this image.

    It is written out, because the API server keeps the policy of an older image: Always of a `:latest` one when the
    image becomes a pinned one, and IfNotPresent the other way.
    """
    name = image.rpartition("/")[2]
    moving = "@" not in name and name.partition(":")[2] in {"", "latest"}
    return "Always" if moving else "IfNotPresent"
