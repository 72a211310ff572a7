"""What an API server holds of a namespace, in a form that is the same for two namespaces where the same was done.

Every kind that the API server serves is read, so that children of a kind that comes later take part by themselves.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from tests.support.api import done

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.support.api import Api

_MESSAGES = frozenset({"events"})
"""Kinds that tell what happened, and are no state."""

_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_UID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_ADDRESS = re.compile(r"\b198\.18\.\d+\.\d+\b")
"""Of Services in a test cluster."""
_HASH = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{10,64}\b")
"""Of what is in it: namespace and owner are, so that it tells nothing that is not compared itself."""

Snapshot = dict[str, Any]
"""Kind and name of each object, and what is in it."""


def kinds(api: Api) -> list[tuple[str, str, str]]:
    """Path, kind and plural of everything that namespaces hold."""
    groups = done(api.call("GET", "/apis"))["groups"]
    roots = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
    return [
        (root, found["kind"], found["name"])
        for root in roots
        for found in done(api.call("GET", root))["resources"]
        if found["namespaced"] and {"list", "get"} <= set(found["verbs"]) and "/" not in found["name"]
        if found["name"] not in _MESSAGES
    ]


def objects(api: Api, namespace: str, listed: Iterable[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Everything in a namespace, as it is."""
    return [
        {"kind": kind, **found}
        for root, kind, plural in listed
        for found in done(api.call("GET", f"{root}/namespaces/{namespace}/{plural}"))["items"] or ()
    ]


def snapshot(found: Iterable[Mapping[str, Any]], namespace: str) -> Snapshot:
    """Objects by kind and name, without what differs between two namespaces; revisions also by their numbers."""
    return {
        " ".join((one["kind"], neutral(one["metadata"]["name"], namespace), str(one.get("revision", "")))): _comparable(
            one, namespace
        )
        for one in found
    }


def _comparable(one: Mapping[str, Any], namespace: str) -> Any:
    metadata = {name: value for name, value in one["metadata"].items() if name not in {"uid", "resourceVersion"}}
    fields = metadata.pop("managedFields", [])
    owned = [{name: value for name, value in entry.items() if name != "time"} for entry in fields]
    owned.sort(key=lambda entry: json.dumps(entry, sort_keys=True))  # the API server sorts them by time
    whole = {**readable(one), "metadata": {**metadata, "managedFields": owned}}
    return json.loads(neutral(json.dumps(whole, sort_keys=True), namespace))


def readable(one: Mapping[str, Any]) -> dict[str, Any]:
    """With the data of a Secret as text: it may hold what is to be made neutral."""
    if one.get("kind") != "Secret":
        return dict(one)
    return {**one, "data": {name: base64.b64decode(text).decode() for name, text in one.get("data", {}).items()}}


def neutral(text: str, namespace: str) -> str:
    """Without times, identities, addresses, hashes and the namespace's own name."""
    for pattern, word in ((_TIME, "TIME"), (_UID, "UID"), (_ADDRESS, "ADDRESS"), (_HASH, "HASH")):
        text = pattern.sub(word, text)
    return text.replace(namespace, "NAMESPACE")


def differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    """Where two snapshots differ, for the reader of a failed test."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [
            line
            for key in sorted({*found, *wanted})
            for line in differences(found.get(key, "MISSING"), wanted.get(key, "MISSING"), f"{path}/{key}")
        ]
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        return [
            line
            for number, (one, other) in enumerate(zip(found, wanted, strict=True))
            for line in differences(one, other, f"{path}/{number}")
        ]
    return [] if found == wanted else [f"{path}: {found!r} instead of {wanted!r}"]
