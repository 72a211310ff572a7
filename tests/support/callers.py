"""Pods from which tests call, since what a NetworkPolicy lets through depends on who asks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support import images

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.site import Site


def started(site: Site, **labels: Mapping[str, str]) -> None:
    """Start a pod under each name, with these labels, and wait until all run."""
    for name, own in labels.items():
        container = {"name": "caller", "image": images.CLIENT, "command": ["sleep", "600"]}
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
        site.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": own}, "spec": spec})
    site.kubectl("wait", "--for=condition=Ready", *(f"pod/{name}" for name in labels), "--timeout=60s")


def status(site: Site, pod: str, url: str, body: Mapping[str, Any] | None = None) -> int:
    """Of the answer that a pod gets to a GET, or to a POST of a body; 0 where nobody answers within 5 s."""
    data = None if body is None else json.dumps(body).encode()
    program = f"""
import urllib.error, urllib.request
asked = urllib.request.Request({url!r}, {data!r}, {{"Content-Type": "application/json"}})
try:
    print(urllib.request.urlopen(asked, timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError:
    print(0)
"""
    return int(site.kubectl("exec", pod, "--", "python3", "-c", program))
