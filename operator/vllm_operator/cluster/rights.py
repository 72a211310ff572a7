"""Rights that the operator turned out not to have: told once, seen on /readyz, and looked for until they are there.

A watch that is open goes on for up to an hour when its right is taken away, and a write is tried again only when there
is something to write. So a refusal is remembered, and the API server is asked from time to time whether it would refuse
again (a SelfSubjectAccessReview, which every authenticated user may make).
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cluster.remedies import Outage, with_remedy
from vllm_operator.cluster.scope import EVERYTHING, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = logging.getLogger(__name__)

TELL_AGAIN_SECONDS: Final = 60.0
"""How often a lasting lack is logged."""

REVIEWS_PATH: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

_REFUSAL: Final = re.compile(
    r' cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)
"""How an API server words what its authorizer refuses (apiserver, endpoints/handlers/responsewriters/errors.go); what
admission refuses, a quota for one, has other words."""

_LOOKED_AT_ALONE: Final = frozenset({"nodes", "persistentvolumes", "workloads"})
"""What the status tells more by where it may be read, and says so where not."""

_LISTED: Final = frozenset({"list", "watch"})


@dataclass(frozen=True, slots=True, order=True)
class MissingRight:
    """What the API server does not let the operator do."""

    verb: str
    resource: str
    """Plural, with the subresource: `vllmmodels/status`."""
    group: str
    namespace: str
    """Empty for all of them."""

    def __str__(self) -> str:
        """As `kubectl auth can-i` takes it."""
        resource, _, subresource = self.resource.partition("/")
        kind = f"{resource}.{self.group}" if self.group else resource
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {kind}{'/' if subresource else ''}{subresource}{where}"

    @property
    def review(self) -> dict[str, Any]:
        """The question whether it is there by now."""
        resource, _, subresource = self.resource.partition("/")
        asked = {"verb": self.verb, "group": self.group, "resource": resource, "subresource": subresource}
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {**asked, "namespace": self.namespace}},
        }


def missing_right(message: str, scope: Scope) -> MissingRight | None:
    """The right whose lack a refusal speaks of; None where it speaks of something else, or of what is not needed.

    An operator of some namespaces waits for those that do not let it list them by itself, and goes without what belongs
    to the whole cluster.
    """
    found = _REFUSAL.search(message)
    if found is None:
        return None
    right = MissingRight(found["verb"], found["resource"], found["group"], found["namespace"] or "")
    if right.resource in _LOOKED_AT_ALONE:
        return None
    waited_for = not scope.is_clusterwide and (not right.namespace or right.verb in _LISTED)
    return None if waited_for else right


class MissingRights:
    """What was refused since the API server last said otherwise."""

    def __init__(self, scope: Scope = EVERYTHING, clock: Callable[[], float] = time.monotonic) -> None:
        self._scope = scope
        self._clock = clock
        self._missing: dict[MissingRight, str] = {}
        self._told_at: float | None = None
        self.found = asyncio.Event()
        """Set while one is missing."""

    @property
    def missing(self) -> tuple[MissingRight, ...]:
        """What is missing now."""
        return tuple(sorted(self._missing))

    @property
    def trouble(self) -> str:
        """What is missing, as a clause; empty where nothing is."""
        return _clause(self.missing)

    def trouble_in(self, followed: frozenset[str]) -> str:
        """The same, of what belongs to no namespace, or to one of these.

        In one that was deleted, or that is to come, no Role gives a right: the others are followed all the same.
        """
        if self._scope.is_clusterwide or not followed:
            return self.trouble
        return _clause(right for right in self.missing if not right.namespace or right.namespace in followed)

    def refused(self, message: str) -> None:
        """Take in a refusal."""
        right = missing_right(message, self._scope)
        if right is None:
            return
        self._missing[right] = message
        self.found.set()
        now = self._clock()
        if self._told_at is None or now >= self._told_at + TELL_AGAIN_SECONDS:
            self._told_at = now
            logger.warning("%s", with_remedy(f"the operator {self.trouble}", Outage.NO_RIGHT))

    def granted(self, right: MissingRight) -> None:
        """Take in that a right is there."""
        if self._missing.pop(right, None) is None or self._missing:
            return
        self._told_at = None
        self.found.clear()
        logger.info("the operator has the rights again that it was refused")


def _clause(missing: Iterable[MissingRight]) -> str:
    told = ", ".join(map(str, missing))
    return f"may not {told}" if told else ""
