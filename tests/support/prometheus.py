"""Debian's Prometheus and promtool, and what Prometheus is told in the place of its operator.

The package is downloaded and unpacked into the cache folder, as those of the base image are: it is not installed, so
no service of it is ever started, and no root is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import yaml

from tests.cluster import ClusterError, addresses, debian
from tests.cluster.files import atomic_folder, locked
from tests.cluster.paths import REPOSITORY, cache_folder
from tests.support.servers import free_port
from tests.support.waiting import until
from tools.metrics_reference import ALERTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from tests.cluster import OwnCluster

PACKAGE: Final = "prometheus"
_PORT: Final = 19090
ADDRESS: Final = f"{addresses.LOOPBACK}:{_PORT}"
"""In the network namespace of the cluster's node."""
URL_FOR_PODS: Final = f"http://{addresses.NODE_1}:{_PORT}"
"""The same as a pod finds it."""
EVERY: Final = "2s"
"""How often it reads metrics and judges rules."""
END_SECONDS: Final = 20.0
DISCOVERY_SECONDS: Final = 2.0
HURRIED_HOLD: Final = 120.0
HURRIED_RANGE: Final = 30.0
HURRIED_WAITS: Final = {
    "VLLMOperatorWatchSilent": (300, 90),  # a watch that lives is heard of within 75 s
    "VLLMOperatorQueueStuck": (120, 3),
    "VLLMOperatorReconcileStuck": (300, 6),
}
"""Seconds that something has to wait in the query of an alert, and what they are in `hurried_rules`."""

_ASK: Final = """
import json, sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
found = []
for path in json.load(sys.stdin):
    try:
        found.append(json.load(opener.open(sys.argv[1] + path, timeout=20)))
    except OSError as error:
        body = error.read().decode() if hasattr(error, "read") else ""
        found.append({"status": "error", "error": f"{error} {body}"})
json.dump(found, sys.stdout)
"""


def programs() -> Path:
    """The folder of `prometheus` and `promtool`; the package is fetched where it is not there yet.

    Raises:
        ClusterError: apt has not got it.
    """
    try:
        return _programs()
    except ClusterError:
        if not debian.refresh_lists():
            raise
        return _programs()


def _programs() -> Path:
    key = hashlib.sha256("\n".join(debian.package_hashes((PACKAGE,))).encode()).hexdigest()[:16]
    target = cache_folder() / "prometheus" / key
    with locked(cache_folder() / "prometheus" / ".lock"):
        if not target.exists():
            with atomic_folder(target) as folder:
                (archive,) = debian.download((PACKAGE,), folder)
                subprocess.run(["dpkg-deb", "--extract", archive, folder], check=True)
                archive.unlink()
    return target / "usr" / "bin"


