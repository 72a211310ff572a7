"""What becomes of an edited spec: nothing that is broken, and no lack of GPUs, stands in its way for ever.

Each test has GPUs of its own, a resource that the node is given for it, so that there are as many as the test says.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
from typing import IO, TYPE_CHECKING, Any

import pytest

from tests.support import models, plugin
from tests.support.load import asking, ended

if TYPE_CHECKING:
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

MORE_THAN_HALF = 16
"""GPUs of the node that one engine takes: there is no room for a second one."""
WINDOW = {"surgeTimeoutSeconds": 3}
"""How long an additional engine looks for a node here."""
FOR_EVER = {"name": "STUB_LOAD_SECONDS", "value": "3000"}
"""An engine that loads for longer than any test waits."""
BROKEN = ["--no-such-argument"]
VERSION_AND_SURGE = r'{.metadata.resourceVersion} {.spec.strategy.rollingUpdate.maxSurge}{"\n"}'
"""Of the Deployment: the model's status shows one moment a second, and an engine on its way out is gone sooner."""


def gpus(site: Site, count: int) -> dict[str, Any]:
    """So many GPUs that nobody else uses, as what `spec.accelerator` says of them."""
    resource = f"test.example.com/{site.name}"
    (node,) = site.list("nodes")
    path = f"/status/capacity/{resource.replace('/', '~1')}"
    patch = json.dumps([{"op": "add", "path": path, "value": str(count)}])
    name = node["metadata"]["name"]
    site.kubectl("patch", "node", name, "--subresource=status", "--type=json", "--patch", patch)
    site.until("the GPUs", lambda: site.get("node", name)["status"]["allocatable"].get(resource) == str(count))
    return {"resource": resource}


def serve(site: Site, name: str, choice: EngineChoice, **spec: Any) -> None:
    """Have a model of length 1024 serve."""
    engine = {"maxModelLen": 1024, **spec.pop("engine", {})}
    site.apply(models.model(name, choice, engine=engine, **{"rollout": WINDOW, **spec}))
    site.wait_ready(name)
    site.wait_endpoints(name, spec.get("replicas", 1))


def edit(site: Site, name: str, length: int, **engine: Any) -> None:
    """Change what the engines are started with."""
    site.patch(name, {"engine": {"maxModelLen": length, **engine}})


def lengths(site: Site, name: str, phase: str = "") -> list[str]:
    """What the engines that stay were started with; those in a phase, where one is named."""
    pods = [pod for pod in site.pods(name) if phase in ("", pod["status"].get("phase"))]
    found = [pod["spec"]["containers"][0]["args"] for pod in pods]
    return [words[words.index("--max-model-len") + 1] for words in found]


def uids(site: Site, name: str) -> set[str]:
    """Identities of the pods that stay."""
    return {uid(pod) for pod in site.pods(name)}


def uid(pod: dict[str, Any]) -> str:
    """Identity of a pod."""
    return str(pod["metadata"]["uid"])


def rolled(site: Site, name: str, *, fewest: int, by: str = "") -> list[str]:
    """Wait for the end of a rollout, as users do; the strategies that the Deployment had meanwhile, in their order.

    Never do fewer engines than `fewest` take traffic; one of the strategies is `by`.
    """

    def is_over() -> bool:
        serving = len(site.endpoints(name))
        assert serving >= fewest, f"{serving} engines serve:\n{site.report()}"
        return process.poll() is not None

    def watched() -> int:
        """The version up to which the watch has come: on a busy machine it lags behind."""
        return int(lines[-1].split()[0]) if lines else 0

    words = ("get", "deployment", name, "--watch", "--output", rf"jsonpath={VERSION_AND_SURGE}")
    watch = [str(site.cluster.binaries / "kubectl"), "--namespace", site.name, *words]
    lines: list[str] = []
    with subprocess.Popen(watch, env=site.cluster.env, stdout=subprocess.PIPE, text=True) as told:
        reader = threading.Thread(target=read_lines, args=(told.stdout, lines))
        reader.start()
        try:
            with plugin.running(site, "rollout", "status", name, "--timeout", "3m") as process:
                site.until(f"the rollout of {name}", is_over, seconds=200, closely=True)
                out, errors = process.communicate()
                assert process.returncode == 0, f"{out}\n{errors}\n{site.report()}"
                assert out.endswith(f"{name} successfully rolled out\n")
            last = int(site.get("deployment", name)["metadata"]["resourceVersion"])
            site.until("the watch has seen all of it", lambda: watched() >= last)
        finally:
            told.terminate()
            reader.join()
    surges = (line.split()[1] for line in lines if " " in line.strip())
    strategies = ["InPlace" if surge == "0" else "Surge" for surge, _ in itertools.groupby(surges)]
    assert not by or by in strategies, f"{lines}, watched up to {last}\n{site.report()}"
    return strategies


