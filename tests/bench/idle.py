"""`python -m tests.bench.idle`: a fleet that serves is left alone, and nobody may write; ends with 1 where one does.

The API server is real and has no controllers. The harness plays what they and kubelets do: a pod for each Deployment,
which is ready, and the Deployment's numbers; and a manager for all pods, whose answers move as real ones do. Once the
operator has told all that there is to tell, nothing changes any more, but for what moves by itself.

The witness is the API server's audit log: every write of whomever, Events too, but for renewals of the Lease.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.bench import bare
from tests.bench.audit import counted
from tests.bench.bodies import works
from tests.bench.errors import BenchError
from tests.bench.process import OperatorProcess
from tests.bench.site import OPERATOR, Site, prepare, user_name
from tests.cluster import ClusterError, ClusterSpec, NodeKind, start
from tests.cluster.paths import REPOSITORY
from tests.support.api import Api, done
from vllm_operator.api.conditions import ConditionType, by_type
from vllm_operator.cluster.kinds import MODEL, POD, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.bodies import Work

OUTPUT: Final = REPOSITORY / "out" / "idle.json"
DEPLOYMENT: Final = kind_of("Deployment")
PER_NAMESPACE: Final = 100
WRITERS: Final = 16
QUIET_SECONDS: Final = 30.0
"""Without a write, before the time begins that counts."""
LEAST_SECONDS: Final = 240.0
SECONDS_PER_MODEL: Final = 2.0
"""Until all is told: of engines that serve two a second are asked what their start has reported."""
WAKE_SECONDS: Final = 60.0
MERGE: Final = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Found:
    """What was seen while nothing changed."""

    models: int
    ready: int
    """Models with Ready=True at the end of it."""
    seconds: float
    writes_of_operator: int
    writes_of_anybody: int
    """Also Events."""
    lease_renewals: int
    requests: dict[str, int]
    """Of the operator, by verb and code, as its metrics count them; renewals of the Lease are in them."""
    looks: int
    """At models and namespaces."""
    questions: int
    """To managers of engines."""
    cpu_seconds: float
    rss_mib: float
    wakes_up: bool
    """Whether an edit after it brought writes: the operator was there all the time."""

    @property
    def good(self) -> bool:
        """Whether nobody wrote, of a fleet that was ready, beside an operator that was awake."""
        return not self.writes_of_anybody and self.ready == self.models and self.wakes_up and self.lease_renewals > 0


class Managers:
    """A manager of all engines: it answers as one does whose engine serves, with numbers that never stand still."""

    def __init__(self) -> None:
        self.asked = 0
        counter, told = itertools.count(1), self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told.asked = number = next(counter)
                content = json.dumps(_status(number)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with contextlib.suppress(OSError):  # whoever asked may have lost patience on a busy machine
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _status(number: int) -> dict[str, Any]:
    return {
        "verdict": "serving",
        "cause": "Progress",
        "sentence": f"a step {number % 7} s ago, {number % 40} requests in flight",
        "ready": True,
        "in_flight": number % 40,
        "longest_step": number / 1000,
        "capacity": {"weights_gib": 14.99, "kv_cache_tokens": 26400},
        "trouble": "",
    }


class Fleet:
    """The models, and what controllers and kubelets do for them."""

    def __init__(self, site: Site, models: int, gate_port: int) -> None:
        self._site, self._api = site, Api(site.cluster.kubeconfig)
        self._gate_port = gate_port
        self.namespaces = [f"idle-{number:02}" for number in range(-(-models // PER_NAMESPACE))]
        self.works = [
            work
            for number, namespace in enumerate(self.namespaces)
            for work in works(namespace, min(PER_NAMESPACE, models - number * PER_NAMESPACE))
        ]

    async def make(self) -> None:
        """Apply the models, and give each an engine that serves as soon as it has a Deployment."""
        for namespace in self.namespaces:
            await self._site.make_namespace(namespace)
        async with self._site.session() as session:
            await bare.apply_resources(self._site.client(session), self._models(), WRITERS)
        await self._until_made()
        with ThreadPoolExecutor(4) as pool:
            await asyncio.gather(
                *(asyncio.get_running_loop().run_in_executor(pool, self._serve, work) for work in self.works)
            )

    def told(self) -> int:
        """How many models are ready, and tell what their engine reported at its start."""
        return sum(_is_told(one) for one in self._all())

    def ready(self) -> int:
        """How many models are ready."""
        return sum(_is_ready(one) for one in self._all())

    def edit(self) -> None:
        """Change one model."""
        model = self.works[0].resource["metadata"]
        path = MODEL.path(model["namespace"], model["name"])
        done(self._api.call("PATCH", path, {"spec": {"engine": {"maxModelLen": 4096}}}, MERGE))

    def _models(self) -> Sequence[Work]:
        for work in self.works:
            spec = work.resource["spec"]
            assert isinstance(spec, dict)
            spec["gates"] = {"port": self._gate_port}
        return self.works

    async def _until_made(self) -> None:
        """Until each model has a Deployment, whether or not the API server answered its write in time."""
        deadline = time.monotonic() + LEAST_SECONDS + len(self.works)
        while (made := len(self._all(DEPLOYMENT.path()))) < len(self.works):
            if time.monotonic() > deadline:
                raise BenchError(f"{made} of {len(self.works)} models have a Deployment")
            await asyncio.sleep(2.0)

    def _all(self, path: str = MODEL.path()) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = done(self._api.call("GET", path))["items"]
        return found

    def _serve(self, work: Work) -> None:
        namespace, name = work.namespace, work.deployment.name
        live = done(self._api.call("GET", DEPLOYMENT.path(namespace, name)))
        template = live["spec"]["template"]
        body = {
            "metadata": {"name": f"{name}-0", "labels": template["metadata"]["labels"]},
            "spec": {**template["spec"], "nodeName": "played"},
        }
        done(self._api.call("POST", POD.path(namespace), {"apiVersion": "v1", "kind": "Pod", **body}))
        self._tell(f"{POD.path(namespace, f'{name}-0')}/status", _pod_status())
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
        self._tell(
            f"{DEPLOYMENT.path(namespace, name)}/status",
            {"observedGeneration": live["metadata"]["generation"], **counts},
        )

    def _tell(self, path: str, status: dict[str, Any]) -> None:
        done(self._api.call("PATCH", path, {"status": status}, MERGE))


def _pod_status() -> dict[str, Any]:
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    container = {
        "name": "vllm",
        "image": "vllm",
        "imageID": "",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": now}},
    }
    true = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("PodScheduled", "Ready")]
    return {
        "phase": "Running",
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": true,
        "containerStatuses": [container],
    }


def _is_ready(model: dict[str, Any]) -> bool:
    return bool(by_type(model.get("status", {})).get(ConditionType.READY, {}).get("status") == "True")


def _is_told(model: dict[str, Any]) -> bool:
    return _is_ready(model) and all("capacity" in one for one in model["status"].get("engines", ()))


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


async def measure(site: Site, models: int, seconds: float, log: Path) -> Found:
    """Have a fleet, wait until all is told, and look for so many seconds."""
    operator = OperatorProcess(site.operator_kubeconfig, log, workers=WRITERS)
    try:
        await operator.wait_ready()
        with Managers() as managers:
            fleet = Fleet(site, models, managers.port)
            await fleet.make()
            _say(f"{models} models in {len(fleet.namespaces)} namespaces, each with an engine that is ready")
            await _until_told(fleet)
            await site.log.until_quiet(QUIET_SECONDS, limit_seconds=LEAST_SECONDS + models)
            _say(f"all is told, and nobody has written for {QUIET_SECONDS:.0f} s; {seconds:.0f} s that count begin")
            found = await _look(site, operator, fleet, managers, seconds)
        await operator.stop()
    finally:
        operator.kill()
    return found


async def _until_told(fleet: Fleet) -> None:
    deadline = time.monotonic() + LEAST_SECONDS + SECONDS_PER_MODEL * len(fleet.works)
    while (told := fleet.told()) < len(fleet.works):
        if time.monotonic() > deadline:
            raise BenchError(f"{told} of {len(fleet.works)} models are ready, with what their engine reported")
        await asyncio.sleep(5.0)


async def _look(site: Site, operator: OperatorProcess, fleet: Fleet, managers: Managers, seconds: float) -> Found:
    own = user_name(OPERATOR)
    site.log.forget()
    before, asked = await operator.read(), managers.asked
    await asyncio.sleep(seconds)
    site.log.read()
    writes, renewals = [*site.log.writes], site.log.renewals[own]
    after, questions, ready = await operator.read(), managers.asked - asked, fleet.ready()
    for write in writes[:20]:
        _say(f"{write.user}: {write.verb} {'/'.join(write.target)}")
    return Found(
        models=len(fleet.works),
        ready=ready,
        seconds=seconds,
        writes_of_operator=len(counted(writes, own)),
        writes_of_anybody=len(writes),
        lease_renewals=renewals,
        requests={name: int(number) for name, number in (Counter(after.requests) - Counter(before.requests)).items()},
        looks=int(max(after.reconciles.values()) - max(before.reconciles.values())),
        questions=questions,
        cpu_seconds=round(after.cpu_seconds - before.cpu_seconds, 2),
        rss_mib=round(after.rss_mib, 1),
        wakes_up=await _wakes_up(site, fleet),
    )


async def _wakes_up(site: Site, fleet: Fleet) -> bool:
    """Whether an edit has the operator write."""
    site.log.forget()
    fleet.edit()
    own, what = user_name(OPERATOR), "a write after an edit"
    try:
        await site.log.until(lambda: bool(counted(site.log.writes, own)), what=what, seconds=WAKE_SECONDS)
    except BenchError:
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.idle", description="Leave a fleet alone.")
    parser.add_argument("--models", type=int, default=1000, help="how many VLLMModels serve")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long they are left alone")
    chosen = parser.parse_args(arguments)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    spec = ClusterSpec(name="idle", node=NodeKind.NONE, controller_manager=False, audit_log=True)
    with start(spec) as cluster, tempfile.TemporaryDirectory(prefix="vllm-idle-") as folder:
        site = prepare(cluster, Path(folder))
        try:
            found = asyncio.run(measure(site, chosen.models, chosen.seconds, OUTPUT.with_name("idle-operator.log")))
        finally:
            site.log.close()
    text = json.dumps(asdict(found), indent=2)
    OUTPUT.write_text(text + "\n", encoding="utf-8")
    print(f"{text}\n{'nobody wrote' if found.good else 'that is not a fleet of which nobody writes'}: {OUTPUT}")
    return 0 if found.good else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (BenchError, ClusterError) as error:
        sys.exit(f"idle: {error}")
