"""What is read where no node takes a pod: how much, for however many pods, and what comes of it. Time is virtual."""

from __future__ import annotations

import heapq
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.resources import NOW, as_live, pod
from tests.unit.diagnosis.test_placement import GPU, holder, node, wanted
from vllm_operator.cluster.cache import Key
from vllm_operator.cluster.kinds import NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD
from vllm_operator.cluster.node_sight import MOST_NODES_A_MINUTE, NODES_HIDDEN, PODS_HIDDEN
from vllm_operator.controller.placements import PlacementLookup
from vllm_operator.controller.pod_lookups import PodLookups
from vllm_operator.diagnosis.engines import report
from vllm_operator.diagnosis.lookups import next_lookup, planned
from vllm_operator.diagnosis.placement import MOST_NODES, ROOM, Placement
from vllm_operator.errors import ApiNotFound, ApiRefused, ApiUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.engine_status import EngineStatusReader
    from vllm_operator.cluster.kinds import Kind

NO_GPU = f"0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 Insufficient {GPU}."
NO_CLAIM = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."


class Server:
    """An API server that has nodes, pods on them and claims, and counts what it is asked."""

    def __init__(self) -> None:
        self.now = NOW
        self.asked: Counter[str] = Counter()
        self.nodes = [node()]
        self.pods: dict[str, list[dict[str, Any]]] = {"gpu-1": [holder("llama-1", 8, model="llama")]}
        self.words = NO_GPU
        self.claims: dict[str, dict[str, Any]] = {}
        self.volumes: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.errors: dict[str, Exception] = {}
        self.lost: dict[str, Any] | Exception | None = None
        """What is known of the node that the pod has; None where it has none."""

    def clock(self) -> datetime:
        """The time."""
        return self.now

    def ask(self, what: str) -> None:
        """Count, and refuse what is to be refused."""
        self.asked[what] += 1
        if what in self.errors:
            raise self.errors[what]

    async def get(self, kind: Kind, namespace: str, name: str) -> LiveObject:
        """A pod, or a claim."""
        self.ask(kind.plural)
        if kind is POD:
            if self.lost is not None:
                return as_live({**unplaced(name), "spec": wanted(nodeName="gpu-1")})
            volumes = [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}]
            return as_live({**unplaced(name, self.words), "spec": wanted(volumes=volumes)})
        assert kind is PERSISTENT_VOLUME_CLAIM
        if name not in self.claims:
            raise ApiNotFound("GET", "not found")
        return as_live({"kind": kind.kind, "metadata": {"name": name, "namespace": namespace}, **self.claims[name]})

    async def first(self, kind: Kind, most: int) -> AsyncIterator[dict[str, Any]]:
        """The nodes."""
        self.ask(kind.plural)
        for one in self.nodes[:most]:
            yield one

    async def pods_on(self, name: str) -> list[dict[str, Any]]:
        """The pods of a node."""
        self.ask("pods of a node")
        return self.pods.get(name, [])

    async def read(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any]:
        """A volume, or a node."""
        assert namespace is None
        if kind is NODE:
            if isinstance(self.lost, Exception):
                raise self.lost
            return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", **(self.lost or {})}]}}
        assert kind is PERSISTENT_VOLUME
        self.ask(kind.plural)
        return self.volumes[name]

    async def events_about(self, found: LiveObject) -> list[dict[str, Any]]:
        """The Events about a claim, or a pod."""
        self.ask("events")
        assert found.namespace == "team"
        return self.events


def unplaced(name: str = "qwen-1", words: str = NO_GPU) -> dict[str, Any]:
    """A pod that the scheduler has found no node for, at eleven."""
    told = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": words,
        "lastTransitionTime": "2026-11-22T11:00:00Z",
    }
    found = pod(name, containerStatuses=[])
    return {**found, "status": {"phase": "Pending", "conditions": [told]}}


@pytest.fixture
def server() -> Server:
    """One of them."""
    return Server()


def lookup(server: Server) -> PlacementLookup:
    """A lookup at that server."""
    return PlacementLookup(cast("Client", server), server.clock)


