"""A custom-metrics API on loopback: the API server hands requests on to it, and autoscalers read what a test sets."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import tempfile
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from tests.cluster.pki import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GROUP: Final = "custom.metrics.k8s.io"
VERSION: Final = "v1beta2"
ROOT: Final = f"/apis/{GROUP}/{VERSION}"
METRICS: Final = ("vllm_num_requests_waiting", "vllm_kv_cache_usage_perc", "vllm_num_requests_running")

_VALUES: Final = re.compile(rf"{ROOT}/namespaces/([^/]+)/pods/\*/([^/]+)")


class CustomMetrics:
    """What it answers: quantities by metric and pod. A pod that is not named has no metrics."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, str]] = {}
        self.port = 0

    def answer(self, path: str) -> dict[str, Any] | None:
        """The document at a path; None where there is none."""
        if path == ROOT:
            kind = {"namespaced": True, "singularName": "", "kind": "MetricValueList", "verbs": ["get"]}
            resources = [{"name": f"pods/{metric}", **kind} for metric in METRICS]
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": f"{GROUP}/{VERSION}",
                "resources": resources,
            }
        asked = _VALUES.fullmatch(unquote(path))
        if asked is None:
            return None
        namespace, metric = asked.groups()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        items = [
            {
                "describedObject": {"apiVersion": "/v1", "kind": "Pod", "namespace": namespace, "name": pod},
                "metric": {"name": metric, "selector": None},
                "timestamp": now,
                "value": value,
            }
            for pod, value in self.values.get(metric, {}).items()
        ]
        return {"kind": "MetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items}

    def objects(self) -> list[dict[str, Any]]:
        """What makes an API server hand requests for the group on to here."""
        name = {"name": "custom-metrics", "namespace": "kube-system"}
        return [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": name,
                "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": self.port}]},
            },
            api_service({**name, "port": self.port}),
        ]


def api_service(service: Mapping[str, Any]) -> dict[str, Any]:
    """What hands requests for custom metrics on to a Service, given by name, namespace and, if not 443, port."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{VERSION}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": dict(service),
        },
    }


@contextlib.contextmanager
def custom_metrics() -> Iterator[CustomMetrics]:
    """One on loopback, ended with the block."""
    served = CustomMetrics()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = served.answer(urlsplit(self.path).path)
            content = json.dumps(found or {"kind": "Status", "status": "Failure", "code": 404}).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nobody reads a log of it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = _tls().wrap_socket(server.socket, server_side=True)
    served.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _tls() -> ssl.SSLContext:
    pair = Authority().server("custom-metrics", hosts=["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # the ssl module reads files only
        pair.save(Path(folder), "server")
        context.load_cert_chain(f"{folder}/server.crt", f"{folder}/server.key")
    return context