def impatient_rules() -> dict[str, Any]:
    """The alerts, without the time for which they have to hold."""
    document: dict[str, Any] = yaml.safe_load((REPOSITORY / ALERTS).read_text(encoding="utf-8"))
    for group in document["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    return document


def hurried_rules() -> dict[str, Any]:
    """The alerts as they are, in a world whose clocks run faster.

    How long they have to hold is divided by HURRIED_HOLD, the ranges of queries by HURRIED_RANGE. How long something
    has to wait is in a query as a number of seconds, and stands in HURRIED_WAITS.

    Raises:
        AssertionError: a number that is to be replaced does not stand in its query.
    """
    document: dict[str, Any] = yaml.safe_load((REPOSITORY / ALERTS).read_text(encoding="utf-8"))
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        if "for" in rule:
            rule["for"] = f"{max(1000, round(_seconds(rule['for']) * 1000 / HURRIED_HOLD))}ms"
        if rule["alert"] in HURRIED_WAITS:
            usual, hurried = HURRIED_WAITS[rule["alert"]]
            assert rule["expr"].endswith(f"> {usual}"), rule
            rule["expr"] = rule["expr"].removesuffix(str(usual)) + str(hurried)
        rule["expr"] = re.sub(
            r"\[(\w+)\]", lambda found: f"[{round(_seconds(found[1]) / HURRIED_RANGE)}s]", rule["expr"]
        )
    return document


def _seconds(text: str) -> float:
    """A duration of one number and one unit, as the alerts have them."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def scrape_configs(monitor: Mapping[str, Any], targets: Path) -> list[dict[str, Any]]:
    """What prometheus-operator makes of a PodMonitor, as far as ours need it.

    Debian builds Prometheus without the discovery of Kubernetes: its targets stand in a file, with the labels that the
    discovery would give them.
    """
    metadata, spec = monitor["metadata"], monitor["spec"]
    chosen = spec.get("namespaceSelector") or {}
    names = [] if chosen.get("any") else chosen.get("matchNames") or [metadata["namespace"]]
    places = [{**_meta("namespace"), "regex": f"({'|'.join(names)})", "action": "keep"}] if names else []
    return [
        {
            "job_name": f"podMonitor/{metadata['namespace']}/{metadata['name']}/{number}",
            "honor_labels": endpoint.get("honorLabels", False),
            "metrics_path": endpoint["path"],
            "scheme": endpoint.get("scheme", "http"),
            "tls_config": {"insecure_skip_verify": True},
            "file_sd_configs": [{"files": [str(targets)], "refresh_interval": EVERY}],
            "relabel_configs": [
                *places,
                *_selected(spec["selector"]),
                {
                    "action": "keep",
                    "source_labels": ["__meta_kubernetes_pod_container_port_name"],
                    "regex": endpoint["port"],
                },
                {"action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)"},
                {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
                {"source_labels": ["__meta_kubernetes_pod_container_name"], "target_label": "container"},
                {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
                {"target_label": "job", "replacement": f"{metadata['namespace']}/{metadata['name']}"},
                {"target_label": "endpoint", "replacement": endpoint["port"]},
                *(_in_prometheus_words(one) for one in endpoint.get("relabelings", [])),
            ],
        }
        for number, endpoint in enumerate(spec["podMetricsEndpoints"])
    ]


def discovered(pods: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each port of each pod that has an address, with the labels of Prometheus' own discovery."""
    found = []
    for pod in pods:
        metadata, address = pod["metadata"], pod["status"].get("podIP")
        named = {re.sub(r"[^a-zA-Z0-9_]", "_", key): value for key, value in (metadata.get("labels") or {}).items()}
        labels = {f"__meta_kubernetes_pod_label_{key}": value for key, value in named.items()}
        labels["__meta_kubernetes_namespace"] = metadata["namespace"]
        labels["__meta_kubernetes_pod_name"] = metadata["name"]
        labels["__meta_kubernetes_pod_phase"] = pod["status"].get("phase", "")
        ports = [(one["name"], port) for one in pod["spec"]["containers"] for port in one.get("ports") or ()]
        for container, port in ports if address else ():
            of_port = {
                "__meta_kubernetes_pod_container_name": container,
                "__meta_kubernetes_pod_container_port_name": port.get("name", ""),
            }
            found.append({"targets": [f"{address}:{port['containerPort']}"], "labels": {**labels, **of_port}})
    return found


def _meta(what: str) -> dict[str, Any]:
    return {"source_labels": [f"__meta_kubernetes_{what}"]}


def _of(what: str, regex: str) -> dict[str, Any]:
    return {"source_labels": [f"__meta_kubernetes_pod_{what}"], "regex": regex}


def _selected(selector: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    wanted = {key: [value] for key, value in (selector.get("matchLabels") or {}).items()}
    for one in selector.get("matchExpressions") or ():
        assert one["operator"] == "In", one
        wanted[one["key"]] = one["values"]
    for key, values in wanted.items():
        label = "label_" + re.sub(r"[^a-zA-Z0-9_]", "_", key)
        yield {**_of(label, f"({'|'.join(map(re.escape, values))})"), "action": "keep"}


def _in_prometheus_words(relabeling: Mapping[str, Any]) -> dict[str, Any]:
    return {re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", key): value for key, value in relabeling.items()}


class PrometheusProcess:
    """Prometheus from the beginning of a `with` block to its end; where it runs, and what it reads, a subclass says."""

    def __init__(self, address: str, rules: Mapping[str, Any], *, listens: str = "") -> None:
        self.address = address
        """Where it is asked."""
        self._listens = listens or address
        self._rules = rules
        self._folder = tempfile.TemporaryDirectory(prefix="vllm-operator-prometheus-")
        self._targets = Path(self._folder.name) / "targets.json"
        self._over = threading.Event()
        self._discovery = threading.Thread(target=self._discover, name="discovery", daemon=True)
        self._log = Path(self._folder.name) / "prometheus.log"
        self._process: subprocess.Popen[bytes] | None = None

    def _scrape_configs(self) -> list[dict[str, Any]]:
        """What it reads, of the targets in the file."""
        raise NotImplementedError

    def _found(self) -> list[dict[str, Any]]:
        """The targets that there are now."""
        raise NotImplementedError

    def _here(self, command: Sequence[str]) -> list[str]:
        """The command that runs a command where Prometheus runs."""
        return [*command]

    def __enter__(self) -> Self:
        self._look()
        self._configure()
        self._discovery.start()
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _configure(self) -> None:
        folder = Path(self._folder.name)
        configuration = {
            "global": {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY},
            "rule_files": [str(folder / "rules.yaml")],
            "scrape_configs": self._scrape_configs(),
        }
        (folder / "rules.yaml").write_text(yaml.safe_dump(dict(self._rules)), encoding="utf-8")
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")

    def _start(self) -> None:
        folder = Path(self._folder.name)
        command = [str(programs() / "prometheus"), f"--config.file={folder / 'prometheus.yaml'}"]
        command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={self._listens}"]
        quiet = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._here([*command, "--log.level=warn"]),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=quiet,
            )
        until(lambda: self._process_ended() or self.query("vector(1)"), seconds=240, what="Prometheus")
        assert not self._process_ended(), self.log()

    def _process_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _discover(self) -> None:
        """Write the targets anew, again and again. A look that fails leaves those from before."""
        while not self._over.wait(DISCOVERY_SECONDS):
            with contextlib.suppress(ClusterError, subprocess.TimeoutExpired):
                self._look()

    def _look(self) -> None:
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps(self._found()), encoding="utf-8")
        new.replace(self._targets)

    def _end(self) -> None:
        self._over.set()
        if self._discovery.ident is not None:
            self._discovery.join()
        self._stop()
        self._folder.cleanup()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Have nobody answer at its address during the block; what it has read stays."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    def change_rules(self, rules: Mapping[str, Any]) -> None:
        """Judge by other rules from now on."""
        self._rules = rules
        self._configure()
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        """What it printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def query(self, query: str) -> list[dict[str, Any]]:
        """The samples of a query now; none where it fails."""
        return self.queries([query])[0]

    def queries(self, queries: Sequence[str]) -> list[list[dict[str, Any]]]:
        """The samples of each query now."""
        answers = self._ask([f"/api/v1/query?query={quote(query)}" for query in queries])
        return [answer.get("data", {}).get("result", []) for answer in answers]

    def label_values(self, metric: str, label: str) -> list[str]:
        """The values of a label of a metric, as Grafana's variables ask for them."""
        (answer,) = self._ask([f"/api/v1/label/{label}/values?match[]={quote(metric)}"])
        values: list[str] = answer.get("data", [])
        return values

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that fire, each with its labels and annotations."""
        (answer,) = self._ask(["/api/v1/alerts"])
        return [alert for alert in answer.get("data", {}).get("alerts", []) if alert["state"] == "firing"]

    def _ask(self, paths: Sequence[str]) -> list[dict[str, Any]]:
        command = self._here([sys.executable, "-c", _ASK, f"http://{self.address}"])
        done = subprocess.run(
            command, input=json.dumps(list(paths)), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        return answers


class Prometheus(PrometheusProcess):
    """In the network of a cluster's node; it reads the pods that PodMonitors name."""

    def __init__(self, cluster: OwnCluster, monitors: Iterable[Mapping[str, Any]], rules: Mapping[str, Any]) -> None:
        # on all addresses of the cluster's network namespace, which nothing outside reaches: pods ask it, too
        super().__init__(ADDRESS, rules, listens=f":{_PORT}")
        self._cluster = cluster
        self._monitors = [*monitors]
        self.hidden_ports: frozenset[str] = frozenset()
        """Names of ports that it does not find, as where a selector or a NetworkPolicy keeps it from them."""

    def _scrape_configs(self) -> list[dict[str, Any]]:
        return [config for monitor in self._monitors for config in scrape_configs(monitor, self._targets)]

    def _found(self) -> list[dict[str, Any]]:
        pods = json.loads(self._cluster.kubectl("get", "pods", "--all-namespaces", "--output", "json"))["items"]
        name = "__meta_kubernetes_pod_container_port_name"
        return [one for one in discovered(pods) if one["labels"][name] not in self.hidden_ports]

    def _here(self, command: Sequence[str]) -> list[str]:
        return self._cluster.inside(command)


class LoopbackPrometheus(PrometheusProcess):
    """On loopback of this machine; it reads processes that tests have started."""

    def __init__(self, targets: Callable[[], list[dict[str, Any]]], rules: Mapping[str, Any]) -> None:
        """`targets` says what there is now, as Prometheus' files of targets have it."""
        super().__init__(f"127.0.0.1:{free_port()}", rules)
        self._found_now = targets

    def _scrape_configs(self) -> list[dict[str, Any]]:
        files = [{"files": [str(self._targets)], "refresh_interval": EVERY}]
        return [{"job_name": "processes", "honor_labels": True, "file_sd_configs": files}]

    def _found(self) -> list[dict[str, Any]]:
        return self._found_now()
