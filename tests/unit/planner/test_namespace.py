"""What a look at a whole namespace costs: it is asked for by each change of each of its models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.support.resources import as_live, resource
from vllm_operator.cluster.cache import Cache
from vllm_operator.cluster.kinds import MODEL
from vllm_operator.cluster.packed import Packed
from vllm_operator.planner.namespace import decide_namespace
from vllm_operator.planner.plan import NamespaceObservation

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def test_only_models_that_have_changed_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, read = Cache(), []

    def counted(self: Packed, was: Any = Packed.__call__) -> Mapping[str, Any]:
        found: Mapping[str, Any] = was(self)
        read.append(found["metadata"]["name"])
        return found

    def decide() -> None:
        decide_namespace(NamespaceObservation("team", cache.models("team"), {}, NOW))

    for number in range(20):
        cache.put(MODEL, as_live(resource(f"m{number}")))
    monkeypatch.setattr(Packed, "__call__", counted)
    decide()
    assert sorted(read) == sorted(f"m{number}" for number in range(20))
    raw = resource("m7")
    cache.put(MODEL, as_live({**raw, "metadata": {**raw["metadata"], "resourceVersion": "99"}}))
    read.clear()
    decide()
    decide()
    assert read == ["m7"]
