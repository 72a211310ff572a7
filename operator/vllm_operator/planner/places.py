"""Would a pod that waits get a place if an engine went? By the words of the scheduler, the quota and the queue. Pure.

An engine that serves is only ever given up for a successor that can then start. The default scheduler says behind
"preemption:" for how many nodes it would help to take pods away: not for those whose labels, taints or total size are
against the pod (`UnschedulableAndUnresolvable`, pkg/scheduler/framework/plugins), for the others it has looked for pods
of lower priority and found none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREEMPTION: Final = "preemption: "
_NO_VICTIMS: Final = "No preemption victims found"
_NOT_HELPFUL: Final = "Preemption is not helpful for scheduling"
_HELD_BY_PODS: Final = (
    "Insufficient ",
    "Too many pods",
    "free ports",
    "anti-affinity rules",
    "ReadWriteOncePod",
    "max volume count",
)
"""What pods of a node keep from another, in the words of the scheduler's plug-ins."""

_NO_DEVICES: Final = "cannot allocate all claims"
_QUOTA: Final = "exceeded quota"
_USED_UP: Final = re.compile(r"insufficient unused quota for [^ ]+ in flavor ([^ ,.]+)")
_TOO_SMALL: Final = re.compile(r"insufficient quota for [^ ]+ in flavor ([^ ,.]+)")
"""What Kueue says of the flavors of a queue (pkg/scheduler/flavorassigner): others use it, or it never had so much."""


def a_place_would_help(message: str) -> bool:
    """Whether a pod that the scheduler finds no node for would have one if another pod went.

    Words of a scheduler that says nothing of preemption count as they are; no words count as no.
    """
    causes, _, preemption = message.partition(_PREEMPTION)
    if _NO_VICTIMS in preemption:
        return True
    if _NOT_HELPFUL in preemption:
        return False
    return any(words in causes for words in _HELD_BY_PODS)


def quota_would_help(message: str) -> bool:
    """Whether a pod that its queue does not admit would be admitted if others of the queue ended; no words count as no.

    That is so where some flavor would be enough, and is used by others.
    """
    return bool(set(_USED_UP.findall(message)) - set(_TOO_SMALL.findall(message)))


def waits_for_devices(message: str) -> bool:
    """Whether claims of devices keep a pod from a node. The scheduler does not say whether others' devices would help.

    It counts such a node among those on which it does not help to take pods away, whoever holds its devices.
    """
    causes, _, _ = message.partition(_PREEMPTION)
    return _NO_DEVICES in causes


def quota_refuses(condition: Mapping[str, Any]) -> bool:
    """Whether the Deployment's condition ReplicaFailure says that a quota has no room for one more pod."""
    return condition.get("status") == "True" and _QUOTA in str(condition.get("message") or "")
