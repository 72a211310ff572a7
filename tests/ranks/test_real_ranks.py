"""Two ranks of data parallelism in two processes of the real vLLM, with the arguments that the operator writes.

They share this machine, and speak over its loopback; the number of the pod and the leader's address stand where a
LeaderWorkerSet's controller and kubelet would put them.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import EngineServer, eventually, free_port, real_server
from vllm_operator.api.spec import VLLMModelSpec
from vllm_operator.render import groups

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real_vllm

LOAD_SECONDS = 900.0
SPEC = VLLMModelSpec.model_validate({"model": {"source": "a"}, "parallelism": {"data": 2, "nodes": 2}})


def flags(pod: int, ports: tuple[int, int]) -> list[str]:
    """The arguments of one pod of the group, with ports that are free here."""
    places = {groups.RANK: str(pod), groups.LEADER_ADDRESS: "127.0.0.1"}
    written = [places.get(word, word) for word in groups.arguments(SPEC)]
    return [
        *("--data-parallel-size", str(SPEC.parallelism.data), *written),
        *("--master-port", str(ports[0]), "--data-parallel-rpc-port", str(ports[1])),
    ]


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineServer, EngineServer]]:
    """The leader, which is ready, and the other one, which has no server."""
    ports = (free_port(), free_port())
    folders: list[Path] = [tmp_path_factory.mktemp(name) for name in ("leader", "other")]
    with (
        real_server(*flags(0, ports), folder=folders[0], wait=False) as leader,
        real_server(*flags(1, ports), "--headless", folder=folders[1], wait=False) as other,
    ):
        leader.wait_ready(LOAD_SECONDS)
        yield leader, other


@pytest.mark.parametrize("rank", ["0", "1"])
def test_the_leader_leads_to_each_rank(group: tuple[EngineServer, EngineServer], rank: str) -> None:
    leader, _ = group
    before = leader.metric("generation_tokens_total", engine=rank)
    answer = leader.request(
        "POST", "/v1/completions", {"prompt": "a", "max_tokens": 3}, headers={"X-data-parallel-rank": rank}
    )
    assert answer.status == 200
    assert eventually(lambda: leader.metric("generation_tokens_total", engine=rank) == before + 3)


def test_a_rank_that_is_killed_is_not_seen_at_health(group: tuple[EngineServer, EngineServer]) -> None:
    """So it is for the managers of the group to see it."""
    leader, other = group
    os.killpg(other.process.pid, signal.SIGKILL)
    assert not eventually(lambda: leader.request("GET", "/health").status != 200, seconds=20)
