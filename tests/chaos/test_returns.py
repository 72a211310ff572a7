"""What is edited and edited back stands as if nobody had touched it: whole objects, for edits of every field.

CHAOS_EDITS says how many edits are made at once; 0 for all that the fields of the spec and chance have in store.
"""

from __future__ import annotations

import os
import random
from http.client import CONFLICT, NOT_FOUND
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.chaos import snapshot
from tests.chaos.operators import until
from tests.support.api import done
from tests.support.specs import chosen, edits, leaf_paths
from vllm_operator.api.conditions import Reason, by_type
from vllm_operator.cluster.kinds import CONTROLLER_REVISION, DEPLOYMENT, MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.chaos.operators import Operators
    from tests.chaos.snapshot import Snapshot
    from tests.support.api import Api

pytestmark = pytest.mark.api_server

HOW_MANY: Final = int(os.environ.get("CHAOS_EDITS", "20"))
WHOLE_SPECS: Final = 60
"""How many of the edits replace one generated spec by another."""

SEED: Final = 20261126

Spec = dict[str, Any]

_ON_THEIR_WAY: Final = frozenset(
    {"generation", "observedGeneration", "nodePort", "healthCheckNodePort", "maxSurge", "maxUnavailable"}
)
"""What only ever rises, what the API server gives out anew each time, and what follows a rollout: none ends where
nothing replaces pods."""
_WAITS_FOR_ROLLOUTS: Final = "PersistentVolumeClaim"
"""A claim that the spec asks for no more goes when no engine is left that mounts it."""


def all_edits() -> list[tuple[Spec, Spec]]:
    """From one spec to another: in one field, for each field; and in all of them.

    API keys stay as they are: the binding keeps one as long as there are engines that take it, and here none ever goes.
    """
    chance = random.Random(SEED)  # noqa: S311 # chooses edits
    of_fields = [found[0] for path in leaf_paths() if (found := edits(path))]
    found = [*of_fields, *((chosen(chance), chosen(chance)) for _ in range(WHOLE_SPECS))]
    found = [(before, after) for before, after in found if before.get("auth") == after.get("auth")]
    return chance.sample(found, HOW_MANY) if 0 < HOW_MANY < len(found) else found


def write(api: Api, namespace: str, specs: Mapping[str, Spec]) -> set[str]:
    """Replace specs whole, as `kubectl edit` does; returns the names of those that the API server takes.

    It is no server-side apply, which keeps what a map held before where the map is applied empty.
    """
    return {name for name, spec in specs.items() if _replace(api, MODEL.path(namespace, name), namespace, spec)}


def _replace(api: Api, path: str, namespace: str, spec: Spec) -> bool:
    while True:
        found = api.call("GET", path)
        if found.code == NOT_FOUND:
            metadata = {"name": path.rpartition("/")[2], "namespace": namespace}
            body = {"apiVersion": MODEL.api_version, "kind": MODEL.kind, "metadata": metadata, "spec": spec}
            return not api.call("POST", MODEL.path(namespace), body, fieldManager="user").refusal
        answer = api.call("PUT", path, {**done(found), "spec": spec}, fieldManager="user")
        if answer.code != CONFLICT:  # the operator has written the status meanwhile
            return not answer.refusal


def followed(api: Api, namespace: str) -> Callable[[], bool]:
    """Whether the status of each model is about its newest spec."""

    def look() -> bool:
        models = done(api.call("GET", MODEL.path(namespace)))["items"]
        return all(one.get("status", {}).get("observedGeneration") == one["metadata"]["generation"] for one in models)

    return look


def standing(api: Api, kinds: list[tuple[str, str, str]], namespace: str) -> Snapshot:
    """What stands, but for the history of revisions."""
    found = snapshot.objects(api, namespace, kinds)
    lasting = [one for one in found if one["kind"] != CONTROLLER_REVISION.kind]
    return {name: _lasting(one) for name, one in snapshot.snapshot(lasting, namespace).items()}


def _lasting(part: Any, *, fields: bool = False) -> Any:
    """Without what is empty, which is as good as not there but where it says that a field is owned."""
    if isinstance(part, list):
        return [_lasting(one, fields=fields) for one in part]
    if not isinstance(part, dict):
        return part
    found = {
        name: _lasting(value, fields=fields or name == "fieldsV1")
        for name, value in part.items()
        if name.removeprefix("f:") not in _ON_THEIR_WAY
    }
    return {name: value for name, value in found.items() if fields or value != {}}


def refused(api: Api, namespace: str) -> set[str]:
    """The models whose spec or a child of which is refused: whatever they had before stays as it is."""
    models = done(api.call("GET", MODEL.path(namespace)))["items"]
    engines = {one["metadata"]["name"] for one in done(api.call("GET", DEPLOYMENT.path(namespace)))["items"]}
    told = {one["metadata"]["name"]: by_type(one["status"])["Ready"]["reason"] for one in models}
    return {name for name, reason in told.items() if name not in engines or reason == Reason.CHILD_REFUSED}


def waits(name: str) -> bool:
    """Whether what has this name in a snapshot goes only once a rollout is over."""
    return name.startswith(_WAITS_FOR_ROLLOUTS)


async def test_an_edit_that_is_taken_back_leaves_everything_as_it_was(
    api: Api, kinds: list[tuple[str, str, str]], operators: Operators, new_namespace: Callable[[], str]
) -> None:
    namespace = new_namespace()
    tried = {f"edit-{number:03}": edit for number, edit in enumerate(all_edits())}
    async with operators:

        async def become(specs: Mapping[str, Spec]) -> set[str]:
            taken = write(api, namespace, specs)
            await until(followed(api, namespace), "all statuses", seconds=600)
            await operators.settle()
            return taken

        generated = len(tried)
        made = await become({name: before for name, (before, _) in tried.items()})
        for name in refused(api, namespace):
            done(api.call("DELETE", MODEL.path(namespace, name)))
            made.remove(name)
        tried = {name: edit for name, edit in tried.items() if name in made}  # a refused spec is no place to return to
        assert len(tried) > generated / 2
        await operators.settle()
        before = standing(api, kinds, namespace)
        edited = await become({name: after for name, (_, after) in tried.items()})
        print(f"{len(edited)} of {len(tried)} edits; the API server refuses the others")
        assert len(edited) > len(tried) / 2
        assert snapshot.differences(standing(api, kinds, namespace), before)
        await become({name: before for name, (before, _) in tried.items()})
        found = standing(api, kinds, namespace)
        left = snapshot.differences({name: found[name] for name in found if name in before or not waits(name)}, before)
    assert not left, "\n".join(f"{line}  {_edit(line, tried)}" for line in left)


def _edit(line: str, tried: Mapping[str, tuple[Spec, Spec]]) -> str:
    """The edit that a difference comes from."""
    return next((f"{before} -> {after}" for name, (before, after) in tried.items() if f" {name}" in line), "")
