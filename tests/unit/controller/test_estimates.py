"""How often the ConfigMap that describes a model is read, and what comes of one that cannot be."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.configs import config
from tests.support.resources import NOW, as_live, resource
from vllm_operator.api.conditions import Reason
from vllm_operator.cluster.cache import Key
from vllm_operator.controller.estimates import EstimateLookup
from vllm_operator.errors import ApiNotFound, ApiRefused, ApiSilent
from vllm_operator.planner.fit import READ_AGAIN_AFTER

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.planner.fit import Estimated

QWEN = Key("team", "qwen")
SOON, LATER = NOW + READ_AGAIN_AFTER / 2, NOW + READ_AGAIN_AFTER


class Server:
    """An API server with one ConfigMap."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.error: Exception | None = None
        self.version = 1
        self.config = json.dumps(config("llama-3.1-8b-instruct"))
        self.lookup = EstimateLookup(cast("Client", self))

    async def get(self, kind: Kind, namespace: str, name: str) -> LiveObject:
        """The ConfigMap."""
        assert (kind.kind, namespace) == ("ConfigMap", "team")
        self.reads.append(name)
        if self.error:
            raise self.error
        metadata = {"name": name, "uid": "u", "resourceVersion": str(self.version)}
        return as_live({"kind": "ConfigMap", "metadata": metadata, "data": {"config.json": self.config}})

    async def reason(self, model: dict[str, Any] | None, now: Any = NOW) -> str | None:
        """Why the condition would be as it is."""
        found = await self.found(model, now)
        return found.reason if found else None

    async def found(self, model: dict[str, Any] | None, now: Any = NOW) -> Estimated | None:
        """What is estimated."""
        return await self.lookup.estimated(QWEN, as_live(model, "VLLMModel") if model else None, now)


def described(generation: int = 1, memory: str = "24Gi", **spec: Any) -> dict[str, Any]:
    """A model that names the ConfigMap."""
    described_by = {"configMapRef": {"name": "llama"}}
    return resource(generation=generation, estimate=described_by, accelerator={"memory": memory}, **spec)


@pytest.fixture
def server() -> Server:
    return Server()


async def test_a_model_that_names_no_config_map_costs_no_request(server: Server) -> None:
    assert await server.reason(resource()) is None
    assert await server.reason(None) is None
    assert await server.reason(resource(replicas=-1)) is None
    assert server.reads == []


async def test_it_is_read_once_for_each_generation_of_the_spec_and_now_and_then(server: Server) -> None:
    assert await server.reason(described()) == Reason.GPU_MEMORY_TOO_SMALL
    assert await server.reason(described(), SOON) == Reason.GPU_MEMORY_TOO_SMALL
    assert len(server.reads) == 1
    assert await server.reason(described(2, "80Gi"), SOON) == Reason.ESTIMATED_TO_FIT
    assert len(server.reads) == 2
    await server.reason(described(2, "80Gi"), SOON + READ_AGAIN_AFTER)
    assert len(server.reads) == 3


async def test_an_edited_config_map_is_estimated_anew(server: Server) -> None:
    before = await server.found(described())
    assert await server.found(described(), LATER) is before, "unchanged, and so not estimated again"
    server.config, server.version = json.dumps(config("qwen2.5-0.5b-instruct")), 2
    assert await server.reason(described(), LATER + READ_AGAIN_AFTER) == Reason.ESTIMATED_TO_FIT


async def test_one_that_is_missing_or_forbidden_is_told_with_the_way_out(server: Server) -> None:
    server.error = ApiNotFound("GET", "not found")
    found = await server.found(described())
    assert found is not None
    assert (found.reason, found.is_missing) == (Reason.SIZES_UNKNOWN, True)
    assert "`kubectl vllm estimate -f MODEL.yaml -o configmap | kubectl apply -f -` makes it" in found.message
    server.error = ApiRefused("GET", "configmaps is forbidden")
    found = await server.found(described(), LATER)
    assert found is not None
    assert found.message == "ConfigMap llama, which spec.estimate names, cannot be read: configmaps is forbidden"
    server.error = None
    assert await server.reason(described(), LATER + timedelta(minutes=1)) == Reason.GPU_MEMORY_TOO_SMALL


async def test_where_the_api_server_does_not_answer_what_was_known_stays(server: Server) -> None:
    server.error = ApiSilent("GET", "no answer")
    assert await server.reason(described()) is None
    server.error = None
    assert await server.reason(described()) == Reason.GPU_MEMORY_TOO_SMALL
    server.error = ApiSilent("GET", "no answer")
    assert await server.reason(described(), LATER) == Reason.GPU_MEMORY_TOO_SMALL


async def test_a_new_model_of_the_same_name_begins_anew(server: Server) -> None:
    await server.reason(described())
    other = described(memory="80Gi")
    other["metadata"]["uid"] = "another"
    assert await server.reason(other) == Reason.ESTIMATED_TO_FIT
