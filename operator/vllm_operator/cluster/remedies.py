"""What helps against what keeps the operator from its API server, by the words of what went wrong. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Outage(StrEnum):
    """What keeps the operator from its work, with what to do, as a clause for the log."""

    UNREACHABLE = (
        "no API server answers: see whether it is up, and whether DNS, network and NetworkPolicies let the operator's "
        "pod reach it"
    )
    NO_DEFINITION = (
        "install the CustomResourceDefinition of this version: kubectl apply --server-side -k crds, or the chart with "
        "crds.enabled"
    )
    NO_RIGHT = (
        "give the operator the rights of its role of this version: kubectl apply --server-side -k manifests/base, or "
        "the chart with rbac.create"
    )
    UNKNOWN_USER = (
        "the API server does not know the operator's token: see whether its ServiceAccount exists, and start its pods "
        "again where it was made anew"
    )
    STORE_FULL = (
        "the API server's store is full: have etcd compact and defragment, then disarm its alarm NOSPACE, or raise its "
        "quota"
    )


_SIGNS: Final = (
    (Outage.STORE_FULL, re.compile(r"database space exceeded|no space left on device", re.IGNORECASE)),
    (Outage.NO_RIGHT, re.compile(r'cannot \w+ resource "[^"]+" in API group')),
    (Outage.UNKNOWN_USER, re.compile(r"\(HTTP 401\)")),
    (
        Outage.UNREACHABLE,
        re.compile(r"Cannot connect to host|Connection (?:refused|reset|lost|closed)|no answer within"),
    ),
    (Outage.UNREACHABLE, re.compile(r"Server disconnected|^(?:Client\w*|Server\w*|Connection\w*|Timeout)Error\(")),
)
"""The first that is found counts. etcd's words are `mvcc: database space exceeded` (server/etcdserver/errors)."""

_NOT_THERE: Final = re.compile(
    r"^404 page not found|could not find the requested resource|is not among the (?:API groups|resources) yet"
)


def outage_of(message: str, *, of_definition: bool = False) -> Outage | None:
    """What kind of outage an error speaks of; None where its words say no more than themselves.

    Args:
        message: What an API server has answered, or what came instead.
        of_definition: Whether it is about the resource itself, which is unknown without its definition.
    """
    found = next((outage for outage, sign in _SIGNS if sign.search(message)), None)
    if found is None and of_definition and _NOT_THERE.search(message):
        return Outage.NO_DEFINITION
    return found


def with_remedy(message: str, outage: Outage | None) -> str:
    """A message with what to do about it, where that is known."""
    return f"{message}: {outage}" if outage else message
