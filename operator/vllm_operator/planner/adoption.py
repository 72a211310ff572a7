"""Which pod template the operator itself has applied to a live Deployment, told from what others added to it. Pure.

`metadata.managedFields` says whose each field is (the format: "Field Management" in the documentation of server-side
apply, and sigs.k8s.io/structured-merge-diff/fieldpath). As ExtractDeployment of client-go does, only the fields of one
manager are taken: neither defaults of the API server nor what a webhook or a user has added become the operator's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.meta import FIELD_MANAGER
from vllm_operator.planner.compare import without_defaults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ITSELF: Final = "."
"""Stands for the map or item that the fields beside it are in."""


def applied_template(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """The pod template that the operator applied; the whole live one where the Deployment does not tell whose it is."""
    live: dict[str, Any] = deployment["spec"]["template"]
    for entry in deployment["metadata"].get("managedFields") or ():
        if (entry.get("manager"), entry.get("operation")) != (FIELD_MANAGER, "Apply") or entry.get("subresource"):
            continue
        owned = entry.get("fieldsV1", {}).get("f:spec", {}).get("f:template")
        if owned:
            found = _owned(live, owned)
            return found if found.get("spec") else live
    return live


def _owned(live: Any, fields: Mapping[str, Any]) -> Any:
    """What of a live part these fields name. A part that has none inside is owned as a whole."""
    inside = {path: deeper for path, deeper in fields.items() if path != _ITSELF}
    if not inside:
        return without_defaults(live)
    if isinstance(live, dict):
        named = ((path.removeprefix("f:"), deeper) for path, deeper in inside.items())
        return {name: _owned(live[name], deeper) for name, deeper in named if name in live}
    if isinstance(live, list):
        return list(_owned_items(live, inside))
    return live


def _owned_items(live: Sequence[Any], fields: Mapping[str, Any]) -> Iterator[Any]:
    """Items of a list that are owned, in the order in which they are there."""
    keyed = [(json.loads(path.removeprefix("k:")), deeper) for path, deeper in fields.items() if path.startswith("k:")]
    values = [json.loads(path.removeprefix("v:")) for path in fields if path.startswith("v:")]
    for item in live:
        if item in values:
            yield item
            continue
        for key, deeper in keyed:
            if isinstance(item, dict) and key.items() <= item.items():
                yield _owned(item, deeper)
