"""What roles grant, and what somebody has asked of an API server by its audit log: two sets of the same form."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_CREATED: Final = 201
_FORBIDDEN: Final = 403


class Right(NamedTuple):
    """What may be done, or was."""

    group: str
    """API group; empty for the core."""
    resource: str
    """Plural, with the subresource: `vllmmodels/status`."""
    verb: str

    def __str__(self) -> str:
        """As a person says it."""
        return f"{self.verb} {self.resource}{'.' if self.group else ''}{self.group}"


class Request(NamedTuple):
    """One request of the audit log that is about objects."""

    right: Right
    namespace: str
    """Empty where it is about all namespaces, or none."""
    code: int


def granted(documents: Iterable[Mapping[str, Any]]) -> set[Right]:
    """What some Roles and ClusterRoles grant together."""
    rules = [rule for document in documents for rule in document.get("rules") or ()]
    return {
        Right(*right)
        for rule in rules
        for right in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


def requests(log: str, user: str) -> Iterator[Request]:
    """What a user has asked for, of what is granted by resource and verb.

    A patch that was answered with 201 has made its object, which takes the right to create it too: the API server asks
    for that one inside (apiserver, pkg/endpoints/handlers/create.go, withAuthorization), and writes no line about it.
    """
    whole, _, _ = log.rpartition("\n")  # the last line may still be on its way
    for line in whole.splitlines():
        entry = json.loads(line)
        about = entry.get("objectRef")
        if entry["user"]["username"] != user or not about:
            continue
        resource = "/".join(filter(None, (about["resource"], about.get("subresource", ""))))
        code = int(entry.get("responseStatus", {}).get("code", 0))
        verbs = [entry["verb"], *(["create"] if entry["verb"] == "patch" and code == _CREATED else [])]
        for verb in verbs:
            yield Request(Right(about.get("apiGroup", ""), resource, verb), about.get("namespace", ""), code)


def used(found: Iterable[Request]) -> set[Right]:
    """What was asked for and not forbidden."""
    return {one.right for one in found if one.code != _FORBIDDEN}


def forbidden(found: Iterable[Request]) -> set[Right]:
    """What was asked for in vain."""
    return {one.right for one in found if one.code == _FORBIDDEN}