def read_lines(pipe: IO[str] | None, lines: list[str]) -> None:
    """Take the lines of a process as they come, until it ends."""
    assert pipe is not None
    for line in pipe:
        lines.append(line)  # noqa: PERF402 - others look at each before the next one comes


def loses_nothing(site: Site, pod: str) -> None:
    """Our client had an answer to each of its requests."""
    counts = ended(site, pod)
    assert counts["ours"][0] > 20, counts
    assert counts["ours"][1] == 0, counts


def test_one_engine_on_the_only_gpu_makes_way_for_its_successor(site: Site, stub: EngineChoice) -> None:
    serve(site, "one", stub, accelerator=gpus(site, 1))
    edit(site, "one", 2048)
    rolled(site, "one", fewest=0, by="InPlace")
    assert lengths(site, "one") == ["2048"]
    assert "rollout" not in site.get("vllmmodel", "one")["status"]


def test_two_engines_on_two_gpus_are_replaced_one_after_the_other(site: Site, stub: EngineChoice) -> None:
    serve(site, "pair", stub, accelerator=gpus(site, 2), replicas=2)
    client = asking(site, "pair")
    edit(site, "pair", 2048)
    rolled(site, "pair", fewest=1, by="InPlace")
    assert lengths(site, "pair") == ["2048", "2048"]
    loses_nothing(site, client)


def test_with_a_spare_gpu_a_new_engine_serves_before_an_old_one_goes(site: Site, stub: EngineChoice) -> None:
    serve(site, "spare", stub, accelerator=gpus(site, 3), replicas=2)
    client = asking(site, "spare")
    edit(site, "spare", 2048)
    assert rolled(site, "spare", fewest=2) == ["Surge"]
    assert lengths(site, "spare") == ["2048", "2048"]
    loses_nothing(site, client)


def test_engines_of_a_first_revision_that_crashes_hold_no_gpu_that_the_corrected_one_needs(
    site: Site, stub: EngineChoice
) -> None:
    crashing = models.model("eight", stub, replicas=4, accelerator=gpus(site, 8), rollout=WINDOW)
    crashing["spec"]["engine"] |= {"extraArgs": BROKEN, "maxModelLen": 1024}
    site.apply(crashing)
    site.wait_reason("EnginesFailing", "eight")
    site.patch("eight", {"replicas": 8, "engine": {"extraArgs": None}})
    rolled(site, "eight", fewest=0)
    site.wait_endpoints("eight", 8)