async def sentence(server: Server) -> str:
    """What is told of a pod after one look."""
    found = unplaced(words=server.words)
    return report(found, await lookup(server).look(as_live(found))).sentence


async def test_who_holds_the_gpus_is_told_behind_the_schedulers_words(server: Server) -> None:
    told = await sentence(server)
    assert told.startswith(
        f"cannot be scheduled: {NO_GPU.rstrip('.')}: one pod asks for 4 {GPU}, node gpu-1 that it may use"
    )
    assert "has 8, 0 are free, held by model team/llama (8): end or scale down what holds them" in told


async def test_an_operator_that_may_not_see_nodes_says_so_and_asks_only_every_ten_minutes(server: Server) -> None:
    server.errors["nodes"] = ApiRefused("GET", "nodes is forbidden")
    told = await sentence(server)
    assert told.startswith(
        f"cannot be scheduled: {NO_GPU.rstrip('.')}: no node that the pod may use has enough {GPU} free: "
    )
    assert told.endswith(f" ({NODES_HIDDEN})")
    looking = lookup(server)
    for _ in range(20):
        await looking.look(as_live(unplaced()))
        server.now += timedelta(minutes=1)
    assert server.asked["nodes"] == 1 + 2


async def test_an_operator_that_may_not_see_pods_of_others_says_so(server: Server) -> None:
    server.errors["pods of a node"] = ApiRefused("GET", "pods is forbidden")
    assert (await sentence(server)).endswith(f" ({PODS_HIDDEN})")
    server.nodes = [node(gpus=2)]
    assert "the largest node has 2: lower spec.parallelism.tensor" in await sentence(server), "nodes tell it alone"


async def test_a_node_with_room_is_told_since_a_rule_about_other_pods_is_the_cause_then(server: Server) -> None:
    server.pods, server.words = {}, "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules."
    assert (await sentence(server)).endswith(f" ({ROOM})")


async def test_a_claim_is_looked_at_where_the_scheduler_speaks_of_claims_and_no_node_is(server: Server) -> None:
    server.words = NO_CLAIM
    server.claims["cache"] = {"status": {"phase": "Pending"}}
    failed = 'storageclass.storage.k8s.io "fast" not found'
    server.events = [{"reason": "ProvisioningFailed", "message": failed, "lastTimestamp": "2026-11-22T11:00:00Z"}]
    assert f"claim cache has no volume: {failed}: name a StorageClass that exists" in await sentence(server)
    assert not server.asked["nodes"]


async def test_the_zone_of_a_volume_is_told_and_left_out_where_volumes_may_not_be_read(server: Server) -> None:
    server.words = "0/2 nodes are available: 2 node(s) had volume node affinity conflict."
    server.claims["cache"] = {"spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"}}
    zone = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["eu-1a"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [zone]}]}
    server.volumes["pv-1"] = {"spec": {"nodeAffinity": {"required": terms}}}
    assert "the volume of claim cache can be reached from zone eu-1a alone" in await sentence(server)
    server.errors["persistentvolumes"] = ApiRefused("GET", "persistentvolumes is forbidden")
    assert "a volume of the pod can be reached from other nodes or another zone alone" in await sentence(server)