def test_a_revision_that_fails_stops_while_the_old_engines_serve_and_undo_is_the_way_out(
    site: Site, stub: EngineChoice
) -> None:
    serve(site, "undone", stub, accelerator=gpus(site, 3), replicas=2)
    client, before = asking(site, "undone"), uids(site, "undone")
    edit(site, "undone", 2048, extraArgs=BROKEN)
    failed = plugin.run(site, "rollout", "status", "undone", "--timeout", "4m")
    assert failed.returncode == 1
    assert "error: the rollout of undone is stalled: RevisionFails: " in failed.stderr, failed.stderr
    assert "does not take its command line (--no-such-argument): correct spec.engine.extraArgs" in failed.stderr
    assert "kubectl vllm rollout undo undone" in failed.stderr
    assert before < uids(site, "undone")
    assert plugin.said(site, "rollout", "undo", "undone").endswith("rolled back to revision 1\n")
    rolled(site, "undone", fewest=2)
    assert uids(site, "undone") == before
    history = json.loads(plugin.said(site, "rollout", "history", "undone", "-o", "json"))
    assert [(one["revision"], one["current"], one["spec"]["engine"]["maxModelLen"]) for one in history] == [
        (2, False, 2048),
        (3, True, 1024),
    ]
    loses_nothing(site, client)


def test_a_change_during_a_rollout_does_not_wait_for_the_one_before_it(site: Site, stub: EngineChoice) -> None:
    serve(site, "twice", stub, accelerator=gpus(site, 3), replicas=2)
    edit(site, "twice", 2048, env=[FOR_EVER])
    site.until("an engine of the first change that loads", lambda: "2048" in lengths(site, "twice", phase="Running"))
    edit(site, "twice", 4096, env=None)
    rolled(site, "twice", fewest=2)
    assert lengths(site, "twice") == ["4096", "4096"]


def test_quick_edits_of_the_number_never_take_the_only_engine_that_serves(site: Site, stub: EngineChoice) -> None:
    serve(site, "quick", stub, accelerator=gpus(site, 8))
    client, (before,) = asking(site, "quick"), uids(site, "quick")
    loading = [{"name": "STUB_LOAD_SECONDS", "value": "8"}]
    site.patch("quick", {"replicas": 2, "engine": {"maxModelLen": 2048, "env": loading}})
    site.until("an engine that loads", lambda: "2048" in lengths(site, "quick"))
    site.patch("quick", {"replicas": 1, "engine": {"maxModelLen": 4096}})
    assert before in uids(site, "quick")
    rolled(site, "quick", fewest=1)
    assert lengths(site, "quick") == ["4096"]
    loses_nothing(site, client)


def test_a_restart_replaces_the_engines_whoever_asks_for_it_and_makes_no_revision(
    site: Site, stub: EngineChoice
) -> None:
    serve(site, "fresh", stub, accelerator=gpus(site, 3), replicas=2)
    first = uids(site, "fresh")
    plugin.said(site, "rollout", "restart", "fresh")
    rolled(site, "fresh", fewest=2)
    second = uids(site, "fresh")
    site.kubectl("rollout", "restart", "deployment/fresh")
    site.kubectl("rollout", "status", "deployment/fresh", "--timeout", "3m")
    rolled(site, "fresh", fewest=2)
    third = uids(site, "fresh")
    assert not first & second
    assert not second & third
    assert len(json.loads(plugin.said(site, "rollout", "history", "fresh", "-o", "json"))) == 1


def test_while_a_rollout_is_paused_the_number_follows_with_engines_as_before(site: Site, stub: EngineChoice) -> None:
    serve(site, "held", stub, accelerator=gpus(site, 4))
    plugin.said(site, "rollout", "pause", "held")
    edit(site, "held", 2048)
    site.kubectl("scale", "vllmmodel/held", "--replicas", "2")
    site.wait_endpoints("held", 2)
    assert lengths(site, "held") == ["1024", "1024"]
    late = plugin.run(site, "rollout", "status", "held", "--timeout", "1s")
    assert late.returncode == 1
    assert "it is paused, and goes on after `kubectl vllm rollout resume held`" in late.stderr
    plugin.said(site, "rollout", "resume", "held")
    rolled(site, "held", fewest=2)
    assert lengths(site, "held") == ["2048", "2048"]


def test_two_engines_never_hold_one_claim_that_is_for_a_single_node(
    site: Site, stub: EngineChoice, tmp_path_factory: pytest.TempPathFactory
) -> None:
    modes = {"accessModes": ["ReadWriteOnce"], "storageClassName": site.name}
    folder = tmp_path_factory.mktemp("claimed")
    folder.chmod(0o777)
    volume = {**modes, "capacity": {"storage": "1Gi"}, "hostPath": {"path": str(folder)}}
    site.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": site.name}, "spec": volume})
    cache = {"persistentVolumeClaim": {"size": "1Gi", **modes}}
    serve(site, "claimed", stub, accelerator=gpus(site, 4), storage={"cache": cache})
    edit(site, "claimed", 2048)

    def is_replaced() -> bool:
        found = lengths(site, "claimed")
        assert len(found) <= 1, found
        return found == ["2048"]

    site.until("another engine", is_replaced, closely=True)
    rolled(site, "claimed", fewest=0)
    site.kubectl("delete", "vllmmodel", "claimed")
    site.kubectl("delete", "persistentvolume", site.name, "--wait=false")


def strategy(site: Site, name: str) -> dict[str, Any]:
    """How the Deployment replaces engines."""
    found: dict[str, Any] = site.get("deployment", name)["spec"]["strategy"]["rollingUpdate"]
    return found


def test_a_corrected_spec_starts_although_the_crashing_one_held_the_gpus(site: Site, stub: EngineChoice) -> None:
    parallelism = {"tensor": MORE_THAN_HALF}
    site.apply(models.model("typo", stub, parallelism=parallelism, engine={"extraArgs": ["--no-such-argument"]}))
    site.wait_reason("EnginesFailing", "typo")
    site.patch("typo", {"engine": {"extraArgs": ["--neither-this-one"]}})
    site.until("the second mistake crashes too", lambda: "--neither-this-one" in message(site))
    site.patch("typo", {"engine": {"extraArgs": None}})
    site.wait_ready("typo")
    site.wait_endpoints("typo", 1)
    site.until("the strategy is as before", lambda: strategy(site, "typo") == {"maxSurge": 1, "maxUnavailable": 0})
    (serving,) = site.pods("typo")
    version = site.get("deployment", "typo")["metadata"]["generation"]
    site.kubectl("annotate", "vllmmodel", "typo", "look=again")
    assert site.ask("typo", "who") == "typo heard: who"
    assert site.get("deployment", "typo")["metadata"]["generation"] == version
    assert uids(site, "typo") == {uid(serving)}


def message(site: Site) -> str:
    """Why the model is not ready."""
    return str(site.condition("Ready", "typo").get("message", ""))


def test_an_edit_of_an_engine_in_the_network_of_its_node_ends(site: Site, stub: EngineChoice) -> None:
    edit_on_a_node(site, stub, 18123, {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"})


def test_an_edit_of_an_engine_with_a_port_of_its_node_ends(site: Site, stub: EngineChoice) -> None:
    port = {"containerPort": 18124, "hostPort": 18124}
    edit_on_a_node(site, stub, 18124, {"containers": [{"name": "vllm", "ports": [port]}]})


def edit_on_a_node(site: Site, stub: EngineChoice, port: int, patch: dict[str, Any]) -> None:
    """Of two models that want one port of the only node, the second says so; the first is edited and serves again."""
    on_the_node = {"pod": {"patch": {"spec": patch}}}
    site.apply(models.model("host", stub, engine={"port": port}, **on_the_node))
    site.wait_ready("host")
    (before,) = site.pods("host")
    site.apply(models.model("second", stub, engine={"port": port}, **on_the_node))
    assert "didn't have free ports" in site.wait_reason("EnginesFailing", "second")["message"]
    site.kubectl("delete", "vllmmodel", "second")
    site.patch("host", {"engine": {"env": [{"name": "A", "value": "1"}]}})
    site.until("another engine", lambda: uid(before) not in uids(site, "host"))
    site.wait_ready("host")
    assert len(site.pods("host")) == 1
    version = site.get("deployment", "host")["metadata"]["generation"]
    assert site.ask("host", "who") == "host heard: who"
    assert site.get("deployment", "host")["metadata"]["generation"] == version