async def test_an_autoscaler_that_makes_no_node_is_quoted(server: Server) -> None:
    said = "pod didn't trigger scale-up: 2 max node group size reached"
    event = {"reason": "NotTriggerScaleUp", "message": said, "lastTimestamp": "2026-11-22T11:00:10Z"}
    server.events = [event]
    assert (await sentence(server)).endswith(f"; an autoscaler says: {said}")
    server.events = [{**event, "lastTimestamp": "2026-11-22T10:00:00Z"}]
    assert "autoscaler" not in await sentence(server), "it spoke of another wait"
    refused = 'Failed to schedule pod, incompatible with nodepool "gpu"; incompatible with nodepool "cpu"'
    karpenter = {"reason": "FailedScheduling", "source": {"component": "karpenter"}, "message": refused}
    server.events = [{**event, **karpenter}, {**event, "reason": "FailedScheduling", "message": NO_GPU}]
    assert 'says: Failed to schedule pod, incompatible with nodepool "gpu", incompatible' in await sentence(server)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."},
            "NodeStatusUnknown: Kubelet",
        ),
        ({"status": "True"}, "the node says that it is well again"),
        (ApiNotFound("GET", "not found"), "the node does not exist any more"),
        (ApiRefused("GET", "nodes is forbidden"), "the operator may not read nodes"),
    ],
)
async def test_of_a_node_that_does_not_answer_it_is_told_what_is_known(
    server: Server, answer: dict[str, Any] | Exception, words: str
) -> None:
    server.lost = answer
    lost = pod("qwen-1", conditions=({"type": "PodScheduled", "status": "True"},), containerStatuses=[])
    lost = {**lost, "spec": {"nodeName": "gpu-1"}, "status": {**lost["status"], "reason": "NodeLost"}}
    told = report(lost, await lookup(server).look(as_live(lost)))
    assert f": its node gpu-1 does not answer ({words}" in told.sentence
    assert told.sentence.endswith("); if it stays away, another engine is started")


async def test_a_pod_that_is_gone_is_no_finding(server: Server) -> None:
    server.errors["pods"] = ApiNotFound("GET", "not found")
    assert await lookup(server).look(as_live(unplaced())) is None


async def test_an_api_server_that_does_not_answer_is_told_as_that_once(server: Server) -> None:
    made = PodLookups(cast("Client", server), cast("EngineStatusReader", server), print, server.clock)
    server.errors["nodes"] = ApiUnavailable("GET", "down")
    key, found = Key("team", "qwen"), as_live(unplaced())
    made.known(key, [found], server.now)
    await made.settled()
    known = made.known(key, [found], server.now).by_uid[found.uid].finding
    assert known == Placement(remark="what nodes and claims show cannot be read now")


async def test_what_was_known_stays_where_the_api_server_does_not_answer(server: Server) -> None:
    made = PodLookups(cast("Client", server), cast("EngineStatusReader", server), print, server.clock)
    key, found = Key("team", "qwen"), as_live(unplaced())
    made.known(key, [found], server.now)
    await made.settled()
    known = made.known(key, [found], server.now).by_uid[found.uid].finding
    assert isinstance(known, Placement)
    server.errors["nodes"] = ApiUnavailable("GET", "down")
    server.now += timedelta(minutes=6)
    made.known(key, [found], server.now)
    await made.settled()
    assert made.known(key, [found], server.now).by_uid[found.uid].finding == known


async def test_a_thousand_models_without_a_place_cost_one_list_of_nodes_a_minute_and_the_pods_of_a_few_nodes(
    server: Server,
) -> None:
    server.nodes = [node(f"gpu-{number}") for number in range(500)]
    server.pods = {f"gpu-{number}": [holder("llama", 8, model="llama")] for number in range(500)}
    made = PodLookups(cast("Client", server), cast("EngineStatusReader", server), print, server.clock)
    pods = {f"m{number}": unplaced(f"m{number}-0") for number in range(1000)}
    agenda = [(NOW, name) for name in pods]
    minutes = 12
    while agenda and agenda[0][0] < NOW + timedelta(minutes=minutes):
        server.now, name = heapq.heappop(agenda)
        found = made.known(Key("team", name), [as_live(pods[name])], server.now)
        await made.settled()
        again = next_lookup(planned([pods[name]], found.by_uid), server.now, found.turns)
        if again is not None:
            heapq.heappush(agenda, (again, name))
    assert server.asked["nodes"] <= minutes + 1
    assert server.asked["pods of a node"] <= MOST_NODES_A_MINUTE * (minutes + 1)
    assert server.asked["pods of a node"] >= MOST_NODES
    assert 1000 <= server.asked["pods"] <= 100 * minutes + 10, "each has its turn"
    assert server.asked["events"] <= server.asked["pods"]
